"""How well wrong labels are found: AUC on rows of which 10% get another label, for three seeds.

Ours and cleanlab rank rows as in tools/peers/labels; self-influence of the other libraries is that of a network trained on
the wrong labels, at its last checkpoint.
"""

import importlib.util
import json
import pathlib

import numpy
import torch

import training
from methods import all_methods
from methods.ascribe_store import program_key
from stages import key_of

SEEDS, FLIPPED = 3, 0.1
# Self-influence of these; both kinds of a library are told apart by their names.
SELF_INFLUENCE = ("kronfluence-ekfac-heuristic-true", "traker-512-0.1")
TASKS = ("digits", "tate")


def beside_cleanlab():
    """The module of tools/peers/labels."""
    place = pathlib.Path(__file__).resolve().parents[1] / "labels" / "compare.py"
    spec = importlib.util.spec_from_file_location("beside_cleanlab", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def self_influences(stages, task):
    """(title, scores): high for rows that the network fits for their own sake."""
    place = training.runs(stages, task)
    state = torch.load(place / "checkpoints.pt")["checkpoints"][1]["state"]
    for name in SELF_INFLUENCE:
        method = all_methods()[name]
        network = task.network()
        network.load_state_dict(state)
        network.eval()
        fitted = network if name.startswith("traker") else method.fit(network, task, None)
        yield method.title + ", self-influence", numpy.asarray(method.self_influence(fitted, task))


def found(stages, task, seed, program):
    """AUC by method on one drawing of wrong labels; computed once."""
    beside = beside_cleanlab()
    true = task.y.numpy()
    labels = beside.flip(true, FLIPPED, seed)
    wrong = labels != true

    def make(folder):
        features = task.x.numpy()
        figures = {
            name: measured[0]
            for name, measured in beside.ascribe_rows(program, features, labels, true, wrong, seed)
            if name in ("ascribe, audit", "ascribe, audit without a head")
        }
        for name, scores in beside.cleanlab_scores(features, labels, seed):
            figures[name] = beside.measure(scores, wrong)[0]
        for name, scores in self_influences(stages, task.with_labels(torch.from_numpy(labels))):
            figures[name] = beside.measure(scores, wrong)[0]
        (folder / "auc.json").write_text(json.dumps(figures, indent=1))

    settings = {"task": task.settings, "seed": seed, "labels": labels.tolist(), "self": SELF_INFLUENCE, "revision": 1}
    key = key_of({**settings, "program": program_key()}, ("torch", "cleanlab", "scikit-learn", "kronfluence", "traker"))
    return json.loads((stages.once(f"{task.name}-labels-{seed}", key, make) / "auc.json").read_text())


def table(stages, task, program):
    """Lines of Markdown: AUC in the mean and the least over the seeds, highest first."""
    by_seed = [found(stages, task, seed, program) for seed in range(SEEDS)]
    means = {name: numpy.mean([figures[name] for figures in by_seed]) for name in by_seed[0]}
    yield f"| {task.title}, {FLIPPED:.0%} wrong labels, {SEEDS} seeds | AUC | least |"
    yield "| --- | --- | --- |"
    for name in sorted(means, key=means.get, reverse=True):
        least = min(figures[name] for figures in by_seed)
        yield f"| {name} | {means[name]:.4f} | {least:.4f} |".replace("| 0.", "| .")
