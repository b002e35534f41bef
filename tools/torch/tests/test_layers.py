"""Frozen, tied and unused layers, and calls that cannot be right."""

import unittest

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect import Collector
from example_models import inner_products, perceptron, weight_gradients
from sketch_case import Sketch, SketchCase


class Twice(nn.Module):
    """One layer called twice, and one that is never called."""

    def __init__(self):
        super().__init__()
        self.inner, self.head, self.spare = nn.Linear(6, 6), nn.Linear(6, 2), nn.Linear(6, 6)

    def forward(self, x):
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class Tied(nn.Module):
    """Two layers with one weight; biases of their own, or one of them none."""

    def __init__(self, second_bias=True):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5, bias=second_bias)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Sometimes(nn.Module):
    """A layer that some batches use, as with experts or layers that are dropped."""

    def __init__(self):
        super().__init__()
        self.always, self.sometimes = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, use):
        x = self.always(x)
        return self.sometimes(x) if use else x


def sum_of_squares(x):
    return lambda model: model(x).square().sum(1)


class Layers(SketchCase):
    def test_frozen_layers_are_left_out(self):
        model, x = perceptron(5, 6, 4, 3), torch.randn(4, 5)
        model[2].weight.requires_grad_(False)
        model[4].bias.requires_grad_(False)
        sketch, report = self.collect(model, [(4, sum_of_squares(x))])
        entries = [(entry["name"], entry["in"], entry["bias"]) for entry in sketch.schema["modules"]]
        self.assertEqual(entries, [("0", 6, True), ("4", 4, False)])
        self.assertTrue(any("2: left out, the weight is frozen" in remark for remark in report.remarks), report)
        single = [weight_gradients([model[0], model[4]], model(x[row : row + 1]).square().sum()) for row in range(4)]
        self.assert_close(sketch.inner_products(), inner_products(single))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        with self.assertRaisesRegex(ValueError, "no trainable layer"):
            self.collect(model, [])

    def test_layers_are_chosen_by_name(self):
        model, x = perceptron(5, 6, 4, 3), torch.randn(4, 5)
        sketch, report = self.collect(model, [(4, sum_of_squares(x))], layers=["2"])
        self.assertEqual([entry["name"] for entry in sketch.schema["modules"]], ["2"])
        self.assertTrue(any(remark.startswith("not collected: 51 of 79") for remark in report.remarks), report)
        with self.assertRaisesRegex(ValueError, "no layer that can be collected is named 'two'; there are: 0, 2, 4"):
            self.collect(model, [], layers=["two"])

    def test_a_model_that_is_a_layer_has_a_name(self):
        sketch, _ = self.collect(nn.Linear(3, 2), [(2, sum_of_squares(torch.randn(2, 3)))])
        self.assertEqual(sketch.schema["modules"][0]["name"], "linear")

    def test_a_layer_used_twice_is_summed_and_an_unused_one_is_zero(self):
        model, x = Twice(), torch.randn(7, 6)
        sketch, report = self.collect(model, [(3, sum_of_squares(x[:3])), (4, sum_of_squares(x[3:]))])
        layers = [model.inner, model.head, model.spare]
        single = [weight_gradients(layers, model(x[row : row + 1]).square().sum()) for row in range(7)]
        self.assert_close(sketch.inner_products(), inner_products(single))
        self.assertEqual([layer.rank for layer in report.layers], [2, 1, 1])
        self.assertEqual(np.abs(sketch.tensors["m0.spare.u"]).max(), 0)
        self.assertEqual(sketch.tensors["m0.spare.u"].shape, (7, 1, 6))
        self.assertEqual([layer.used for layer in report.layers], [True, True, False])
        self.assertTrue(any("spare: never used" in remark for remark in report.remarks), report)

    def test_a_lower_rank_of_a_layer_used_twice_is_refused(self):
        with self.assertRaisesRegex(ValueError, "inner was used 2 times, but has rank 1"):
            self.collect(Twice(), [(3, sum_of_squares(torch.randn(3, 6)))], rank={"inner": 1})

    def test_layers_that_share_a_weight_are_one(self):
        for second_bias in (True, False):
            for settings in ({}, {"encoding": "dense"}):
                model, x = Tied(second_bias), torch.randn(5, 5)
                sketch, report = self.collect(model, [(5, sum_of_squares(x))], **settings)
                single = []
                for row in range(5):
                    parameters = list(model.parameters())
                    gradients = torch.autograd.grad(model(x[row : row + 1]).square().sum(), parameters)
                    single.append([gradient.double() for gradient in gradients])
                self.assert_close(sketch.inner_products(), inner_products(single))
                self.assertEqual([entry["name"] for entry in sketch.schema["modules"]], ["first"])
                self.assertEqual(sketch.schema["modules"][0]["in"], 7 if second_bias else 6)
                self.assertTrue(any("first, second: one weight" in remark for remark in report.remarks), report)

    def test_a_layer_that_only_some_batches_use_has_zeros_elsewhere(self):
        model, x = Sometimes(), torch.randn(9, 4)
        batches = [
            (3, lambda model, batch=x[start : start + 3], use=use: model(batch, use).square().sum(1))
            for start, use in ((0, False), (3, True), (6, False))
        ]
        sketch, _ = self.collect(model, batches)
        norms = np.linalg.norm(sketch.gradient("sometimes").reshape(9, -1), axis=1)
        np.testing.assert_array_equal(norms > 0, [False] * 3 + [True] * 3 + [False] * 3)
        single = [
            weight_gradients([model.always, model.sometimes], model(x[row : row + 1], 3 <= row < 6).square().sum())
            for row in range(9)
        ]
        self.assert_close(sketch.inner_products(), inner_products(single))


class Mistakes(SketchCase):
    def test_rows_that_are_not_the_first_dimension_are_refused(self):
        model, x = nn.Linear(4, 2), torch.randn(6, 4)
        with self.assertRaisesRegex(ValueError, r"linear was given an input of shape \[6, 4\] for 3 rows"):
            self.collect(model, [(3, lambda model: model(x).sum())])

    def test_an_input_changed_after_its_use_is_refused(self):
        model = nn.Linear(4, 4)

        def loss(model):
            x = torch.ones(2, 4)
            y = model(x)
            x.add_(1)
            return y.sum()

        with self.assertRaisesRegex(ValueError, "the input of linear was changed in place"):
            self.collect(model, [(2, loss)])

    def test_a_loss_without_gradient_is_refused(self):
        with self.assertRaisesRegex(ValueError, "does not depend on any collected layer"):
            self.collect(nn.Linear(4, 4), [(2, lambda model: model(torch.ones(2, 4)).sum().detach())])

    def test_values_that_are_not_finite_are_named(self):
        model, x = perceptron(4, 3, 2), torch.randn(6, 4)
        scale = torch.ones(6)
        scale[4] = torch.inf
        batches = [(3, sum_of_squares(x[:3])), (3, lambda model: model(x[3:]).sum(1) * scale[3:])]
        with self.assertRaisesRegex(ValueError, "0: the gradient of row 4 is not finite"):
            self.collect(model, batches)
        x[5, 1] = torch.nan
        with self.assertRaisesRegex(ValueError, "0: the (gradient|input) of row 5 is not finite"):
            self.collect(model, [(3, sum_of_squares(x[:3])), (3, sum_of_squares(x[3:]))])
        self.assertEqual(list(self.folder.iterdir()), [], "a run that failed left files")

    def test_a_sequence_in_some_batches_only_is_refused(self):
        model = nn.Linear(4, 2)
        loss = lambda x: lambda model: model(x).square().sum()  # noqa: E731
        with self.assertRaisesRegex(ValueError, "linear had a sequence in some batches and none in others"):
            self.collect(model, [(2, loss(torch.randn(2, 4))), (2, loss(torch.randn(2, 3, 4)))])

    def test_wrong_numbers_of_keys_and_rows_are_refused(self):
        model, x = nn.Linear(4, 2), torch.randn(3, 4)
        path = self.folder / "sketch.safetensors"
        with Collector(model, path) as collector:
            with self.assertRaisesRegex(ValueError, "call member"):
                collector.add(3, sum_of_squares(x))
            with self.assertRaisesRegex(ValueError, "nothing was collected"):
                collector.finish([])
            collector.member(run=0, epoch=1)
            collector.add(3, sum_of_squares(x))
            for keys, text in (
                (["a", "b"], "2 keys for 3 rows"),
                (["a", "b", "a"], "row 2 repeats the key 'a'"),
                (["a", "", "c"], "the key of row 1 is ''"),
            ):
                with self.assertRaisesRegex(ValueError, text):
                    collector.finish(keys)
            with self.assertRaisesRegex(ValueError, "metadata of 1 rows for 3 keys"):
                collector.finish(["a", "b", "c"], [{}])
            collector.member(run=0, epoch=2)
            collector.add(2, sum_of_squares(x[:2]))
            with self.assertRaisesRegex(ValueError, "member 1 has 2 rows, the first member 3"):
                collector.finish(["a", "b", "c"])
            with self.assertRaisesRegex(ValueError, "member 1 has more rows than the first member"):
                collector.add(2, sum_of_squares(x[:2]))
            collector.add(1, sum_of_squares(x[2:]))
            collector.finish(["a", "b", "c"])
            with self.assertRaisesRegex(ValueError, "closed"):
                collector.add(3, sum_of_squares(x))
        self.assertEqual(len(Sketch(path).tensors["m1.linear.u"]), 3)

    def test_settings_that_do_not_exist_are_refused(self):
        for settings, text in (
            ({"encoding": "sparse"}, "encoding is 'sparse'"),
            ({"dtype": "F64"}, "dtype is 'F64'"),
            ({"measurement": "accuracy"}, "measurement is 'accuracy'"),
            ({"labels": "guessed"}, "labels is 'guessed'"),
            ({"rank": 0}, "rank 0 of linear"),
            ({"rank": {"nothing": 2}}, "'nothing' is not a collected layer"),
            ({"shared_input": ["nothing"]}, "'nothing' is not a collected layer"),
            ({"jacobian": ["linear"], "encoding": "dense"}, "go with encoding"),
        ):
            with self.subTest(settings=settings), self.assertRaisesRegex(ValueError, text):
                Collector(nn.Linear(3, 3), self.folder / "sketch.safetensors", **settings)

    def test_another_model_for_a_member_has_to_have_the_same_layers(self):
        with Collector(perceptron(4, 3, 2), self.folder / "sketch.safetensors") as collector:
            collector.member(run=0, epoch=1)
            collector.add(2, sum_of_squares(torch.randn(2, 4)))
            with self.assertRaisesRegex(ValueError, "this model's layers differ"):
                collector.member(perceptron(4, 5, 2), run=1, epoch=1)


class Functional(SketchCase):
    def test_no_layer_in_the_forward_pass_gives_zeros(self):
        model = nn.Linear(4, 2)
        sketch, report = self.collect(model, [(2, lambda model: F.linear(torch.ones(2, 4), model.weight).sum(1))])
        self.assertEqual(np.abs(sketch.gradient("linear")).max(), 0)
        self.assertIn("linear: never used, its gradients are zero", report.remarks)


if __name__ == "__main__":
    unittest.main()
