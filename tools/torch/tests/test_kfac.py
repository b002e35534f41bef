"""The factors of Kronecker-factored curvature."""

import json
import unittest

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect import Collector, Projection, next_token_labels
from ascribe_collect.projection import rademacher
from example_models import LanguageModel
from sketch_case import SketchCase


class Factors(SketchCase):
    def recorded(self, modules, run):
        """Inputs and gradients of every call of the modules, in order: {name: [(inputs, gradients)]}."""
        found, handles = {name: [] for name in modules}, []
        for name, module in modules.items():

            def hook(module, inputs, output, name=name):
                output.retain_grad()
                found[name].append((inputs[0].detach(), output))

            handles.append(module.register_forward_hook(hook))
        run().backward()
        for handle in handles:
            handle.remove()
        return {name: [(inputs, output.grad) for inputs, output in calls] for name, calls in found.items()}

    def test_factors_are_means_over_tokens_that_are_no_padding(self):
        model = LanguageModel(tied=False)
        tokens = torch.randint(1, 13, (6, 7))
        for row, length in enumerate((7, 3, 5, 2, 6, 4)):
            tokens[row, length:] = 0
        mask = tokens > 0
        labels = next_token_labels(tokens, token_mask=mask)
        for masked in (True, False):
            name = f"{masked}.safetensors"
            with Collector(model, self.folder / name, factors=True) as collector:
                collector.member(run=0, epoch=1)
                for part in (slice(0, 2), slice(2, 6)):
                    kept = mask[part] if masked else None
                    collector.add_tokens(labels[part], lambda model: model(tokens[part]), token_mask=kept)
                report = collector.finish(map(str, range(6)))
            sketch = self.read(name)
            modules = {"blocks.0.up": model.blocks[0].up, "head": model.head}
            run = lambda: F.cross_entropy(model(tokens).transpose(1, 2), labels, reduction="sum")  # noqa: E731
            counts = json.loads(sketch.metadata["ascribe.factor_counts"])
            for layer, ((inputs, gradients),) in self.recorded(modules, run).items():
                real = mask if masked else torch.ones_like(mask)
                a, d = inputs[real].double(), gradients[real].double()
                if layer != "head":
                    a = torch.cat([a, torch.ones(len(a), 1)], dim=1)
                self.assertEqual(counts[f"m0.{layer}"], int(real.sum()))
                self.assert_close(sketch.tensors[f"m0.{layer}.A"], a.T @ a / len(a), 1e-6)
                self.assert_close(sketch.tensors[f"m0.{layer}.B"], d.T @ d / len(a), 1e-5)
            self.assertNotIn("m0.words.A", sketch.tensors)
            self.assertTrue(any("words: no K-FAC factors" in text for text in report.remarks), report)

    def test_without_a_sequence_they_are_the_sums_of_the_sketch(self):
        model, x, y = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), torch.randn(8, 5), torch.arange(8) % 3
        batches = [(y[:3], lambda model: model(x[:3])), (y[3:], lambda model: model(x[3:]))]
        sketch, _ = self.collect(model, batches, factors=True)
        for name in ("0", "2"):
            u, v = (sketch.tensors[f"m0.{name}.{side}"][:, 0].astype(np.float64) for side in "uv")
            self.assert_close(sketch.tensors[f"m0.{name}.A"], v.T @ v / 8, 1e-6)
            self.assert_close(sketch.tensors[f"m0.{name}.B"], u.T @ u / 8, 1e-6)

    def test_a_layer_used_twice_counts_twice(self):
        model, x = nn.Linear(3, 3), torch.randn(4, 3)
        loss = lambda model: model(torch.tanh(model(x))).square().sum(1)  # noqa: E731
        sketch, _ = self.collect(model, [(4, loss)], factors=True)
        calls = self.recorded({"linear": model}, lambda: loss(model).sum())["linear"]
        a = torch.cat([inputs for inputs, _ in calls]).double()
        a = torch.cat([a, torch.ones(8, 1)], dim=1)
        d = torch.cat([gradients for _, gradients in calls]).double()
        self.assert_close(sketch.tensors["m0.linear.A"], a.T @ a / 8, 1e-6)
        self.assert_close(sketch.tensors["m0.linear.B"], d.T @ d / 8, 1e-6)
        self.assertEqual(json.loads(sketch.metadata["ascribe.factor_counts"]), {"m0.linear": 8})

    def test_places_of_a_convolution_are_tokens(self):
        model, x = nn.Conv2d(2, 3, 2, stride=2), torch.randn(4, 2, 4, 6)
        loss = lambda model: model(x).square().sum((1, 2, 3))  # noqa: E731
        sketch, _ = self.collect(model, [(4, loss)], factors=True)
        ((_, gradients),) = self.recorded({"linear": model}, lambda: loss(model).sum())["linear"]
        d = gradients.permute(0, 2, 3, 1).reshape(-1, 3).double()
        a = F.unfold(x, 2, stride=2).transpose(1, 2).reshape(-1, 8).double()
        a = torch.cat([a, torch.ones(len(a), 1)], dim=1)
        self.assertEqual(len(a), 24)
        self.assert_close(sketch.tensors["m0.linear.A"], a.T @ a / 24, 1e-6)
        self.assert_close(sketch.tensors["m0.linear.B"], d.T @ d / 24, 1e-6)

    def test_projected_layers_have_projected_factors(self):
        model, x = nn.Linear(9, 8), torch.randn(5, 9)
        batches = [(5, lambda model: model(x).square().sum(1))]
        full, _ = self.collect(model, batches, factors=True)
        sketch, _ = self.collect(model, batches, factors=True, projection=Projection(2, 3, 4))
        right, left = rademacher(2, "linear", "in", 4, 10), rademacher(2, "linear", "out", 3, 8)
        self.assert_close(sketch.tensors["m0.linear.A"], right @ full.tensors["m0.linear.A"] @ right.T)
        self.assert_close(sketch.tensors["m0.linear.B"], left @ full.tensors["m0.linear.B"] @ left.T)

    def test_members_have_factors_of_their_own(self):
        models = [nn.Linear(3, 2), nn.Linear(3, 2)]
        x = torch.randn(4, 3)
        with Collector(models[0], self.folder / "sketch.safetensors", factors=True) as collector:
            for epoch, model in enumerate(models):
                collector.member(model, run=0, epoch=epoch)
                collector.add(4, lambda model: model(x).square().sum(1))
            collector.finish("abcd")
        both = self.read()
        for member, model in enumerate(models):
            batches = [(4, lambda model: model(x).square().sum(1))]
            alone, _ = self.collect(model, batches, "alone.safetensors", factors=True)
            for side in "AB":
                found, expected = both.tensors[f"m{member}.linear.{side}"], alone.tensors[f"m0.linear.{side}"]
                self.assertEqual(found.tolist(), expected.tolist())

    def test_groups_and_wide_layers_have_none(self):
        model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(8200, 1))
        x = torch.randn(1, 4, 50, 41)
        _, report = self.collect(model, [(1, lambda model: model(x).sum(1))], factors=True)
        text = str(report)
        self.assertIn("0: no K-FAC factors, a convolution in groups", text)
        self.assertIn("2: no K-FAC factors, a side is wider than 8192", text)


if __name__ == "__main__":
    unittest.main()
