"""Projections: the bits of the written definition, and no factor missing or too much."""

import pathlib
import re
import unittest

import numpy as np
import torch

from ascribe_collect import Projection
from ascribe_collect.projection import WORD_BITS, projection_key, rademacher, sign_words
from example_models import Transformer, perceptron, sum_of_cross_entropy
from sketch_case import SketchCase

DEFINITION = pathlib.Path(__file__).parents[3] / "storage-format" / "projection.md"


def written_values():
    """The rows of the table in the definition."""
    rows = []
    for line in DEFINITION.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        if len(cells) == 9 and re.fullmatch(r"\d+", cells[0]):
            rows.append(cells)
    return rows


class Definition(unittest.TestCase):
    def test_the_written_values(self):
        rows = written_values()
        self.assertGreaterEqual(len(rows), 5, f"{DEFINITION} has no table of test values where it was")
        for seed, module, side, columns, i, j, key, word, sign in rows:
            with self.subTest(module=module, side=side):
                seed, columns, i, j = int(seed), int(columns), int(i), int(j)
                self.assertEqual(projection_key(seed, module, side), int(key, 16))
                words = sign_words(seed, module, side, i + 1, columns)
                self.assertEqual(int(words[i, j // WORD_BITS]), int(word, 16))
                entry = rademacher(seed, module, side, i + 1, columns)[i, j]
                self.assertAlmostEqual(entry, (1 if sign == "plus" else -1) / (i + 1) ** 0.5, places=7)

    def test_every_entry_follows_from_its_word(self):
        words = sign_words(3, "layer", "out", 5, 70)
        matrix = rademacher(3, "layer", "out", 5, 70)
        for i in range(5):
            for j in range(70):
                plus = int(words[i, j // 64]) >> (j % 64) & 1
                self.assertEqual(matrix[i, j] > 0, bool(plus))

    def test_what_has_no_definition_is_refused(self):
        for seed, side, rows in ((-1, "in", 2), (1 << 64, "in", 2), (0, "left", 2), (0, "in", 0)):
            with self.assertRaises(ValueError):
                rademacher(seed, "layer", side, rows, 3)


class Scale(unittest.TestCase):
    def test_inner_products_are_kept_on_average(self):
        numbers = np.random.default_rng(5)
        u, v = numbers.standard_normal((2, 100))
        v = u + 0.5 * v
        for rows in (1, 4, 16):
            found = []
            for seed in range(3000):
                matrix = rademacher(seed, "layer", "in", rows, 100).astype(np.float64)
                found.append((matrix @ u) @ (matrix @ v))
            mean, error = np.mean(found), np.std(found) / len(found) ** 0.5
            self.assertLess(
                abs(mean - u @ v),
                4 * error,
                f"E<Pu,Pv> is {mean:.2f} +- {error:.2f}, <u,v> is {u @ v:.2f}, their ratio {mean / (u @ v):.3f}: "
                f"a ratio near {rows} or 1/{rows} is an entry size of 1 or 1/r in place of 1/sqrt(r), any other one a "
                "generator whose columns are not independent",
            )

    def test_a_sketch_keeps_inner_products_on_average(self):
        # Two sides at once: what one of them gains the other could lose.
        numbers = np.random.default_rng(6)
        first, second = numbers.standard_normal((2, 12, 20))
        second = first + second
        found = []
        for seed in range(2000):
            left = rademacher(seed, "layer", "out", 3, 12).astype(np.float64)
            right = rademacher(seed, "layer", "in", 4, 20).astype(np.float64)
            found.append(np.sum((left @ first @ right.T) * (left @ second @ right.T)))
        mean, error, exact = np.mean(found), np.std(found) / len(found) ** 0.5, np.sum(first * second)
        self.assertLess(
            abs(mean - exact),
            4 * error,
            f"two-sided: mean {mean:.2f} +- {error:.2f}, exact {exact:.2f}, ratio {mean / exact:.3f}",
        )


class Sketches(SketchCase):
    def test_a_projected_sketch_is_the_projected_gradient(self):
        model, x, y = Transformer(), torch.randint(1, 20, (5, 6)), torch.randint(3, (5,))
        batches = [(5, sum_of_cross_entropy(y, lambda model: model(x)))]
        full, _ = self.collect(model, batches, encoding="dense", rank={"embedding": 6})
        projection = Projection(seed=7, out=4, inputs=5)
        for settings in ({"encoding": "dense", "rank": {"embedding": 4}}, {"encoding": "factored", "rank": 6}):
            sketch, _ = self.collect(model, batches, projection=projection, **settings)
            for entry in sketch.schema["modules"]:
                name, out = entry["name"], entry["projection"]["out"]
                # The head has three outputs: there is nothing to project on that side.
                self.assertEqual(out, None if name == "head" else 4)
                left = np.eye(3) if out is None else rademacher(7, name, "out", 4, entry["out"])
                # Nor is the side of the vocabulary ever projected.
                inputs = None if name == "embedding" else 5
                right = np.eye(20) if inputs is None else rademacher(7, name, "in", 5, entry["in"])
                expected = left @ full.gradient(name) @ right.T.astype(np.float64)
                self.assert_close(sketch.gradient(name), expected)
                self.assertEqual(entry["projection"]["kind"], "rademacher")
                self.assertEqual((entry["projection"]["seed"], entry["projection"]["in"]), (7, inputs))

    def test_a_projection_that_is_wider_than_every_layer_is_none(self):
        sketch, _ = self.collect(
            perceptron(3, 2), [(2, lambda model: model(torch.ones(2, 3)).sum(1))], projection=Projection(1, 64, 64)
        )
        self.assertIsNone(sketch.schema["modules"][0]["projection"])


if __name__ == "__main__":
    unittest.main()
