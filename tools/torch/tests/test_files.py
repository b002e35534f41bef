"""What is written, byte for byte, and how much memory it takes."""

import gc
import json
import pathlib
import subprocess
import sys
import tracemalloc
import unittest

import numpy as np
import torch

from ascribe_collect import Collector, write_keys
from ascribe_collect.keys_file import keys_path
from ascribe_collect.safetensors_file import Entry, decode, encode, read, write
from ascribe_collect.spool import Spool
from example_models import perceptron
from sketch_case import SketchCase


class Format(SketchCase):
    def test_the_bytes_are_those_of_the_format(self):
        # The wider values come first, whatever their name: so they are aligned.
        path = self.folder / "file.safetensors"
        part = self.folder / "part"
        part.write_bytes(encode(np.array([1.5, -2.0]), "F32"))
        entries = [Entry("a", "F16", (3,), encode(np.ones(3), "F16")), Entry("größe", "F32", (2, 1), part)]
        write(path, entries, {"a": "b"})
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        self.assertEqual(length % 8, 0)
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
        self.assertEqual(
            header,
            {
                "__metadata__": {"a": "b"},
                "größe": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
                "a": {"dtype": "F16", "shape": [3], "data_offsets": [8, 14]},
            },
        )
        self.assertEqual(data[8 + length :].hex(), "0000c03f000000c0" + "003c" * 3)
        tensors, metadata = read(path)
        np.testing.assert_array_equal(tensors["größe"], [[1.5], [-2.0]])
        self.assertEqual(metadata, {"a": "b"})

    def test_the_package_reads_it_too(self):
        try:
            from safetensors.numpy import load_file
        except ImportError:
            self.skipTest("safetensors is not installed")
        model, x = perceptron(4, 3, 2), torch.randn(5, 4)
        sketch, _ = self.collect(model, [(5, lambda model: model(x).sum(1))])
        again = load_file(self.folder / "sketch.safetensors")
        self.assertEqual(set(again), set(sketch.tensors))
        for name, tensor in again.items():
            np.testing.assert_array_equal(tensor, sketch.tensors[name])

    def test_a_file_cut_off_is_refused(self):
        path = self.folder / "file.safetensors"
        write(path, [Entry("a", "F32", (1,), encode(np.ones(1), "F32"))], {})
        path.write_bytes(path.read_bytes()[:20])
        with self.assertRaisesRegex(ValueError, "no safetensors file"):
            read(path)
        with self.assertRaisesRegex(ValueError, "4 bytes of values, not 8"):
            write(path, [Entry("a", "F32", (2,), encode(np.ones(1), "F32"))], {})
        self.assertEqual([path.name for path in self.folder.iterdir()], ["file.safetensors"])

    def test_bfloat16_rounds_to_nearest_even(self):
        numbers = np.random.default_rng(2).standard_normal(1000).astype(np.float32)
        numbers[:4] = [1 + 2**-8, 1 + 3 * 2**-8, 3.0e38, 1e-10]
        expected = torch.from_numpy(numbers).to(torch.bfloat16).to(torch.float32).numpy()
        np.testing.assert_array_equal(decode(encode(numbers, "BF16"), "BF16"), expected)


class Stored(SketchCase):
    def test_halves_are_written_and_read_back(self):
        model, x = perceptron(4, 3, 2), torch.randn(5, 4)
        full, _ = self.collect(model, [(5, lambda model: model(x).sum(1))])
        for dtype, digits in (("F16", 1e-3), ("BF16", 1e-2)):
            half, _ = self.collect(model, [(5, lambda model: model(x).sum(1))], dtype=dtype)
            self.assert_close(half.inner_products(), full.inner_products(), digits)
            self.assertGreater(np.abs(half.inner_products() - full.inner_products()).max(), 0)

    def test_a_row_that_would_vanish_is_refused(self):
        model, x = perceptron(4, 3), torch.randn(5, 4)
        scale = torch.tensor([1, 1, 1e-10, 1, 1])
        batches = [(5, lambda model: model(x).sum(1) * scale)]
        with self.assertRaisesRegex(ValueError, "0.u: row 2 does not fit F16"):
            self.collect(model, batches, dtype="F16")
        self.collect(model, batches, dtype="BF16")
        with self.assertRaisesRegex(ValueError, "row 2 does not fit F16"):
            self.collect(model, [(5, lambda model: model(x).sum(1) / scale)], dtype="F16")

    def test_tensors_and_keys_have_their_names(self):
        model, x, y = perceptron(4, 3, 2), torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])
        metadata = [{"label": int(label), "title": "Öl"} for label in y]
        sketch, report = self.collect(model, [(y, lambda model: model(x))], finish={"metadata": metadata})
        shapes = {name: tensor.shape for name, tensor in sketch.tensors.items()}
        self.assertEqual(
            shapes,
            {
                "m0.0.u": (5, 1, 3),
                "m0.0.v": (5, 1, 5),
                "m0.2.u": (5, 1, 2),
                "m0.2.v": (5, 1, 4),
                "m0.own": (5,),
            },
        )
        self.assertEqual(sketch.metadata["ascribe.sketch"], "1")
        factored = {"bias": True, "encoding": "factored", "rank": 1, "projection": None}
        self.assertEqual(
            sketch.schema,
            {
                "members": 1,
                "checkpoints": [{"run": 0, "epoch": 1}],
                "loss": "cross-entropy, summed",
                "labels": "true",
                "modules": [
                    {"name": "0", "out": 3, "in": 5, **factored},
                    {"name": "2", "out": 2, "in": 4, **factored},
                ],
            },
        )
        lines = (self.folder / "sketch.keys.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertEqual(json.loads(lines[1]), {"key": "r1", "label": 1, "title": "Öl"})
        self.assertEqual((len(lines), report.rows, report.members), (5, 5, 1))
        self.assertEqual(report.size_bytes, (self.folder / "sketch.safetensors").stat().st_size)
        self.assertIn("5 rows, 1 member(s), 2 layers, 14 values a row and member", str(report))

    def test_keys_stand_beside_the_sketch(self):
        self.assertEqual(keys_path("a/train.safetensors"), pathlib.Path("a/train.keys.jsonl"))
        for metadata, text in (
            ([{"key": "b"}], "row 0 has the key 'a', its metadata another one"),
            ([{"value": float("nan")}], "metadata of row 0 .key 'a'. cannot be written"),
            ([{"value": torch.ones(1)}], "cannot be written"),
        ):
            with self.assertRaisesRegex(ValueError, text):
                write_keys(self.folder / "keys.jsonl", ["a"], metadata)


class Spooled(SketchCase):
    def test_rows_of_another_shape_are_refused(self):
        spool = Spool(self.folder / "sketch")
        self.addCleanup(spool.remove)
        spool.extend_with_zeros("a", (2,), "F32", 3, ragged=False)
        spool.append("a", np.ones((2, 2)), "F32")
        np.testing.assert_array_equal(spool.read("a", 2, 2), [[0, 0], [1, 1]])
        for array, dtype in ((np.ones((1, 3)), "F32"), (np.ones((1, 2)), "F16")):
            with self.assertRaisesRegex(ValueError, "all batches have to have one schema"):
                spool.append("a", array, dtype)

    def test_memory_does_not_grow_with_rows(self):
        """Peak of what numpy and Python take, and bytes in tensors after each batch, for 10 and for 200 batches."""
        model, rows = perceptron(64, 64, 64), 32
        x, y = torch.randn(rows, 64), torch.randint(64, (rows,))
        peaks, sizes, file_bytes = [], [], []
        for batches in (10, 200):
            path = self.folder / f"{batches}.safetensors"
            tracemalloc.start()
            with Collector(model, path) as collector:
                collector.member(run=0, epoch=1)
                held = []
                for batch in range(batches):
                    collector.add_classified(y, lambda model: model(x))
                    if batch in (4, batches - 1):
                        held.append(tensor_bytes())
                collector.finish(map(str, range(rows * batches)))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            sizes.append(held)
            file_bytes.append(path.stat().st_size)
        self.assertGreater(file_bytes[1] - file_bytes[0], 5_000_000, "too little was written to tell")
        # Keys are held, at about 100 bytes each; the values are 1,032 bytes a row.
        self.assertLess(peaks[1] - peaks[0], 1_500_000)
        self.assertEqual(sizes[0][0], sizes[0][1])
        self.assertEqual(sizes[1][0], sizes[1][1])

    def test_memory_is_flat_over_ten_thousand_rows(self):
        """The largest size of a process after 2,000 and 10,000 rows, after the file is written, and after a join."""
        script = pathlib.Path(__file__).with_name("collect_many.py")
        ended = subprocess.run(
            [sys.executable, str(script), str(self.folder)], capture_output=True, text=True, timeout=600
        )
        self.assertEqual(ended.returncode, 0, ended.stderr)
        size_bytes, *largest_kib = map(int, ended.stdout.split())
        self.assertGreater(size_bytes, 25_000_000, "too little was written to tell")
        for later in largest_kib[1:]:
            self.assertLess((later - largest_kib[0]) * 1024, size_bytes / 10, largest_kib)


def tensor_bytes():
    gc.collect()
    tensors = [entry for entry in gc.get_objects() if issubclass(type(entry), torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    unittest.main()
