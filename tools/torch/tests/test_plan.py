"""Encodings chosen for a number of bytes a row, and what is said of their accuracy."""

import unittest

import numpy as np
import torch
from torch import nn

from ascribe_collect import Collector, plan_encodings
from ascribe_collect.plan import WIDTHS
from example_models import LanguageModel, Transformer, perceptron
from sketch_case import SketchCase


class Plans(SketchCase):
    def setUp(self):
        super().setUp()
        self.model = Transformer(width=16)
        self.tokens, self.labels = torch.randint(1, 20, (12, 6)), torch.randint(3, (12,))

    def add(self, rows):
        for start in (0, 6):
            part = slice(start, start + 6)
            rows.add_classified(self.labels[part], lambda model: model(self.tokens[part]))

    def written(self, name="sketch.safetensors", **settings):
        with Collector(self.model, self.folder / name, **settings) as collector:
            collector.member(run=0, epoch=1)
            self.add(collector)
            collector.finish(map(str, range(12)))
        return self.read(name)

    def bytes_a_row(self, sketch):
        sizes = {np.dtype(np.float32): 4, np.dtype(np.int64): 8}
        tensors = [values for name, values in sketch.tensors.items() if not name.endswith("own")]
        return sum(sizes[values.dtype] * values[0].size for values in tensors)

    def test_files_have_the_bytes_and_the_accuracy_that_the_plan_says(self):
        exact = self.written("exact.safetensors", rank=16).inner_products()
        of_batches = [np.triu_indices(6, 1), tuple(index + 6 for index in np.triu_indices(6, 1))]
        errors = []
        for budget in (1500, 4000, 12_000):
            plan = plan_encodings(self.model, self.add, bytes_a_row=budget)
            sketch = self.written(f"{budget}.safetensors", **plan.settings)
            self.assertLessEqual(plan.bytes_a_row, budget)
            self.assertEqual(self.bytes_a_row(sketch), plan.bytes_a_row)
            found = sketch.inner_products()
            pairs = [(exact[at], found[at]) for at in of_batches]
            wanted, got = (np.concatenate(values) for values in zip(*pairs))
            error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
            self.assertAlmostEqual(plan.agreement.relative_error, error, places=5)
            self.assertAlmostEqual(plan.agreement.correlation, np.corrcoef(wanted, got)[0, 1], places=5)
            said = f"{plan.bytes_a_row} of {budget} bytes a row and member; inner products of 30 pairs"
            self.assertIn(said, str(plan))
            self.assertIn("embedding: sparse rank", str(plan))
            errors.append(error)
        self.assertGreater(errors[0], errors[1])
        self.assertGreater(errors[1], errors[2])
        self.assertGreater(errors[0], 1e-2, "nothing was lost: the test would compare nothing")

    def test_enough_bytes_are_exact(self):
        plan = plan_encodings(self.model, self.add, bytes_a_row=1_000_000)
        self.assertLess(plan.agreement.relative_error, 1e-5)
        self.assertGreater(plan.agreement.correlation, 1 - 1e-6)
        # More than the exact rank would cost bytes for nothing: 6 tokens.
        self.assertTrue(all((layer.choice.rank or 0) <= 8 for layer in plan.layers))
        self.assertTrue(all(layer.choice.width is None for layer in plan.layers))

    def test_layers_without_a_sequence_keep_one_pair_or_are_projected(self):
        model, x = perceptron(200, 100, 3), torch.randn(8, 200)
        sample = lambda rows: rows.add(8, lambda model: model(x).square().sum(1))  # noqa: E731
        plan = plan_encodings(model, sample, bytes_a_row=2000)
        self.assertEqual([str(layer.choice) for layer in plan.layers], ["factored rank 1", "factored rank 1"])
        self.assertLess(plan.agreement.relative_error, 1e-6)
        plan = plan_encodings(model, sample, bytes_a_row=1000)
        self.assertIn(plan.layers[0].choice.width, WIDTHS)
        with Collector(model, self.folder / "sketch.safetensors", **plan.settings) as collector:
            collector.member(run=0, epoch=1)
            sample(collector)
            collector.finish(map(str, range(8)))
        self.assertEqual(self.bytes_a_row(self.read()), plan.bytes_a_row)

    def test_language_models_can_be_planned(self):
        model, tokens = LanguageModel(), torch.randint(1, 13, (4, 6))
        plan = plan_encodings(
            model, lambda rows: rows.add_tokens(tokens, lambda model: model(tokens)), bytes_a_row=6000, dtype="BF16"
        )
        self.assertEqual(plan.settings["dtype"], "BF16")
        # The vocabulary's side, here the output of a table that is the last layer too, is not projected.
        for layer in plan.layers:
            if layer.name == "words" and layer.choice.width:
                self.assertIsNone(plan.settings["projection"]["words"].out)
        with Collector(model, self.folder / "sketch.safetensors", **plan.settings) as collector:
            collector.member(run=0, epoch=1)
            collector.add_tokens(tokens, lambda model: model(tokens))
            collector.finish(map(str, range(4)))

    def test_layers_that_are_not_always_called_count_as_zero(self):
        model = nn.ModuleDict({"always": nn.Linear(4, 4), "sometimes": nn.Linear(4, 4), "never": nn.Linear(4, 4)})
        x = torch.randn(5, 4)

        def sample(rows):
            for use in (False, True, False):
                forward = lambda model, use=use: model["sometimes"](y(model)) if use else y(model)  # noqa: E731
                rows.add(5, lambda model: forward(model).square().sum(1))

        y = lambda model: model["always"](x)  # noqa: E731
        plan = plan_encodings(model, sample, bytes_a_row=1000)
        self.assertEqual(len(plan.agreement.exact), 30)
        used = [float(part.abs().max()) > 0 for part in plan.layers[1].agreement.exact.split(10)]
        self.assertEqual(used, [False, True, False])
        self.assertLess(plan.agreement.relative_error, 1e-6)

    def test_what_cannot_be_planned_is_refused(self):
        with self.assertRaisesRegex(ValueError, "100 bytes a row are too few: the smallest encodings of"):
            plan_encodings(self.model, self.add, bytes_a_row=100)
        with self.assertRaisesRegex(ValueError, "no batch of two rows"):
            plan_encodings(self.model, lambda rows: None, bytes_a_row=10_000)
        self.assertEqual(sum(len(module._forward_hooks) for module in self.model.modules()), 0)


if __name__ == "__main__":
    unittest.main()
