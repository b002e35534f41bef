"""Gradients divided by the root of what Adam divides by."""

import unittest

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect import Collector, Projection, adam_divisors
from ascribe_collect.projection import rademacher
from example_models import LanguageModel, inner_products, perceptron
from sketch_case import SketchCase


class Scaling(SketchCase):
    def train(self, model, loss, steps=3, **settings):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, **settings)
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        return optimizer

    def setUp(self):
        super().setUp()
        self.model = LanguageModel(vocabulary=11, width=4, tied=False, blocks=1)
        self.tokens = torch.randint(1, 11, (5, 4))
        self.optimizer = self.train(self.model, lambda: self.losses(self.model).sum())

    def losses(self, model):
        logits = model(self.tokens)[:, :-1]
        target = self.tokens[:, 1:]
        return F.cross_entropy(logits.transpose(1, 2), target, reduction="none").sum(1)

    def collect_scaled(self, model, name="sketch.safetensors", scaling=None, **settings):
        with Collector(model, self.folder / name, scaling="adam", **settings) as collector:
            collector.member(run=0, epoch=1, scaling=scaling or self.optimizer)
            collector.add(5, self.losses)
            report = collector.finish(map(str, range(5)))
        return self.read(name), report

    def single(self, model, optimizer):
        """Each row's gradients divided by (sqrt(v) + eps)^(1/2), v = exp_avg_sq / (1 - beta2^t)."""
        names = [name for name, _ in model.named_parameters() if "norm" not in name]
        parameters = [parameter for name, parameter in model.named_parameters() if "norm" not in name]
        rows = []
        for row in range(5):
            gradients = torch.autograd.grad(self.losses(model)[row], parameters, allow_unused=True)
            divided = []
            for parameter, gradient in zip(parameters, gradients):
                state = optimizer.state[parameter]
                v = state["exp_avg_sq"].double() / (1 - 0.999 ** float(state["step"]))
                gradient = torch.zeros_like(parameter) if gradient is None else gradient
                divided.append(gradient.double() / (v.sqrt() + 1e-8).sqrt())
            rows.append(divided)
        return names, rows

    def test_scaled_gradients_are_divided_value_by_value(self):
        names, rows = self.single(self.model, self.optimizer)
        for settings in ({"rank": 12}, {"encoding": "dense", "rank": {"words": 4, "places": 4}}):
            sketch, report = self.collect_scaled(self.model, **settings)
            self.assert_close(sketch.inner_products(), inner_products(rows))
            words = torch.stack([row[names.index("words.weight")] for row in rows])
            self.assert_close(sketch.gradient("words"), words.transpose(1, 2).numpy())
            self.assertIn("v the bias-corrected second moment", sketch.schema["scaling"])

    def test_what_the_rank_leaves_out_is_said(self):
        # Divided value by value, one pair a row is one no more.
        model, x = perceptron(6, 5, 3), torch.randn(5, 6)
        self.losses = lambda model: model(x).square().sum(1)
        optimizer = self.train(model, lambda: self.losses(model).sum())
        sketch, report = self.collect_scaled(model, scaling=optimizer)
        self.assertEqual(sketch.tensors["m0.0.u"].shape, (5, 1, 5))
        self.assertGreater(report.layers[0].lost_share, 1e-3)
        full, report = self.collect_scaled(model, "full.safetensors", scaling=optimizer, rank=6)
        self.assertLess(report.layers[0].lost_share, 1e-12)
        _, rows = self.single(model, optimizer)
        self.assert_close(full.inner_products(), inner_products(rows))

    def test_projections_are_of_the_divided_gradient(self):
        full, _ = self.collect_scaled(self.model, "full.safetensors", rank=12)
        for settings in ({"encoding": "dense"}, {"rank": 12}):
            sketch, _ = self.collect_scaled(self.model, projection=Projection(7, 3, 3), **settings)
            name = "blocks.0.up"
            left, right = rademacher(7, name, "out", 3, 8), rademacher(7, name, "in", 3, 5)
            self.assert_close(sketch.gradient(name), left @ full.gradient(name) @ right.T.astype(np.float64))

    def test_a_tied_table_is_divided_once(self):
        model = LanguageModel(vocabulary=11, width=4, blocks=1)
        optimizer = self.train(model, lambda: self.losses(model).sum())
        sketch, _ = self.collect_scaled(model, scaling=optimizer, rank=12)
        _, rows = self.single(model, optimizer)
        self.assert_close(sketch.inner_products(), inner_products(rows))

    def test_members_have_divisors_of_their_own(self):
        first = (dict(self.model.state_dict()), adam_divisors(self.model, self.optimizer))
        first = ({name: value.clone() for name, value in first[0].items()}, first[1])
        for _ in range(5):
            self.optimizer.zero_grad()
            self.losses(self.model).sum().backward()
            self.optimizer.step()
        last, _ = self.collect_scaled(self.model, "last.safetensors", rank=12)
        with Collector(self.model, self.folder / "both.safetensors", scaling="adam", rank=12) as collector:
            second = {name: value.clone() for name, value in self.model.state_dict().items()}
            for epoch, (state, scaling) in enumerate((first, (second, self.optimizer))):
                collector.member(state, run=0, epoch=epoch, scaling=scaling)
                collector.add(5, self.losses)
            collector.finish(map(str, range(5)))
        both = self.read("both.safetensors")
        self.assert_close(both.inner_products(1), last.inner_products())
        self.assertGreater(np.abs(both.inner_products(0) - both.inner_products(1)).max(), 1e-3)

    def test_amsgrad_has_the_largest_moments(self):
        model = nn.Linear(1, 1, bias=False)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.0, amsgrad=True)
        for size in (4.0, 0.0):
            optimizer.zero_grad()
            model(torch.tensor([[size]])).sum().backward()
            optimizer.step()
        state = optimizer.state[model.weight]
        expected = (float(state["max_exp_avg_sq"]) / (1 - 0.999**2)) ** 0.25
        self.assertAlmostEqual(float(adam_divisors(model, optimizer)["weight"]), expected, places=4)

    def test_what_does_not_go_together_is_refused(self):
        model, path = self.model, self.folder / "sketch.safetensors"
        for settings, text in (
            ({"scaling": "adagrad"}, "scaling is 'adagrad'"),
            ({"scaling": "adam", "jacobian": True}, "scaling mixes inputs and outputs"),
            ({"scaling": "adam", "shared_input": ["head"]}, "scaling mixes inputs and outputs"),
            ({"scaling": "adam", "factors": True}, "factors are of gradients as they are"),
        ):
            with self.subTest(settings=settings), self.assertRaisesRegex(ValueError, text):
                Collector(model, path, **settings)
        for collector_has, member_has in (("adam", None), (None, self.optimizer)):
            with Collector(model, path, scaling=collector_has) as collector:
                with self.assertRaisesRegex(ValueError, "go together"):
                    collector.member(run=0, epoch=1, scaling=member_has)
        with Collector(model, path, scaling="adam") as collector:
            divisors = adam_divisors(model, self.optimizer)
            for change, text in (
                (None, "words: no divisor for words.weight"),
                (torch.ones(2), "the divisor of words.weight has another shape"),
                (torch.zeros(11, 4), "has another shape than it, or values that are not above 0"),
            ):
                wrong = {**divisors, "words.weight": change}
                if change is None:
                    del wrong["words.weight"]
                with self.assertRaisesRegex(ValueError, text):
                    collector.member(run=0, epoch=1, scaling=wrong)
        with self.assertRaisesRegex(ValueError, "is it an Adam"):
            sgd = torch.optim.Adagrad(model.parameters())
            adam_divisors(model, sgd)
        with self.assertRaisesRegex(ValueError, "has it made a step"):
            adam_divisors(model, torch.optim.Adam(model.parameters()))


if __name__ == "__main__":
    unittest.main()
