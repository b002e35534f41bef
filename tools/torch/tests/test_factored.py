"""Factored sketches hold what plain backward passes give, one example at a time."""

import unittest

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect.factorise import factorise
from ascribe_collect.kinds import kind_of
from example_models import Transformer, inner_products, perceptron, sum_of_cross_entropy, weight_gradients
from sketch_case import SketchCase


class WithoutSequence(SketchCase):
    def test_inner_products_are_those_of_single_backward_passes(self):
        for bias in (True, False):
            with self.subTest(bias=bias):
                model = perceptron(7, 9, 6, 4, bias=bias)
                x, y = torch.randn(11, 7), torch.randint(4, (11,))
                batches = [
                    (5, sum_of_cross_entropy(y[:5], lambda model: model(x[:5]))),
                    (6, sum_of_cross_entropy(y[5:], lambda model: model(x[5:]))),
                ]
                sketch, report = self.collect(model, batches)
                layers = [model[0], model[2], model[4]]
                single = [
                    weight_gradients(layers, F.cross_entropy(model(x[row : row + 1]), y[row : row + 1]))
                    for row in range(11)
                ]
                self.assert_close(sketch.inner_products(), inner_products(single))
                self.assertEqual([layer.rank for layer in report.layers], [1, 1, 1])
                self.assert_close(sketch.gradient("2"), torch.stack([row[1] for row in single]).numpy())

    def test_a_sum_and_values_a_row_are_the_same(self):
        model, x = perceptron(5, 3), torch.randn(4, 5)
        rows, _ = self.collect(model, [(4, lambda model: model(x).square().sum(1))], "rows.safetensors")
        total, _ = self.collect(model, [(4, lambda model: model(x).square().sum())], "total.safetensors")
        np.testing.assert_array_equal(rows.tensors["m0.0.u"], total.tensors["m0.0.u"])
        with self.assertRaisesRegex(ValueError, "one value a row"):
            self.collect(model, [(4, lambda model: model(x).square())])

    def test_dropout_and_batch_statistics_are_off(self):
        model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))
        x = torch.randn(4, 5)
        halves = [(2, lambda model, half=half: model(half).square().sum(1)) for half in x.split(2)]
        together, _ = self.collect(model, [(4, lambda model: model(x).square().sum(1))], "together.safetensors")
        apart, _ = self.collect(model, halves, "apart.safetensors")
        for name in ("0", "3"):
            self.assert_close(together.gradient(name), apart.gradient(name))

    def test_parameters_get_no_gradient_and_the_model_stays_as_it_was(self):
        model, x = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5), nn.Linear(5, 2)), torch.randn(4, 5)
        before = model(torch.zeros(1, 5)).shape
        self.collect(model, [(4, lambda model: model(x).sum(1))])
        self.assertTrue(all(parameter.grad is None for parameter in model.parameters()))
        self.assertTrue(model.training and model[1].training)
        self.assertEqual(model(torch.zeros(1, 5)).shape, before)
        self.assertEqual(sum(len(module._forward_hooks) for module in model.modules()), 0)
        self.assertEqual(
            [path.name for path in sorted(self.folder.iterdir())], ["sketch.keys.jsonl", "sketch.safetensors"]
        )


class Sequences(SketchCase):
    def setUp(self):
        super().setUp()
        self.model = Transformer()
        self.layers = {name: module for name, module in self.model.named_modules() if kind_of(module)}
        self.tokens = torch.randint(1, 20, (6, 5))
        for row, length in enumerate((5, 3, 4, 1, 2, 5)):
            self.tokens[row, length:] = 0
        self.labels = torch.randint(3, (6,))

    def single(self):
        """Gradients of each row alone, without its padding."""
        rows = []
        for tokens, label in zip(self.tokens, self.labels):
            logits = self.model(tokens[tokens != 0][None])
            rows.append(weight_gradients(list(self.layers.values()), F.cross_entropy(logits, label[None])))
        return rows

    def sketch(self, tokens, name, **settings):
        batches = [(len(tokens), sum_of_cross_entropy(self.labels, lambda model: model(tokens)))]
        return self.collect(self.model, batches, name, **settings)

    def test_rank_from_the_number_of_tokens_on_is_exact(self):
        for rank in (5, 7):
            sketch, report = self.sketch(self.tokens, f"{rank}.safetensors", rank=rank)
            self.assert_close(sketch.inner_products(), inner_products(self.single()))
            ranks = {layer.name: layer.rank for layer in report.layers}
            self.assertEqual((ranks["blocks.0.up"], ranks["head"]), (rank, 1))
            self.assertTrue(all(layer.lost_share < 1e-12 for layer in report.layers))

    def test_padding_changes_nothing(self):
        more = torch.cat([self.tokens, torch.zeros(6, 4, dtype=torch.int64)], dim=1)
        for settings in ({"rank": 2}, {"encoding": "dense"}):
            short, _ = self.sketch(self.tokens, "short.safetensors", **settings)
            long, _ = self.sketch(more, "long.safetensors", **settings)
            self.assertEqual(short.schema, long.schema)
            for module in short.schema["modules"]:
                self.assert_close(long.gradient(module["name"]), short.gradient(module["name"]))

    def test_a_lower_rank_keeps_the_top_singular_pairs(self):
        sketch, report = self.sketch(self.tokens, "sketch.safetensors", rank=2)
        single = self.single()
        shares = {layer.name: layer.lost_share for layer in report.layers}
        for index, name in enumerate(self.layers):
            full = torch.stack([row[index] for row in single])
            u, s, v = torch.linalg.svd(full, full_matrices=False)
            best = torch.einsum("nor,nr,nri->noi", u[:, :, :2], s[:, :2], v[:, :2])
            self.assert_close(sketch.gradient(name), best.numpy(), 2e-5)
            lost = (s[:, 2:].square().sum(1) / s.square().sum(1).clamp_min(1e-300)).mean()
            self.assertAlmostEqual(shares[name], float(lost), places=6)
        self.assertGreater(shares["blocks.0.up"], 1e-4, "nothing was left out: the test would compare nothing")

    def test_dense_without_projection_is_the_gradient(self):
        sketch, _ = self.sketch(self.tokens, "sketch.safetensors", encoding="dense", rank={"embedding": 5})
        self.assert_close(sketch.inner_products(), inner_products(self.single()))

    def test_a_mapping_sets_the_rank_of_its_layers_only(self):
        _, report = self.sketch(self.tokens, "sketch.safetensors", rank={"blocks.1.down": 3})
        ranks = {layer.name: layer.rank for layer in report.layers}
        self.assertEqual((ranks["blocks.1.down"], ranks["blocks.0.down"]), (3, 1))


class Factorise(SketchCase):
    def test_every_shape_gives_the_matrix_back(self):
        for tokens, out, width in ((1, 4, 5), (3, 4, 5), (4, 4, 9), (6, 4, 9), (12, 4, 9), (12, 9, 4), (2, 1, 1)):
            left, right = torch.randn(3, tokens, out), torch.randn(3, tokens, width)
            left[1] = 0
            rank = min(tokens, out, width)
            u, v, lost = factorise(left, right, rank + 1)
            self.assertEqual((u.shape, v.shape), ((3, rank + 1, out), (3, rank + 1, width)))
            expected = torch.einsum("nto,nti->noi", left.double(), right.double())
            self.assert_close(torch.einsum("nro,nri->noi", u, v), expected, 1e-12)
            self.assertEqual(float(lost.abs().max()), 0)

    def test_the_matrix_is_not_formed_where_it_is_larger(self):
        # 40,000 x 30,000 values would be 9.6 GB.
        u, v, _ = factorise(torch.randn(1, 3, 40_000), torch.randn(1, 3, 30_000), 3)
        self.assertEqual((u.shape, v.shape), ((1, 3, 40_000), (1, 3, 30_000)))


if __name__ == "__main__":
    unittest.main()
