"""Collections that are ended in the middle and taken up again."""

import json
import pathlib
import signal
import subprocess
import sys
import unittest

import torch

from ascribe_collect import Collector
from ascribe_collect.spool import Spool
from example_models import perceptron
from sketch_case import SketchCase

SCRIPT = pathlib.Path(__file__).with_name("collect_slowly.py")


class Resumed(SketchCase):
    def run_script(self, path, kill_at, *settings):
        command = [sys.executable, str(SCRIPT), str(path), str(kill_at), *settings]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def test_a_killed_collection_ends_in_the_same_bytes(self):
        whole = self.folder / "whole.safetensors"
        self.assertEqual(self.run_script(whole, 0, "factors").returncode, 0)
        for name, kills in (("once", [32]), ("twice", [24, 12])):
            path = self.folder / f"{name}.safetensors"
            before = 0
            for kill_at in kills:
                killed = self.run_script(path, kill_at, "factors")
                self.assertEqual(killed.returncode, -signal.SIGKILL, killed.stderr)
                before += kill_at
            ended = self.run_script(path, 0, "factors")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            done = [line for line in ended.stdout.splitlines() if line.startswith("done")]
            self.assertEqual(done, [f"done {min(before, 24)}", f"done {max(before - 24, 0)}"])
            self.assertEqual(path.read_bytes(), whole.read_bytes(), name)
            self.assertEqual(
                path.with_name(f"{name}.keys.jsonl").read_bytes(), whole.with_name("whole.keys.jsonl").read_bytes()
            )
        names = [path.name for path in self.folder.iterdir()]
        self.assertFalse([name for name in names if "spool" in name], "a finished collection left its folder")

    def collector(self, name="sketch.safetensors", **settings):
        torch.manual_seed(1)
        return Collector(perceptron(4, 3, 2), self.folder / name, resume=True, **settings)

    def add(self, collector, rows, seed=0):
        x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))
        collector.add(rows, lambda model: model(x).square().sum(1))

    def test_what_an_exception_ended_is_taken_up_again(self):
        with self.assertRaisesRegex(RuntimeError, "no more"), self.collector() as collector:
            self.assertEqual(collector.member(run=0, epoch=1), 0)
            self.add(collector, 3)
            raise RuntimeError("no more")
        with self.collector() as collector:
            self.assertEqual(collector.member(run=0, epoch=1), 3)
            with self.assertRaisesRegex(ValueError, "3 rows of this member are there already: pass over them"):
                self.add(collector, 2)
            with self.assertRaisesRegex(ValueError, "in the middle of this batch"):
                collector.skip(4)
            self.assertTrue(collector.skip(3))
            self.assertFalse(collector.skip(2))
            self.add(collector, 2, seed=1)
            collector.finish(map(str, range(5)))
        with Collector(perceptron(4, 3, 2), self.folder / "plain.safetensors") as collector:
            torch.manual_seed(1)
            collector.member(perceptron(4, 3, 2), run=0, epoch=1)
            self.add(collector, 3)
            self.add(collector, 2, seed=1)
            collector.finish(map(str, range(5)))
        self.assertEqual(
            (self.folder / "sketch.safetensors").read_bytes(), (self.folder / "plain.safetensors").read_bytes()
        )

    def test_another_collection_does_not_go_on(self):
        with self.collector() as collector:
            collector.member(run=0, epoch=1)
            self.add(collector, 3)
            with self.assertRaisesRegex(ValueError, "another process collects into"):
                self.collector()
        with self.assertRaisesRegex(ValueError, "begun with other settings or another model"):
            self.collector(rank=2)
        with self.assertRaisesRegex(ValueError, "begun with other settings or another model"):
            Collector(perceptron(4, 5, 2), self.folder / "sketch.safetensors", resume=True)
        with self.collector() as collector:
            with self.assertRaisesRegex(ValueError, "member 0 was begun as .*'epoch': 1.*, not as .*'epoch': 2"):
                collector.member(run=0, epoch=2)

    def test_members_that_were_begun_have_to_be_begun_again(self):
        with self.collector() as collector:
            for epoch in (1, 2):
                collector.member(run=0, epoch=epoch)
                self.add(collector, 3)
        with self.collector() as collector:
            self.assertEqual(collector.member(run=0, epoch=1), 3)
            collector.skip(3)
            with self.assertRaisesRegex(ValueError, "2 members were begun before, but only 1 now"):
                collector.finish("abc")
            with self.assertRaisesRegex(ValueError, "member 0 has more rows than the first member"):
                self.add(collector, 1)
            self.assertEqual(collector.member(run=0, epoch=2), 3)
            self.assertTrue(collector.skip(3))
            collector.finish("abc")

    def test_damage_is_refused(self):
        cases = (
            (lambda folder: (folder / "0.part").write_bytes(b"1" * 36), "0.part is not as it was left"),
            (lambda folder: (folder / "0.part").write_bytes(b"1"), "0.part lacks 35 of 36 bytes"),
            (lambda folder: (folder / "0.part").unlink(), "0.part is not as it was left"),
            (lambda folder: (folder / "journal.json").write_text("00000000 {}"), "journal.json is damaged"),
            (lambda folder: (folder / "journal.json").write_bytes(b"\xff"), "journal.json is damaged"),
        )
        for number, (damage, text) in enumerate(cases):
            name = f"{number}.safetensors"
            with self.collector(name) as collector:
                collector.member(run=0, epoch=1)
                self.add(collector, 3)
            folder = self.folder / f".{name}.spool"
            damage(folder)
            with self.assertRaisesRegex(ValueError, text):
                self.collector(name)

    def test_a_spool_goes_on_from_its_last_commit(self):
        path = self.folder / "rows"
        spool = Spool(path, keep=True)
        spool.append("a", torch.ones(2, 3).numpy(), "F32")
        spool.commit({"rows": 2}, {"sums": torch.eye(2).numpy()})
        spool.append("a", torch.zeros(1, 3).numpy(), "F32")
        spool.append("b", torch.zeros(1, 3).numpy(), "F32")
        spool.release()
        again = Spool(path, keep=True)
        self.addCleanup(again.remove)
        self.assertEqual((again.rows("a"), again.rows("b"), again.state), (2, 0, {"rows": 2}))
        self.assertEqual(again.arrays["sums"].tolist(), [[1, 0], [0, 1]])
        again.commit({"rows": 3}, {})
        files = sorted(path.name for path in again.folder.iterdir())
        self.assertEqual(files, ["0.part", "journal.json", "lock"])
        journal = (again.folder / "journal.json").read_text().split(" ", 1)[1]
        self.assertEqual(json.loads(journal)["parts"]["a"]["size"], 24)


if __name__ == "__main__":
    unittest.main()
