"""Models in bfloat16 or half precision: everything that is multiplied or added up is float32."""

import unittest

import numpy as np
import torch
from torch import nn

from ascribe_collect import Collector
from example_models import LanguageModel, perceptron
from sketch_case import SketchCase


def two_layers(width, inner, out):
    return nn.Sequential(nn.Linear(width, inner), nn.Tanh(), nn.Linear(inner, out))


def recorded(model, modules, loss):
    """Inputs and gradients at the outputs of modules, in the model's own precision: {name: (inputs, gradients)}."""
    found, handles = {}, []
    for name, module in modules.items():

        def hook(module, inputs, output, name=name):
            output.retain_grad()
            found[name] = (inputs[0].detach(), output)

        handles.append(module.register_forward_hook(hook))
    loss(model).sum().backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    return {name: (inputs, output.grad) for name, (inputs, output) in found.items()}


def sums(inputs, gradients):
    """float32 sums of outer products, with a bias: [rows, out, in + 1]."""
    left = gradients.float().reshape(len(gradients), -1, gradients.shape[-1])
    right = inputs.float().reshape(len(inputs), -1, inputs.shape[-1])
    right = torch.cat([right, torch.ones_like(right[:, :, :1])], dim=2)
    return torch.einsum("nto,nti->noi", left, right).numpy()


class Precision(SketchCase):
    def test_a_bfloat16_model_is_summed_in_float32(self):
        model, x = two_layers(40, 30, 20).bfloat16(), torch.randn(3, 50, 40).bfloat16()
        loss = lambda model: model(x).float().square().sum((1, 2))  # noqa: E731
        expected = recorded(model, {"0": model[0], "2": model[2]}, loss)
        sketch, _ = self.collect(model, [(3, loss)], encoding="dense")
        for name, (inputs, gradients) in expected.items():
            self.assertEqual((inputs.dtype, gradients.dtype), (torch.bfloat16, torch.bfloat16))
            self.assert_close(sketch.gradient(name), sums(inputs, gradients), 1e-6)
            # Sums in bfloat16, as the model's own backward pass has them, would be off by some thousandths.
            rough = torch.einsum("nto,nti->noi", gradients, inputs).float().numpy()
            self.assertGreater(np.abs(rough - sketch.gradient(name)[:, :, :-1]).max() / np.abs(rough).max(), 1e-4)

    def test_a_table_in_bfloat16_is_summed_in_float32(self):
        table = nn.Embedding(4, 8).bfloat16()
        model, ids = nn.Sequential(table), torch.randint(4, (3, 200))
        weight = torch.randn(3, 200, 8)
        loss = lambda model: (model(ids).float() * weight).sum((1, 2))  # noqa: E731
        sketch, _ = self.collect(model, [(3, loss)], rank=4)
        exact = torch.zeros(3, 4, 8)
        for row in range(3):
            exact[row].index_add_(0, ids[row], weight[row].bfloat16().float())
        self.assert_close(sketch.gradient("0"), exact.transpose(1, 2).numpy())

    def test_autocast_gradients_are_summed_in_float32(self):
        model, x = two_layers(20, 30, 10), torch.randn(3, 25, 20)

        def loss(model):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return model(x).float().square().sum((1, 2))

        expected = recorded(model, {"0": model[0], "2": model[2]}, loss)
        sketch, _ = self.collect(model, [(3, loss)], encoding="dense")
        for name, (inputs, gradients) in expected.items():
            self.assertEqual(gradients.dtype, torch.bfloat16)
            self.assert_close(sketch.gradient(name), sums(inputs, gradients), 1e-6)

    def test_a_language_model_in_bfloat16_is_near_that_in_float32(self):
        tokens = torch.randint(1, 13, (4, 6))
        for dtype in (torch.float32, torch.bfloat16):
            model = LanguageModel()
            torch.manual_seed(3)
            for parameter in model.parameters():
                nn.init.normal_(parameter, std=0.3)
            path = self.folder / f"{dtype}.safetensors"
            with Collector(model.to(dtype), path, rank=8) as collector:
                collector.member(run=0, epoch=1)
                collector.add_tokens(tokens, lambda model: model(tokens))
                collector.finish(map(str, range(4)))
        found = [self.read(f"{dtype}.safetensors").inner_products() for dtype in (torch.bfloat16, torch.float32)]
        self.assert_close(*found, 0.1)

    def test_a_loss_scale_keeps_half_precision_from_underflow(self):
        class Half(nn.Module):
            """A layer whose output goes on in half precision, where gradients below 6e-8 vanish."""

            def __init__(self):
                super().__init__()
                self.inner = nn.Linear(4, 3)

            def forward(self, x):
                return self.inner(x).half() * torch.tensor(1.0, dtype=torch.float16)

        model, x = Half(), torch.randn(5, 4)
        loss = lambda model: model(x).float().sum(1) * 1e-9  # noqa: E731
        plain, _ = self.collect(model, [(5, loss)], "plain.safetensors")
        self.assertEqual(np.abs(plain.gradient("inner")).max(), 0, "nothing vanished: the test would compare nothing")
        scaled, _ = self.collect(model, [(5, loss)], loss_scale=2.0**20)
        expected = 1e-9 * torch.cat([x, torch.ones(5, 1)], dim=1)[:, None, :].expand(5, 3, 5)
        self.assert_close(scaled.gradient("inner"), expected.numpy(), 1e-3)
        with self.assertRaisesRegex(ValueError, "inner: the gradient of row 0 is not finite: lower loss_scale"):
            self.collect(model, [(5, loss)], loss_scale=1e18)
        with self.assertRaisesRegex(ValueError, "loss_scale 0 is not above 0"):
            self.collect(model, [], loss_scale=0)

    def test_a_loss_scale_is_undone(self):
        model, x, y = perceptron(6, 5, 3), torch.randn(4, 6), torch.tensor([0, 2, 1, 1])
        plain, _ = self.collect(model, [(y, lambda model: model(x))], "plain.safetensors")
        scaled, _ = self.collect(model, [(y, lambda model: model(x))], loss_scale=1000.0)
        self.assert_close(scaled.inner_products(), plain.inner_products())


if __name__ == "__main__":
    unittest.main()
