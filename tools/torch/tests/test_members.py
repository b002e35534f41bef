"""Several checkpoints in one file, and inputs that they share."""

import copy
import unittest

import numpy as np
import torch

from ascribe_collect import Collector
from example_models import Transformer, perceptron
from sketch_case import Sketch, SketchCase


class Members(SketchCase):
    def setUp(self):
        super().setUp()
        self.model = perceptron(6, 5, 3)
        self.x, self.y = torch.randn(7, 6), torch.randint(3, (7,))
        self.states = []
        for _ in range(2):
            for parameter in self.model.parameters():
                torch.nn.init.normal_(parameter)
            self.states.append(copy.deepcopy(self.model.state_dict()))
        self.path = self.folder / "sketch.safetensors"

    def classify(self, collector, order=slice(None)):
        for start, end in ((0, 3), (3, 7)):
            x, y = self.x[order][start:end], self.y[order][start:end]
            collector.add_classified(y, lambda model: model(x))

    def keys(self):
        return [f"r{row}" for row in range(7)]

    def both(self, path, members, **settings):
        with Collector(self.model, path, **settings) as collector:
            for epoch, member in enumerate(members):
                collector.member(member, run=4, epoch=epoch + 1)
                self.classify(collector)
            collector.finish(self.keys())
        return Sketch(path)

    def test_members_are_those_of_single_files(self):
        sketch = self.both(self.path, self.states)
        self.assertEqual(sketch.schema["members"], 2)
        self.assertEqual(sketch.schema["checkpoints"], [{"run": 4, "epoch": 1}, {"run": 4, "epoch": 2}])
        for member, state in enumerate(self.states):
            alone = self.both(self.folder / "alone.safetensors", [state])
            for ending in ("0.u", "0.v", "2.u", "2.v", "own"):
                np.testing.assert_array_equal(sketch.tensors[f"m{member}.{ending}"], alone.tensors[f"m0.{ending}"])
        self.assertGreater(np.abs(sketch.gradient("0", 0) - sketch.gradient("0", 1)).max(), 1e-3)

    def test_a_member_may_be_another_model(self):
        models = []
        for state in self.states:
            models.append(perceptron(6, 5, 3))
            models[-1].load_state_dict(state)
        by_state, by_model = self.both(self.path, self.states), self.both(self.folder / "models.safetensors", models)
        for name, tensor in by_state.tensors.items():
            np.testing.assert_array_equal(by_model.tensors[name], tensor)

    def test_a_shared_input_is_written_once(self):
        apart = self.both(self.path, self.states)
        shared = self.both(self.folder / "shared.safetensors", self.states, shared_input=["0"])
        self.assertEqual(set(apart.tensors) - set(shared.tensors), {"m1.0.v"})
        flags = {entry["name"]: entry.get("shared_input") for entry in shared.schema["modules"]}
        self.assertEqual(flags, {"0": True, "2": None})
        for member in (0, 1):
            np.testing.assert_array_equal(shared.inner_products(member), apart.inner_products(member))

    def test_a_shared_input_that_differs_is_refused(self):
        with Collector(self.model, self.path, shared_input=["0"]) as collector:
            with self.assertRaisesRegex(ValueError, "run -1, epoch 1: both are counted from 0"):
                collector.member(run=-1, epoch=1)
            collector.member(self.states[0], run=0, epoch=1)
            self.classify(collector)
            collector.member(self.states[1], run=0, epoch=2)
            order = torch.tensor([0, 1, 2, 3, 5, 4, 6])
            with self.assertRaisesRegex(ValueError, "0: row 4 has another input than for the first member"):
                self.classify(collector, order)
        with self.assertRaisesRegex(ValueError, "2: row 0 has another input"):
            self.both(self.path, self.states, shared_input=["2"])

    def test_a_shared_input_of_a_sequence_is_refused(self):
        tokens = torch.randint(1, 20, (3, 4))
        batches = [(self.y[:3], lambda model: model(tokens))]
        with self.assertRaisesRegex(ValueError, "blocks.0.up has a sequence"):
            self.collect(Transformer(), batches, shared_input=["blocks.0.up"])

    def test_own_for_some_members_only_is_refused(self):
        with Collector(self.model, self.path) as collector:
            collector.member(self.states[0], run=0, epoch=1)
            self.classify(collector)
            collector.member(self.states[1], run=0, epoch=2)
            collector.add(7, lambda model: model(self.x).sum(1))
            with self.assertRaisesRegex(ValueError, "some members have `own`"):
                collector.finish(self.keys())


if __name__ == "__main__":
    unittest.main()
