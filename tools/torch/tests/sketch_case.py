"""A test case with a folder of its own, and a reader of what was written."""

import json
import pathlib
import tempfile
import unittest

import numpy as np
import torch

from ascribe_collect import Collector
from ascribe_collect.safetensors_file import read


class Sketch:
    """A sketch file read back."""

    def __init__(self, path):
        self.tensors, self.metadata = read(path)
        self.schema = json.loads(self.metadata["schema"])

    def gradient(self, name, member=0):
        """float64 [rows, out, in] of one layer."""
        prefix = f"m{member}.{name}"
        if f"{prefix}.g" in self.tensors:
            return self.tensors[f"{prefix}.g"].astype(np.float64)
        u = self.tensors[f"{prefix}.u"].astype(np.float64)
        v = self.tensors.get(f"{prefix}.v", self.tensors.get(f"m0.{name}.v")).astype(np.float64)
        if f"{prefix}.ids" in self.tensors:
            v = self.spread(name, v, self.tensors[f"{prefix}.ids"])
        return np.einsum("nro,nri->noi", u, v)

    def spread(self, name, v, ids):
        """[rows, rank, vocabulary] of a table's v [rows, rank, terms]; ids have to be different."""
        places = next(module["in"] for module in self.schema["modules"] if module["name"] == name)
        wide = np.zeros((*v.shape[:2], places))
        for row, of_row in enumerate(ids):
            kept = of_row[of_row >= 0]
            assert len(set(kept)) == len(kept) and not v[row][:, of_row < 0].any()
            wide[row][:, kept] = v[row][:, of_row >= 0]
        return wide

    def inner_products(self, member=0):
        """[rows, rows] over all layers."""
        flat = [self.gradient(module["name"], member) for module in self.schema["modules"]]
        flat = np.concatenate([gradient.reshape(len(gradient), -1) for gradient in flat], axis=1)
        return flat @ flat.T


class SketchCase(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(20261130)
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def read(self, name="sketch.safetensors"):
        return Sketch(self.folder / name)

    def collect(self, model, batches, name="sketch.safetensors", finish=None, **settings):
        """One member from (rows, loss) batches; `classified` batches are (labels, logits). Returns sketch, report."""
        path = self.folder / name
        with Collector(model, path, **settings) as collector:
            collector.member(run=0, epoch=1)
            rows = 0
            for first, function in batches:
                if isinstance(first, int):
                    collector.add(first, function)
                    rows += first
                else:
                    collector.add_classified(first, function)
                    rows += len(first)
            report = collector.finish([f"r{row}" for row in range(rows)], **(finish or {}))
        return Sketch(path), report

    def assert_close(self, found, expected, relative=1e-5):
        """The largest difference is at most `relative` of the largest expected value."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        self.assertEqual(found.shape, expected.shape)
        scale = np.abs(expected).max()
        self.assertGreater(scale, 0, "the expected values are all zero: the test would compare nothing")
        error = np.abs(found - expected).max() / scale
        self.assertLessEqual(error, relative, f"differs by {error:.3g} of the largest value")
