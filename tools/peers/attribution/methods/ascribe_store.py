"""ascribe itself: its collector, then its program on a store in a temporary folder."""

import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy
import torch

from networks import linear_names, table_names

from .base import SELECTIONS, SINGLE_QUERIES, Measured, Method, processor_seconds, timed

COLLECTED_TOGETHER = 256
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "torch"))


def program_key():
    """Stands for the build of ascribe that is measured."""
    program = pathlib.Path(os.environ["ASCRIBE"])
    return hashlib.sha256(program.read_bytes()).hexdigest()[:16]


def trajectory_of(course, runs):
    """The log that `TrajectoryLog` would hold after these runs."""
    from ascribe_collect import TrajectoryLog

    log = TrajectoryLog(course["p"].shape[2])
    everything = numpy.arange(course["p"].shape[2])
    for number, run in enumerate(runs):
        if number:
            log.next_run()
        for p, rate in zip(course["p"][run], course["rates"]):
            log.record(everything, p)
            log.end_epoch(rate)
    return log


def collect(task, checkpoints, path, x, y, letter, table, course=None, metadata=None, like=None, **settings):
    """Writes a sketch file of all checkpoints, that of queries `like` that of the rows; what it says of itself."""
    from ascribe_collect import Collector, settings_of

    network = task.network()
    if like is None:
        layers = linear_names(network) + (table_names(network) if table else [])
        # The first layer of a perceptron sees the data, whatever the weights are.
        settings.update(layers=layers, shared_input=[] if task.has_table else [layers[0]])
    else:
        settings.update(settings_of(like))
    log = course and trajectory_of(course, sorted({checkpoint["run"] for checkpoint in checkpoints}))
    with Collector(network, path, **settings) as collector:
        for checkpoint in checkpoints:
            collector.member(checkpoint["state"], run=checkpoint["run"], epoch=checkpoint["epoch"])
            for rows in torch.arange(len(x)).split(COLLECTED_TOGETHER):
                collector.add_classified(y[rows], lambda network, rows=rows: network(x[rows]))
        return collector.finish([f"{letter}{row}" for row in range(len(x))], metadata, log)


class Store:
    """A store in a folder, asked through the program that ASCRIBE names."""

    def __init__(self, folder):
        self.folder, self.program = pathlib.Path(folder), os.environ["ASCRIBE"]
        self.run("create", "store", "--encoder", "hashed:16")

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--format", "json"))


class Ascribe(Method):
    rereads_training_set = False
    takes_table = True

    def __init__(self, curvature, title, damping=None, **collected):
        name = f"ascribe-{curvature}" + (f"-{damping:g}" if damping else "")
        super().__init__(name, title + (f", --damping {damping:g}" if damping else ""), None)
        self.curvature, self.damping, self.collected = curvature, damping, collected

    def settings(self):
        more = {"collected": self.collected, "course": "after each epoch", "program": program_key()}
        return {**super().settings(), **more}

    def measure(self, task, checkpoints, parameters, place):
        course = torch.load(place / "checkpoints.pt")
        self.table = task.has_table and parameters is None
        combined, times, notes = {}, {}, {}
        for runs in ("one", "five"):
            members = SELECTIONS[runs, "both"]
            chosen = [checkpoints[member] for member in members]
            with tempfile.TemporaryDirectory() as folder:
                store, fit_s = self.fill(folder, task, chosen, course, notes)
                scores, batch_s = self.ask_all(store, task, chosen)
                combined.update({(runs, which): found for which, found in scores.items()})
                single_s = self.ask_single(store, task, chosen, notes)
                times[runs, "both"] = {"fit_s": fit_s, "single_s": single_s, "batch_s": batch_s}
                if runs == "five":
                    alone = [self.scored(store, "--only-members", str(member)) for member in range(len(members))]
                    stats = store.json("stats", "store")
                    size = sum(file.stat().st_size for file in (store.folder / "store").rglob("*") if file.is_file())
        notes["stats"] = stats
        rows = len(task.x)
        return Measured(numpy.stack(alone), 0.0, 0.0, 0.0, size / rows, combined, times, notes)

    def fill(self, folder, task, checkpoints, course, notes):
        store = Store(folder)
        begun = processor_seconds()
        metadata = [{"label": int(label)} for label in task.y]
        path = store.folder / "train.safetensors"
        report = collect(
            task, checkpoints, path, task.x, task.y, "r", self.table, course, metadata=metadata, **self.collected
        )
        collected = processor_seconds()
        store.run("import", "store", "--keys", "train.keys.jsonl", "--sketches", "train.safetensors")
        imported = processor_seconds()
        store.run("fit", "store", "--curvature", self.curvature, "--damping", str(self.damping or "auto"))
        done = processor_seconds()
        notes[f"fit of {len(checkpoints)} members"] = {
            "collect_s": collected - begun, "import_s": imported - collected, "fit_s": done - imported,
            "collected": str(report),
        }
        return store, done - begun

    def queries(self, store, task, checkpoints, rows, name):
        begun = processor_seconds()
        x, y = task.query_x[rows], task.query_y[rows]
        path = store.folder / f"{name}.safetensors"
        like = store.folder / "train.safetensors"
        collect(task, checkpoints, path, x, y, "q", self.table, measurement="margin", like=like)
        return processor_seconds() - begun

    def scored(self, store, *arguments):
        store.run("score", "store", "--queries", "queries.safetensors", "--out", "scores.npy", *arguments)
        return numpy.load(store.folder / "scores.npy")

    def ask_all(self, store, task, checkpoints):
        """Scores by which members are asked, and seconds a query of all queries at once."""
        collected_s = self.queries(store, task, checkpoints, slice(None), "queries")
        begun = processor_seconds()
        scores = {"both": self.scored(store)}
        seconds = collected_s + processor_seconds() - begun
        for which, start in (("first", 0), ("last", 1)):
            members = ",".join(str(member) for member in range(start, len(checkpoints), 2))
            scores[which] = self.scored(store, "--only-members", members)
        return scores, seconds / len(task.query_x)

    def ask_single(self, store, task, checkpoints, notes):
        """Seconds for a query's gradients and its answer, by a process of its own."""
        collected, inside, outside = [], [], []
        for row in range(SINGLE_QUERIES + 1):
            collected.append(self.queries(store, task, checkpoints, slice(row, row + 1), "single"))
            answer, seconds = timed(store.json, "query", "store", "--sketch", "single.safetensors")
            inside.append(answer["elapsed_ms"] / 1e3)
            outside.append(seconds)
        gradient_s, answer_s, process_s = (statistics.median(values[1:]) for values in (collected, inside, outside))
        notes[f"query of {len(checkpoints)} members"] = {
            "gradient_s": gradient_s, "elapsed_s": answer_s, "process_s": process_s,
        }
        return gradient_s + process_s


def methods():
    yield Ascribe("margin", "ascribe, margin (default)")
    yield Ascribe("margin", "ascribe, margin", damping=1.5e-4)
    yield Ascribe("fisher", "ascribe, Fisher")
