"""Measures one method on one task in this process, and keeps what was found."""

import json

import numpy
import torch

import evaluation
import training
from methods import all_methods
from methods.base import timed
from networks import linear_names
from stages import key_of, version


def parameters_of(task, setting):
    """Names of the weights that are attributed to, None for all."""
    if not task.has_table or setting == "all":
        return None
    network = task.network()
    return [f"{name}.{side}" for name in linear_names(network) for side in ("weight", "bias")]


def key(task, method, setting):
    packages = ("torch", "numpy", method.library) if method.library else ("torch", "numpy")
    of_runs = {**task.settings, "runs": training.RUNS, "labels": task.y.tolist()}
    return key_of({**method.settings(), "setting": setting, "runs": key_of(of_runs)}, packages)


def measured(stages, task, name, setting, told=print):
    """Folder with figures.json and groups.npz of a method."""
    method = all_methods()[name]

    def make(folder):
        place = training.runs(stages, task)
        checkpoints = torch.load(place / "checkpoints.pt")["checkpoints"]
        found, seconds = timed(method.measure, task, checkpoints, parameters_of(task, setting), place)
        keep(folder, found, task)
        figures = {
            "name": name, "title": method.title, "version": method.library and version(method.library),
            "rereads": method.rereads_training_set, "fit_s": found.fit_s, "single_s": found.single_s,
            "batch_s": found.batch_s, "bytes_a_row": found.bytes_a_row, "notes": found.notes,
            "times": {" ".join(which): times for which, times in found.times.items()},
            "all_s": seconds,
        }
        (folder / "figures.json").write_text(json.dumps(figures, indent=1))

    return stages.once(f"{task.name}-{name}-{setting}", key(task, method, setting), make)


def keep(folder, found, task):
    """What the score needs: sums over the truth's subsets [members, queries, subsets], and how scores spread over rows."""
    subsets = training.half_subsets(len(task.x), training.SUBSETS).numpy()
    if not numpy.isfinite(found.scores).all():
        raise SystemExit("some scores are not finite")
    kept = {
        "sums": evaluation.group_sums(found.scores, subsets),
        "means": found.scores.mean(axis=2, dtype=numpy.float64),
        "deviations": found.scores.std(axis=2, dtype=numpy.float64),
    }
    for which, scores in found.combined.items():
        kept["combined " + " ".join(which)] = evaluation.group_sums(scores, subsets)
    numpy.savez(folder / "groups.npz", **kept)
    # One member's scores as they are, for comparisons row by row.
    numpy.save(folder / "run0-last.npy", found.scores[1] if len(found.scores) > 1 else found.scores[0])
