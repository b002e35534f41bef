"""Several runs of one data set, joined."""

import json
import multiprocessing
import unittest

import numpy as np
import torch

from ascribe_collect import Collector, TrajectoryLog, merge_shards, next_token_labels, shard_rows
from example_models import LanguageModel, perceptron
from sketch_case import SketchCase


def examples():
    torch.manual_seed(8)
    model = LanguageModel(tied=False)
    tokens = torch.randint(1, 13, (11, 8))
    for row in range(11):
        tokens[row, 2 + (row * 5) % 7 :] = 0
    return model, tokens


def collect_shard(path, index, count, settings):
    """In a process of its own, as on another device."""
    torch.set_num_threads(1)
    model, tokens = examples()
    rows = shard_rows(len(tokens), index, count)
    with Collector(model, path, shard=(index, count), **settings) as collector:
        for epoch in (1, 2):
            collector.member(run=0, epoch=epoch)
            for row in rows:
                part = tokens[row : row + 1]
                collector.add_tokens(
                    next_token_labels(part, token_mask=part > 0), lambda model: model(part), token_mask=part > 0
                )
        collector.finish([f"r{row}" for row in rows], [{"row": row} for row in rows])


class Shards(SketchCase):
    def shards(self, count, **settings):
        paths = [self.folder / f"{count}.{index}.safetensors" for index in range(count)]
        context = multiprocessing.get_context("spawn")
        processes = [
            context.Process(target=collect_shard, args=(path, index, count, settings))
            for index, path in enumerate(paths)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            self.assertEqual(process.exitcode, 0)
        return paths

    def test_joined_shards_are_the_whole(self):
        settings = {"rank": 2, "factors": True}
        collect_shard(self.folder / "whole.safetensors", 0, 1, settings)
        paths = self.shards(3, **settings)
        self.assertEqual(merge_shards(paths, self.folder / "joined.safetensors"), 11)
        whole, joined = self.read("whole.safetensors"), self.read("joined.safetensors")
        self.assertEqual(joined.schema, whole.schema)
        self.assertEqual(set(joined.tensors), set(whole.tensors))
        for name, tensor in whole.tensors.items():
            if name.endswith((".A", ".B")):
                self.assert_close(joined.tensors[name], tensor, 1e-6)
            else:
                np.testing.assert_array_equal(joined.tensors[name], tensor, name)
        terms = {self.read(path.name).schema["modules"][0]["terms"] for path in paths}
        self.assertGreater(len(terms), 1, "all shards have as many terms: nothing was widened")
        self.assertEqual(joined.metadata["ascribe.factor_counts"], whole.metadata["ascribe.factor_counts"])
        self.assertNotIn("ascribe.shard", joined.metadata)
        lines = (self.folder / "joined.keys.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line) for line in lines], [{"key": f"r{row}", "row": row} for row in range(11)])

    def test_shards_draw_labels_of_their_own(self):
        model, x = perceptron(3, 4), torch.ones(50, 3)
        drawn = []
        for index in (0, 1):
            path = self.folder / f"{index}.safetensors"
            with Collector(model, path, labels="sampled", shard=(index, 2)) as collector:
                collector.member(run=0, epoch=1)
                collector.add_classified(torch.zeros(50, dtype=torch.int64), lambda model: model(x))
                collector.finish([f"{index}.{row}" for row in range(50)])
            drawn.append(self.read(path.name).tensors["m0.0.u"])
        self.assertGreater(np.abs(drawn[0] - drawn[1]).max(), 0.1)

    def write(self, name, rows, keys, trajectory=None, model=None, **settings):
        with Collector(model or perceptron(3, 4, 2), self.folder / name, **settings) as collector:
            collector.member(run=0, epoch=1)
            x = torch.randn(rows, 3)
            collector.add_classified(torch.zeros(rows, dtype=torch.int64), lambda model: model(x))
            collector.finish(keys, trajectory=trajectory)
        return self.folder / name

    def log(self, rows, learning_rate=0.1):
        log = TrajectoryLog(rows)
        log.record(range(rows), np.linspace(0.1, 0.9, rows))
        log.end_epoch(learning_rate)
        return log

    def test_trajectories_are_joined_or_given(self):
        own = [self.write(f"{name}.safetensors", 2, [name, name * 2], self.log(2)) for name in "ab"]
        none = [self.write(f"{name}.safetensors", 2, [name, name * 2]) for name in "cd"]
        out = self.folder / "joined.safetensors"
        merge_shards(own, out)
        joined = self.read("joined.safetensors").tensors
        np.testing.assert_allclose(joined["trajectory.p"][:, 0], [0.1, 0.9, 0.1, 0.9], rtol=1e-6)
        self.assertEqual(joined["m0.own"].shape, (4,))
        merge_shards(none, out, self.log(4))
        np.testing.assert_array_equal(
            self.read("joined.safetensors").tensors["trajectory.p"], self.log(4).tensors()["trajectory.p"]
        )
        other = self.write("e.safetensors", 2, ["e", "ee"], self.log(2, learning_rate=0.2))
        for paths, log, text in (
            (own, self.log(4), "has a trajectory of its own"),
            (none, self.log(3), "a trajectory of 3 rows for 4 rows"),
            ([own[0], other], None, "different epochs or learning rates"),
            ([own[0], none[0]], None, "trajectory.p is in one of"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, text):
                merge_shards(paths, out, log)

    def test_what_does_not_fit_is_refused_and_leaves_nothing(self):
        first = self.write("0.safetensors", 2, ["a", "b"], shard=(0, 2))
        second = self.write("1.safetensors", 2, ["c", "d"], shard=(1, 2))
        again = self.write("again.safetensors", 2, ["b", "e"])
        other = self.write("other.safetensors", 2, ["f", "g"], model=perceptron(3, 5, 2))
        half = self.write("half.safetensors", 2, ["h", "i"], dtype="F16")
        few = self.write("few.safetensors", 2, ["j", "k"])
        few.with_name("few.keys.jsonl").write_text('{"key": "j"}\n')
        broken = self.folder / "broken.safetensors"
        broken.write_bytes(first.read_bytes()[:-1])
        plain = self.folder / "plain.safetensors"
        plain.write_bytes(b"\x02" + b"\0" * 7 + b"{}")
        out = self.folder / "out.safetensors"
        for paths, text in (
            ([], "nothing to join"),
            ([second, first], "is shard 1/2, not 0/2: name all of them, in order"),
            ([first], "is shard 0/2, not 0/1"),
            ([again, again], "the key 'b' of .* is in .* too"),
            ([again, other], "has another schema"),
            ([again, half], "is F16"),
            ([again, few], "has 1 keys for 2 rows"),
            ([again, broken], "no safetensors file"),
            ([plain], "is no sketch file"),
        ):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, text):
                merge_shards(paths, out)
            self.assertFalse([path for path in self.folder.iterdir() if path.name.startswith("out.safetensors")])
        self.assertEqual(merge_shards([first, second], out), 4)

    def test_ranks_are_widened(self):
        """A layer that the rows of one shard do not call, and those of the other call twice."""
        model = torch.nn.ModuleDict({"always": torch.nn.Linear(4, 4), "sometimes": torch.nn.Linear(4, 4)})
        x = torch.randn(2, 4)
        once = lambda model: model["always"](x).square().sum(1)  # noqa: E731
        more = lambda model: model["sometimes"](model["sometimes"](model["always"](x))).square().sum(1)  # noqa: E731
        paths = []
        for index, loss in enumerate((once, more)):
            self.collect(model, [(2, loss)], f"{index}.safetensors", finish={"metadata": [{}, {}]})
            paths.append(self.folder / f"{index}.safetensors")
        (self.folder / "1.keys.jsonl").write_text('{"key": "r2"}\n{"key": "r3"}\n')
        merge_shards(paths, self.folder / "joined.safetensors")
        joined, shards = self.read("joined.safetensors"), [self.read(path.name) for path in paths]
        self.assertEqual([shard.schema["modules"][1]["rank"] for shard in shards], [1, 2])
        self.assertEqual(joined.schema, shards[1].schema)
        for name in ("always", "sometimes"):
            apart = np.concatenate([shard.gradient(name) for shard in shards])
            np.testing.assert_array_equal(joined.gradient(name), apart)

    def test_rows_of_shards(self):
        for rows, count in ((10, 3), (2, 4), (7, 1)):
            together = [row for index in range(count) for row in shard_rows(rows, index, count)]
            self.assertEqual(together, list(range(rows)))
        for index, count in ((2, 2), (-1, 2), (0, 0)):
            with self.assertRaisesRegex(ValueError, "shard .* counted from 0"):
                shard_rows(4, index, count)


if __name__ == "__main__":
    unittest.main()
