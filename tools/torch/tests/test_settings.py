"""Encodings, ranks and projections by name."""

import unittest

import torch

from ascribe_collect import Collector, Projection, settings_of
from ascribe_collect.projection import rademacher
from example_models import LanguageModel, Transformer
from sketch_case import SketchCase


class ByName(SketchCase):
    def test_layers_may_be_written_in_different_ways(self):
        model, tokens, labels = Transformer(), torch.randint(1, 20, (4, 5)), torch.randint(3, (4,))
        batches = [(labels, lambda model: model(tokens))]
        full, _ = self.collect(model, batches, "full.safetensors", rank=8)
        sketch, _ = self.collect(
            model,
            batches,
            encoding={"blocks.0.up": "dense", "embedding": "sparse"},
            rank={"blocks.0.down": 3},
            projection={"blocks.0.up": Projection(3, 4, 5), "blocks.1.up": Projection(4, None, 2), "head": None},
        )
        modules = {module["name"]: module for module in sketch.schema["modules"]}
        self.assertEqual(modules["blocks.0.up"]["encoding"], "dense")
        self.assertEqual(modules["blocks.0.up"]["projection"], {"kind": "rademacher", "seed": 3, "out": 4, "in": 5})
        self.assertEqual(modules["blocks.1.up"]["projection"], {"kind": "rademacher", "seed": 4, "out": None, "in": 2})
        self.assertEqual([modules[name]["rank"] for name in ("blocks.0.down", "blocks.1.down")], [3, 1])
        self.assertIsNone(modules["head"]["projection"])
        left, right = rademacher(3, "blocks.0.up", "out", 4, 16), rademacher(3, "blocks.0.up", "in", 5, 9)
        self.assert_close(sketch.gradient("blocks.0.up"), left @ full.gradient("blocks.0.up") @ right.T)

    def test_a_table_by_another_side_is_refused(self):
        tied, plain = LanguageModel(), LanguageModel(tied=False)
        never = "the side of the vocabulary is never projected"
        for model, settings, text in (
            (plain, {"encoding": {"words": "dense"}}, "words is a table, which is written sparse"),
            (plain, {"projection": {"words": Projection(1, 4, 4)}}, f"words is a table: {never}"),
            (tied, {"projection": {"words": Projection(1, 4, 4)}}, f"words shares its weight with a table: {never}"),
            (plain, {"encoding": {"head": "thin"}}, "encoding of head is 'thin'"),
            (plain, {"projection": {"nothing": None}}, "'nothing' is not a collected layer"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, text):
                Collector(model, self.folder / "sketch.safetensors", **settings)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_queries_are_like_the_rows(self):
        for tied, more in ((False, {}), (True, {"lookups": ["words"]}), (True, {"projection": Projection(2, 4, 4)})):
            model, rows, query = LanguageModel(tied=tied), torch.randint(1, 13, (4, 6)), torch.tensor([[3, 3, 4, 3]])

            def collect(name, tokens, model=model, **settings):
                with Collector(model, self.folder / name, **settings) as collector:
                    collector.member(run=0, epoch=1)
                    collector.add_tokens(tokens, lambda model: model(tokens))
                    collector.finish(map(str, range(len(tokens))))
                return self.read(name)

            encoding = {"blocks.0.up": "dense"}
            train = collect("train.safetensors", rows, rank={"words": 3}, encoding=encoding, dtype="BF16", **more)
            alike = collect("query.safetensors", query, **settings_of(self.folder / "train.safetensors"))
            self.assertEqual(alike.schema, train.schema)
            own = collect("own.safetensors", query)
            self.assertNotEqual(own.schema, train.schema)

    def test_settings_of_what_is_no_sketch_are_refused(self):
        path = self.folder / "plain.safetensors"
        path.write_bytes(b"\x02" + b"\0" * 7 + b"{}")
        with self.assertRaisesRegex(ValueError, "plain.safetensors is no sketch file"):
            settings_of(path)

    def test_a_projection_for_all_leaves_vocabularies_as_they_are(self):
        for tied in (True, False):
            with Collector(
                LanguageModel(tied=tied), self.folder / "sketch.safetensors", projection=Projection(1, 4, 4)
            ) as collector:
                shapes = {encoder.layer.name: encoder.widths for encoder in collector._encoders}
                self.assertEqual(shapes["words"][0], 13 if tied else 4)
                self.assertEqual(shapes["blocks.0.up"], (4, 4))


if __name__ == "__main__":
    unittest.main()
