"""Classifiers: own, margin, sampled labels, jacobians, and rows that are fitted to ten digits."""

import unittest

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect.kinds import kind_of
from example_models import Transformer, inner_products, perceptron, weight_gradients
from sketch_case import SketchCase


def double_gradients(model, layers, x, y, measure):
    """Gradients of each row's measure(logits, label), everything in double precision."""
    model.double()
    rows = [
        weight_gradients(layers, measure(model(x[row : row + 1].double()), y[row : row + 1])) for row in range(len(x))
    ]
    model.float()
    return rows


def negated_margin(logits, label):
    probability = torch.softmax(logits, dim=1)[0]
    return (1 - probability[label]).log().sum() - probability[label].log().sum()


class Classifier(SketchCase):
    def setUp(self):
        super().setUp()
        self.model = perceptron(6, 8, 4)
        self.layers = [self.model[0], self.model[2]]
        self.x, self.y = torch.randn(9, 6), torch.randint(4, (9,))

    def batches(self, cuts=(0, 4, 9)):
        for start, end in zip(cuts, cuts[1:]):
            yield self.y[start:end], lambda model, batch=self.x[start:end]: model(batch)

    def test_loss_gradients_are_those_of_cross_entropy(self):
        sketch, _ = self.collect(self.model, self.batches())
        expected = double_gradients(self.model, self.layers, self.x, self.y, F.cross_entropy)
        self.assert_close(sketch.inner_products(), inner_products(expected))
        self.assert_close(sketch.gradient("0"), torch.stack([row[0] for row in expected]).numpy())
        own = 1 - torch.softmax(self.model(self.x), dim=1)[range(9), self.y]
        self.assert_close(sketch.tensors["m0.own"], own.detach().numpy())
        self.assertEqual((sketch.schema["loss"], sketch.schema["labels"]), ("cross-entropy, summed", "true"))

    def test_margin_gradients_are_negated(self):
        sketch, _ = self.collect(self.model, self.batches(), measurement="margin")
        expected = double_gradients(self.model, self.layers, self.x, self.y, negated_margin)
        self.assert_close(sketch.gradient("0"), torch.stack([row[0] for row in expected]).numpy())
        self.assertEqual(sketch.schema["loss"], "margin, negated")

    def test_a_row_scores_itself_positively_under_both_measurements(self):
        rows, _ = self.collect(self.model, self.batches(), "rows.safetensors")
        queries, _ = self.collect(self.model, self.batches(), "queries.safetensors", measurement="margin")
        scores = sum(np.einsum("qoi,xoi->qx", queries.gradient(name), rows.gradient(name)) for name in ("0", "2"))
        self.assertTrue((np.diag(scores) > 0).all())

    def test_rows_fitted_to_ten_digits_keep_their_gradient(self):
        model, x = self.model, self.x
        with torch.no_grad():
            model[2].weight.mul_(0.1)
            # Labels win by 23 to 60: own runs from 1e-10 to 1e-26, and 1 - p is 0 in single precision.
            model[2].bias.copy_(torch.tensor([0.0, 1.0, 0.5, 23.5]))
        y = torch.full((9,), 3)
        for lift in (0.0, 36.5):
            with torch.no_grad():
                model[2].bias[3] += lift
            logits = model(x)
            self.assertEqual(float((1 - torch.softmax(logits, dim=1)[:, 3]).abs().max()), 0)
            plain = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), logits)[0][:, 3]
            self.assertEqual(float(plain.abs().max()), 0, "autograd kept the gradient: this test has no point any more")
            sketch, _ = self.collect(model, [(y, lambda model: model(x))])
            z = logits.detach().double().numpy()
            others = np.exp(z[:, :3] - z[:, 3:])
            own = others.sum(1) / (1 + others.sum(1))
            relative = np.abs(sketch.tensors["m0.own"] / own - 1).max()
            self.assertLess(relative, 1e-6)
            # The head's gradient: p of the others, and for the label minus their sum.
            p = np.concatenate([others / (1 + others.sum(1, keepdims=True)), -own[:, None]], axis=1)
            hidden = torch.relu(model[0](x)).detach().double().numpy()
            expected = p[:, :, None] * np.concatenate([hidden, np.ones((9, 1))], axis=1)[:, None, :]
            found = sketch.gradient("2")
            for row in range(9):
                self.assert_close(found[row], expected[row])
            u = sketch.tensors["m0.2.u"][:, 0].astype(np.float64)
            self.assertLess(np.abs(u.sum(1) / own).max(), 1e-6, "a row's logit gradients do not sum to 0")

    def test_sampled_labels_do_not_depend_on_batches(self):
        settings = {"labels": "sampled", "seed": 3}
        first, _ = self.collect(self.model, self.batches((0, 4, 9)), **settings)
        second, _ = self.collect(self.model, self.batches((0, 1, 7, 9)), **settings)
        other, _ = self.collect(self.model, self.batches(), labels="sampled", seed=4)
        self.assert_close(first.gradient("0"), second.gradient("0"))
        self.assertGreater(np.abs(first.gradient("0") - other.gradient("0")).max(), 1e-3)
        self.assertEqual(first.schema["labels"], "sampled")
        # It would be that of a label that the row does not have.
        self.assertNotIn("m0.own", first.tensors)

    def test_sampled_labels_follow_the_model(self):
        model = nn.Linear(1, 3)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.copy_(torch.log(torch.tensor([0.7, 0.2, 0.1])))
        rows = 4000
        y = torch.zeros(rows, dtype=torch.int64)
        sketch, _ = self.collect(model, [(y, lambda model: model(torch.ones(rows, 1)))], labels="sampled")
        drawn = sketch.tensors["m0.linear.u"][:, 0].argmin(axis=1)
        shares = np.bincount(drawn, minlength=3) / rows
        self.assertLess(np.abs(shares - [0.7, 0.2, 0.1]).max(), 4 * (0.21 / rows) ** 0.5, shares)

    def test_jacobians_are_those_of_the_logits(self):
        sketch, _ = self.collect(self.model, self.batches(), jacobian=True)
        for name in ("0", "2"):
            self.assertEqual(sketch.tensors[f"m0.{name}.jacobian"].dtype, np.float32)
        np.testing.assert_array_equal(sketch.tensors["m0.2.jacobian"], np.broadcast_to(np.eye(4), (9, 4, 4)))
        before = self.model[0](self.x).detach()
        expected = self.model[2].weight.detach()[None] * (before > 0)[:, None, :]
        self.assert_close(sketch.tensors["m0.0.jacobian"], expected)

    def test_a_jacobian_of_a_sequence_is_left_out_or_refused(self):
        model, tokens = Transformer(), torch.randint(1, 20, (3, 4))
        batches = [(self.y[:3] % 3, lambda model: model(tokens))]
        sketch, report = self.collect(model, batches, jacobian=True)
        self.assertEqual([name for name in sketch.tensors if "jacobian" in name], ["m0.head.jacobian"])
        self.assertTrue(any("blocks.0.up: no jacobian" in remark for remark in report.remarks), report)
        with self.assertRaisesRegex(ValueError, "blocks.0.up: a jacobian is for layers with one output a row"):
            self.collect(model, batches, jacobian=["blocks.0.up"])

    def test_sequence_classifiers_have_own_and_exact_gradients(self):
        model, tokens, y = Transformer(), torch.randint(1, 20, (5, 4)), torch.randint(3, (5,))
        layers = [module for module in model.modules() if kind_of(module)]
        sketch, _ = self.collect(model, [(y, lambda model: model(tokens))], rank=4)
        single = [
            weight_gradients(layers, F.cross_entropy(model(tokens[row : row + 1]), y[row : row + 1]))
            for row in range(5)
        ]
        self.assert_close(sketch.inner_products(), inner_products(single))
        self.assertEqual(sketch.tensors["m0.own"].shape, (5,))

    def test_wrong_labels_and_logits_are_refused(self):
        forward = lambda model: model(self.x)  # noqa: E731
        for labels, function, text in (
            (self.y + 4, forward, "row 0 of the batch has the label"),
            (self.y.float(), forward, "labels are torch.float32"),
            (self.y[:, None], forward, r"labels of shape \[9, 1\] for 9 rows"),
            (self.y, lambda model: model(self.x)[:, :1], r"logits of shape \[9, 1\] for 9 rows"),
            (self.y, lambda model: model(self.x).sum(1), r"logits of shape \[9\]"),
            (self.y, lambda model: model(self.x) / 0, "the logits of row 0 are not finite"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, text):
                self.collect(self.model, [(labels, function)])

    def test_own_for_some_batches_only_is_refused(self):
        plain = (4, lambda model: F.cross_entropy(model(self.x[:4]), self.y[:4], reduction="none"))
        classified = (self.y[4:], lambda model: model(self.x[4:]))
        for batches in ([plain, classified], [classified, plain]):
            with self.assertRaisesRegex(ValueError, "some batches of this member have `own`"):
                self.collect(self.model, batches)
        with self.assertRaisesRegex(ValueError, "use add_classified"):
            self.collect(self.model, [plain], measurement="margin")


if __name__ == "__main__":
    unittest.main()
