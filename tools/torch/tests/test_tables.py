"""Embedding tables: sparse gradients, positions, tables that share their weight, and what is refused."""

import unittest

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect import Collector, Projection
from ascribe_collect.spool import Spool
from ascribe_collect.table import sum_by_token
from example_models import inner_products, weight_gradients
from sketch_case import Sketch, SketchCase


class Words(nn.Module):
    """Token numbers [rows, tokens] to logits: words and positions, a layer in between, the mean."""

    def __init__(self, vocabulary=11, width=6, places=9, padding=None, positions="row"):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=padding)
        self.places = nn.Embedding(places, width)
        self.inner, self.head = nn.Linear(width, width), nn.Linear(width, 3)
        self.positions = positions

    def forward(self, tokens):
        place = torch.arange(tokens.shape[1])
        if self.positions == "row":
            place = place[None]
        elif self.positions == "rows":
            place = place.expand(tokens.shape)
        x = self.words(tokens) + self.places(place)
        return self.head(torch.tanh(self.inner(torch.tanh(x))).mean(1))


class Tied(nn.Module):
    """The table's weight is that of the last layer too, as in most language models."""

    def __init__(self, vocabulary=9, width=4):
        super().__init__()
        self.words, self.inner = nn.Embedding(vocabulary, width), nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.inner(self.words(tokens)))).sum(1)


def single(model, layers, tokens, labels):
    """Gradients of each row alone."""
    return [
        weight_gradients(layers, F.cross_entropy(model(tokens[row : row + 1]), labels[row : row + 1]))
        for row in range(len(tokens))
    ]


class Tables(SketchCase):
    def setUp(self):
        super().setUp()
        self.model = Words()
        self.layers = [self.model.words, self.model.places, self.model.inner, self.model.head]
        self.tokens, self.labels = torch.randint(11, (7, 5)), torch.randint(3, (7,))

    def batches(self, model=None, cuts=(0, 3, 7), tokens=None):
        tokens = self.tokens if tokens is None else tokens
        for start, end in zip(cuts, cuts[1:]):
            yield self.labels[start:end], lambda model, batch=tokens[start:end]: model(batch)

    def test_inner_products_are_those_of_single_backward_passes(self):
        sketch, report = self.collect(self.model, self.batches(), rank=5)
        expected = inner_products(single(self.model, self.layers, self.tokens, self.labels))
        self.assert_close(sketch.inner_products(), expected)
        different = max(len(set(row.tolist())) for row in self.tokens)
        expected = {"name": "words", "out": 6, "in": 11, "bias": False, "encoding": "sparse", "rank": 5}
        self.assertEqual(sketch.schema["modules"][0], {**expected, "terms": different, "projection": None})
        self.assertEqual(sketch.tensors["m0.words.ids"].dtype, np.int64)
        self.assertEqual(sketch.tensors["m0.words.ids"].shape, (7, different))
        self.assertEqual(sketch.tensors["m0.words.v"].shape, (7, 5, different))
        for row, ids in zip(self.tokens, sketch.tensors["m0.words.ids"]):
            self.assertEqual(sorted(set(row.tolist())), [place for place in ids if place >= 0])
        self.assertTrue(all(layer.lost_share < 1e-9 for layer in report.layers), report)
        self.assertIn(f"words: sparse, rank 5, {5 * 6 + 6 * different} values", str(report))

    def test_a_lower_rank_keeps_the_top_singular_pairs(self):
        sketch, report = self.collect(self.model, self.batches(), rank=2)
        full = torch.stack([row[0] for row in single(self.model, self.layers, self.tokens, self.labels)])
        u, s, v = torch.linalg.svd(full, full_matrices=False)
        best = torch.einsum("nor,nr,nri->noi", u[:, :, :2], s[:, :2], v[:, :2])
        self.assert_close(sketch.gradient("words"), best.numpy(), 2e-5)
        lost = (s[:, 2:].square().sum(1) / s.square().sum(1)).mean()
        self.assertGreater(float(lost), 1e-4, "nothing was left out: the test would compare nothing")
        self.assertAlmostEqual(report.layers[0].lost_share, float(lost), places=6)

    def test_the_padding_of_a_table_gets_no_gradient(self):
        model = Words(padding=0)
        tokens = self.tokens.clone()
        tokens[:, 3:] = 0
        sketch, _ = self.collect(model, self.batches(tokens=tokens), rank=5)
        layers = [model.words, model.places, model.inner, model.head]
        self.assert_close(sketch.inner_products(), inner_products(single(model, layers, tokens, self.labels)))
        self.assertNotIn(0, sketch.tensors["m0.words.ids"])

    def test_positions_that_rows_share_are_given_out_once_for_each(self):
        expected = inner_products(single(self.model, self.layers, self.tokens, self.labels))
        for positions in ("row", "rows", "plain"):
            self.model.positions = positions
            # As many rows as tokens (5) in the first or the second batch: ids of shape [5] could be one a row.
            for cuts in ((0, 3, 7), (0, 5, 7), (0, 2, 7), (0, 1, 2, 7)):
                with self.subTest(positions=positions, cuts=cuts):
                    sketch, _ = self.collect(self.model, self.batches(cuts=cuts), rank=5)
                    self.assert_close(sketch.inner_products(), expected)

    def test_positions_that_cannot_be_told_from_rows_are_refused(self):
        self.model.positions = "plain"
        tokens = self.tokens[:5]
        with self.assertRaisesRegex(ValueError, "places was given 5 ids for 5 rows"):
            self.collect(self.model, [(5, lambda model: model(tokens).square().sum())])
        with self.assertRaisesRegex(ValueError, r"words was given ids of shape \[5, 5\] for 3 rows"):
            self.collect(self.model, [(3, lambda model: model(tokens).square().sum(1))])

    def test_one_id_a_row_is_exact_and_of_rank_one(self):
        table, head = nn.Embedding(8, 4), nn.Linear(4, 3)
        model, ids = nn.Sequential(table, head), torch.tensor([1, 1, 7, 0, 3, 3, 2])
        batches = [(self.labels, lambda model: model(ids))]
        sketch, report = self.collect(model, batches, rank=3)
        expected = [
            weight_gradients([table, head], F.cross_entropy(model(ids[row : row + 1]), self.labels[row : row + 1]))
            for row in range(7)
        ]
        self.assert_close(sketch.inner_products(), inner_products(expected))
        self.assertEqual(report.layers[0].rank, 1)

    def test_more_terms_than_allowed_leave_out_the_smallest(self):
        sketch, report = self.collect(self.model, self.batches(), rank={"words": 6}, terms={"words": 2})
        full = torch.stack([row[0] for row in single(self.model, self.layers, self.tokens, self.labels)])
        kept = torch.zeros_like(full)
        for row, sizes in enumerate(full.square().sum(1)):
            at = sizes.topk(2).indices
            kept[row][:, at] = full[row][:, at]
        self.assert_close(sketch.gradient("words"), kept.numpy())
        self.assertEqual(sketch.schema["modules"][0]["terms"], 2)
        lost = 1 - (kept.square().sum((1, 2)) / full.square().sum((1, 2))).mean()
        self.assertAlmostEqual(report.layers[0].lost_share, float(lost), places=6)

    def test_members_have_the_ids_of_the_first(self):
        other = Words()
        for terms in (None, 2):
            path = self.folder / f"{terms}.safetensors"
            with Collector(self.model, path, rank=6, terms=terms) as collector:
                for epoch, model in enumerate((self.model, other)):
                    collector.member(model, run=0, epoch=epoch)
                    for labels, function in self.batches(cuts=((0, 3, 7), (0, 4, 7))[epoch]):
                        collector.add_classified(labels, function)
                collector.finish(map(str, range(7)))
            sketch = Sketch(path)
            np.testing.assert_array_equal(sketch.tensors["m1.words.ids"], sketch.tensors["m0.words.ids"])
            layers = [other.words, other.places, other.inner, other.head]
            full = torch.stack([row[0] for row in single(other, layers, self.tokens, self.labels)]).numpy()
            ids = sketch.tensors["m0.words.ids"]
            named = np.array([[place in of_row for place in range(11)] for of_row in ids])
            self.assert_close(sketch.gradient("words", 1), full * named[:, None, :])

    def test_members_with_other_tokens_are_refused(self):
        with Collector(self.model, self.folder / "sketch.safetensors") as collector:
            for epoch, tokens in enumerate((self.tokens, self.tokens.roll(1, dims=0))):
                collector.member(run=0, epoch=epoch)
                if epoch:
                    with self.assertRaisesRegex(ValueError, "words: row 0 has other tokens than for the first member"):
                        collector.add_classified(self.labels, lambda model: model(tokens))
                else:
                    collector.add_classified(self.labels, lambda model: model(tokens))

    def test_a_table_that_is_not_called_has_no_ids(self):
        model = nn.ModuleDict({"words": nn.Embedding(5, 3), "head": nn.Linear(3, 2)})
        x, ids = torch.randn(2, 3), torch.tensor([[1, 2], [2, 2]])
        called = lambda model: model["head"](x + model["words"](ids).sum(1)).square().sum(1)  # noqa: E731
        spared = lambda model: model["head"](x).square().sum(1)  # noqa: E731
        sketch, _ = self.collect(model, [(2, spared), (2, called), (2, spared)])
        ids = [[-1, -1]] * 2 + [[1, 2], [2, -1]] + [[-1, -1]] * 2
        np.testing.assert_array_equal(sketch.tensors["m0.words.ids"], ids)
        norms = np.linalg.norm(sketch.gradient("words").reshape(6, -1), axis=1)
        np.testing.assert_array_equal(norms > 0, [False] * 2 + [True] * 2 + [False] * 2)
        sketch, report = self.collect(model, [(2, spared)], "never.safetensors")
        np.testing.assert_array_equal(sketch.tensors["m0.words.ids"], [[-1], [-1]])
        self.assertIn("words: never used, its gradients are zero", report.remarks)

    def test_frozen_tables_are_left_out(self):
        self.model.words.weight.requires_grad_(False)
        _, report = self.collect(self.model, self.batches())
        self.assertEqual([layer.name for layer in report.layers], ["places", "inner", "head"])
        self.assertTrue(any("words: left out, the weight is frozen" in text for text in report.remarks), report)


class Shared(SketchCase):
    def setUp(self):
        super().setUp()
        self.model, self.tokens, self.labels = Tied(), torch.randint(9, (6, 3)), torch.randint(9, (6,))
        self.batches = [(self.labels, lambda model: model(self.tokens))]
        self.full = []
        for row in range(6):
            loss = F.cross_entropy(self.model(self.tokens[row : row + 1]), self.labels[row : row + 1])
            self.full.append([value.double() for value in torch.autograd.grad(loss, list(self.model.parameters()))])

    def test_a_table_and_a_linear_layer_of_one_weight_are_one_layer(self):
        for settings in ({"rank": 6}, {"encoding": "dense"}):
            sketch, report = self.collect(self.model, self.batches, **settings)
            self.assert_close(sketch.inner_products(), inner_products(self.full))
            self.assert_close(sketch.gradient("words"), torch.stack([row[0] for row in self.full]).numpy())
            entry = sketch.schema["modules"][0]
            self.assertEqual((entry["name"], entry["out"], entry["in"]), ("words", 9, 4))
            self.assertTrue(any("words, head: one weight, collected as words" in text for text in report.remarks))

    def test_only_the_looking_up_may_be_collected(self):
        sketch, report = self.collect(self.model, self.batches, rank=3, lookups=["words"])
        self.assertEqual(sketch.schema["modules"][0]["encoding"], "sparse")
        # With a copy of the weight in the table its gradient is that of the looking up alone.
        self.model.words.weight = nn.Parameter(self.model.words.weight.detach().clone())
        looked = [
            weight_gradients([self.model.words], F.cross_entropy(self.model(self.tokens[row][None]), label[None]))[0]
            for row, label in enumerate(self.labels)
        ]
        self.assert_close(sketch.gradient("words"), torch.stack(looked).numpy())
        self.assertTrue(any("what head adds is not collected" in text for text in report.remarks), report)
        with self.assertRaisesRegex(ValueError, "inner of lookups is no nn.Embedding"):
            self.collect(self.model, [], lookups=["inner"])

    def test_two_tables_of_one_weight_are_one(self):
        model = nn.ModuleDict({"first": nn.Embedding(5, 3), "second": nn.Embedding(5, 3)})
        model["second"].weight = model["first"].weight
        ids = torch.randint(5, (4, 3))

        def loss(model, ids=ids):
            return (model["first"](ids) * model["second"](ids + 0).cos()).square().sum((1, 2))

        sketch, _ = self.collect(model, [(4, loss)], rank=3)
        expected = [
            [torch.autograd.grad(loss(model, row[None]).sum(), model["first"].weight)[0].double()] for row in ids
        ]
        self.assert_close(sketch.inner_products(), inner_products(expected))


class Details(SketchCase):
    def test_the_vocabulary_is_never_projected(self):
        model, tokens = Words(), torch.randint(11, (4, 5))
        sketch, _ = self.collect(
            model, [(4, lambda model: model(tokens).square().sum(1))], projection=Projection(3, 2, 2)
        )
        entry = sketch.schema["modules"][0]
        self.assertEqual(entry["projection"], {"kind": "rademacher", "seed": 3, "out": 2, "in": None})
        self.assertEqual(entry["in"], 11)

    def test_settings_that_cannot_be_are_refused(self):
        for settings, text in (
            ({"terms": 0}, "terms 0 of words is not a whole number"),
            ({"terms": {"nothing": 2}}, "'nothing' is not a collected layer"),
            ({"shared_input": ["words"]}, "words is a table"),
            ({"jacobian": ["words"]}, "words is a table"),
        ):
            with self.subTest(settings=settings), self.assertRaisesRegex(ValueError, text):
                Collector(Words(), self.folder / "sketch.safetensors", **settings)

    def test_sums_by_token(self):
        ids = torch.randint(-1, 6, (20, 9))
        gradients = torch.randn(20, 9, 4)
        found, sums = sum_by_token(ids, gradients)
        for row in range(20):
            for place in range(6):
                expected = gradients[row][ids[row] == place].sum(0)
                slot = (found[row] == place).nonzero().flatten()
                self.assertEqual(len(slot), int((ids[row] == place).any()))
                if len(slot):
                    torch.testing.assert_close(sums[row, slot[0]], expected)
        found, sums = sum_by_token(torch.full((2, 3), -1), torch.ones(2, 3, 4))
        self.assertEqual((found.shape, sums.shape), ((2, 0), (2, 0, 4)))

    def test_ragged_rows_come_back_whatever_their_blocks(self):
        spool = Spool(self.folder / "sketch")
        self.addCleanup(spool.remove)
        numbers = np.random.default_rng(3)
        expected = np.full((12, 4), -1)
        row = 0
        for rows, width in ((2, 3), (1, 0), (4, 3), (5, 4)):
            values = numbers.integers(0, 50, (rows, width))
            spool.append("ids", values, "I64", ragged=True)
            expected[row : row + rows, :width] = values
            row += rows
        for start in range(12):
            for count in range(1, 13 - start):
                found = spool.read("ids", start, count)
                np.testing.assert_array_equal(found, expected[start : start + count, : found.shape[1]])
                self.assertTrue((expected[start : start + count, found.shape[1] :] == -1).all())
        blocks = b"".join(spool.entry("ids", 4).values())
        np.testing.assert_array_equal(np.frombuffer(blocks, "<i8").reshape(12, 4), expected)


class Rows(SketchCase):
    def test_rows_that_depend_on_each_other_are_refused(self):
        model, x = nn.Linear(4, 3), torch.randn(6, 4)

        def loss(model):
            y = model(x)
            return (y - y.mean(0)).square().sum(1)

        with self.assertRaisesRegex(ValueError, "linear: the loss of a row depends on other rows"):
            self.collect(model, [(6, loss)])


if __name__ == "__main__":
    unittest.main()
