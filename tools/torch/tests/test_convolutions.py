"""Convolutions, and linear layers whose weight is kept transposed."""

import unittest

import torch
from torch import nn

from ascribe_collect import Collector, Projection
from ascribe_collect.kinds import kind_of
from ascribe_collect.projection import rademacher
from example_models import inner_products, weight_gradients
from sketch_case import SketchCase


class Conv1D(nn.Module):
    """As in Hugging Face's GPT-2: weight [in, out]."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


class Pictures(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.first = nn.Conv2d(4, 6, **settings)
        self.second = nn.Conv2d(6, 4, 2, stride=2, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))).mean((2, 3)))


SETTINGS = (
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    {"kernel_size": (2, 3), "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "valid", "bias": False},
    {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"},
    {"kernel_size": 2, "padding": "same", "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": 2, "groups": 2, "bias": False, "padding_mode": "replicate", "stride": 2},
)


def loss_of(x):
    return lambda model: model(x).square().sum(1)


class Convolutions(SketchCase):
    def single(self, model, x):
        layers = [module for module in model.modules() if kind_of(module)]
        return [weight_gradients(layers, model(x[row : row + 1]).square().sum()) for row in range(len(x))]

    def test_gradients_are_those_of_single_backward_passes(self):
        x = torch.randn(5, 4, 9, 8)
        for settings in SETTINGS:
            with self.subTest(settings=settings):
                model = Pictures(**settings)
                expected = self.single(model, x)
                for number, encoding in enumerate(({"encoding": "dense"}, {"rank": 6})):
                    sketch, _ = self.collect(model, [(2, loss_of(x[:2])), (3, loss_of(x[2:]))], **encoding)
                    self.assert_close(sketch.inner_products(), inner_products(expected))
                    for layer, name in enumerate(("first", "second", "head")):
                        full = torch.stack([row[layer] for row in expected]).numpy()
                        self.assert_close(sketch.gradient(name), full)

    def test_a_depthwise_convolution_is_one_layer(self):
        model = nn.Sequential(nn.Conv2d(6, 12, 3, groups=6), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        x = torch.randn(4, 6, 5, 5)
        sketch, report = self.collect(model, [(4, loss_of(x))], rank=10)
        self.assertEqual((report.layers[0].rank, sketch.schema["modules"][0]["in"]), (10, 10))
        self.assert_close(sketch.inner_products(), inner_products(self.single(model, x)))

    def test_projected_convolutions_are_the_projected_gradients(self):
        x = torch.randn(4, 4, 7, 7)
        for groups in (1, 2):
            model = Pictures(kernel_size=3, groups=groups)
            full, _ = self.collect(model, [(4, loss_of(x))], encoding="dense")
            for settings in ({"encoding": "dense"}, {"rank": 6}):
                sketch, _ = self.collect(model, [(4, loss_of(x))], projection=Projection(5, 3, 7), **settings)
                entry = sketch.schema["modules"][0]
                left = rademacher(5, "first", "out", 3, entry["out"])
                right = rademacher(5, "first", "in", 7, entry["in"])
                self.assert_close(sketch.gradient("first"), left @ full.gradient("first") @ right.T)

    def test_a_lower_rank_says_what_it_leaves_out(self):
        model, x = Pictures(kernel_size=3), torch.randn(4, 4, 9, 9)
        sketch, report = self.collect(model, [(4, loss_of(x))])
        full = torch.stack([row[0] for row in self.single(model, x)])
        values = torch.linalg.svdvals(full)
        lost = (values[:, 1:].square().sum(1) / values.square().sum(1)).mean()
        self.assertAlmostEqual(report.layers[0].lost_share, float(lost), places=5)
        self.assertEqual(sketch.tensors["m0.first.u"].shape, (4, 1, 6))

    def test_a_convolution_used_twice_is_summed(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Conv2d(3, 3, 3, padding=1)

            def forward(self, x):
                return self.inner(torch.tanh(self.inner(x))).mean((2, 3))

        model, x = Twice(), torch.randn(4, 3, 5, 5)
        sketch, _ = self.collect(model, [(4, loss_of(x))], encoding="dense")
        self.assert_close(sketch.inner_products(), inner_products(self.single(model, x)))

    def test_pictures_without_rows_are_refused(self):
        model, x = nn.Conv2d(3, 3, 3), torch.randn(3, 5, 5)
        with self.assertRaisesRegex(ValueError, r"linear was given an input of shape \[3, 5, 5\] for 3 rows"):
            self.collect(model, [(3, lambda model: model(x).sum((1, 2)))])
        pictures = torch.randn(2, 3, 5, 5)
        batches = [(2, lambda model: model(pictures).sum((1, 2, 3)))]
        with self.assertRaisesRegex(ValueError, "linear has a sequence: a shared input"):
            self.collect(model, batches, shared_input=["linear"])


class Transposed(SketchCase):
    def test_a_transposed_weight_is_written_like_a_linear_one(self):
        first, second = Conv1D(5, 4), Conv1D(3, 5)
        model, x = nn.Sequential(first, nn.Tanh(), second), torch.randn(6, 4)
        plain = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        with torch.no_grad():
            for mine, theirs in ((plain[0], first), (plain[2], second)):
                mine.weight.copy_(theirs.weight.T)
                mine.bias.copy_(theirs.bias)
        for shape in ((6, 4), (6, 3, 4)):
            x = torch.randn(*shape)
            loss = lambda model: model(x).square().flatten(1).sum(1)  # noqa: E731
            sketch, _ = self.collect(model, [(6, loss)], rank=3)
            expected, _ = self.collect(plain, [(6, loss)], "plain.safetensors", rank=3)
            self.assertEqual(sketch.schema, expected.schema)
            self.assert_close(sketch.inner_products(), expected.inner_products())
            for name in ("0", "2"):
                self.assert_close(sketch.gradient(name), expected.gradient(name))

    def test_what_only_has_the_name_is_no_layer(self):
        fake = Conv1D(5, 4)
        fake.nf = 4
        self.assertIsNone(kind_of(fake))

    def test_a_weight_shared_by_different_kinds_is_left_out(self):
        model = nn.ModuleDict({"linear": nn.Linear(4, 4), "turned": Conv1D(4, 4), "head": nn.Linear(4, 2)})
        model["turned"].weight = model["linear"].weight
        with Collector(model, self.folder / "sketch.safetensors") as collector:
            self.assertEqual([layer.name for layer in collector._layers], ["head"])
            self.assertTrue(any("layers of different kinds" in text for text in collector._remarks))


if __name__ == "__main__":
    unittest.main()
