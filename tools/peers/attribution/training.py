"""Trains many networks at once, each on rows of its own: their weights are stacked, but no number passes between them.

A step's loss is the sum over networks of each one's mean over its batch, so that a network's gradient is its own, and
Adam works weight by weight.
"""

import json

import numpy
import torch
from safetensors.numpy import save_file
from torch.func import functional_call, vmap
from torch.nn import functional

from networks import margins
from stages import key_of

SUBSETS, SEEDS, RUNS = 100, 3, 5
# Networks that are trained together.
TOGETHER = {"digits": 100, "tate": 50, "transformer": 10}
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Kingma & Ba, arXiv 1412.6980, algorithm 1."""

    def __init__(self, weights):
        self.weights, self.step = weights, 0
        self.first = [torch.zeros_like(weight) for weight in weights]
        self.second = [torch.zeros_like(weight) for weight in weights]

    @torch.no_grad()
    def update(self, gradients, learning_rate):
        self.step += 1
        left = [1 - beta**self.step for beta in BETAS]
        for weight, gradient, first, second in zip(self.weights, gradients, self.first, self.second):
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            weight.addcdiv_(first, (second / left[1]).sqrt_().add_(EPSILON), value=-learning_rate / left[0])


def stacked_networks(task, seeds):
    """A network to call, and the first weights of one network a seed, by name [networks, ...]."""
    states = []
    for seed in seeds:
        torch.manual_seed(seed)
        states.append(dict(task.network().named_parameters()))
    weights = {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
    return task.network(), {name: weight.requires_grad_() for name, weight in weights.items()}


def train(task, subsets, seeds, on_epoch=None):
    """Weights by name [networks, ...] of one network for each of `subsets` [networks, rows] and seeds.

    `on_epoch(epoch, learning rate, weights)` sees the weights after each epoch.
    """
    network, weights = stacked_networks(task, seeds)
    names, values = list(weights), list(weights.values())
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    logits_of = vmap(lambda own, x: functional_call(network, own, (x,)))
    adam, given = Adam(values), task.training
    for epoch in range(1, given["epochs"] + 1):
        learning_rate = given["learning_rate"] * (given["epochs"] + 1 - epoch) / given["epochs"]
        shuffled = torch.stack(
            [subset[torch.randperm(len(subset), generator=order)] for subset, order in zip(subsets, orders)]
        )
        steps = -(-shuffled.shape[1] // given["batch"])
        for rows in torch.tensor_split(shuffled, steps, dim=1):
            logits = logits_of(weights, task.x[rows])
            losses = functional.cross_entropy(logits.flatten(0, 1), task.y[rows].flatten(), reduction="none")
            adam.update(torch.autograd.grad(losses.sum() / rows.shape[1], values), learning_rate)
        if on_epoch is not None:
            on_epoch(epoch, learning_rate, dict(zip(names, (value.detach() for value in values))))
    return {name: value.detach() for name, value in weights.items()}


def half_subsets(rows, count, seed=0):
    """Half of the rows for each of `count` subsets, ascending int64 [count, rows // 2]."""
    numbers = numpy.random.default_rng(seed)
    halves = [numpy.sort(numbers.permutation(rows)[: rows // 2]) for _ in range(count)]
    return torch.from_numpy(numpy.stack(halves))


def truth(stages, task, told=print):
    """Folder with truth.safetensors: margins of the queries under networks trained on half of the rows."""
    halves = half_subsets(len(task.x), SUBSETS)
    jobs = [(subset, seed) for subset in range(SUBSETS) for seed in range(SEEDS)]
    together = TOGETHER[task.name]
    settings = {**task.settings, "subsets": SUBSETS, "seeds": SEEDS, "together": together}
    key = key_of(settings)
    pieces = []
    for first in range(0, len(jobs), together):
        piece = jobs[first : first + together]

        def measure(folder, piece=piece):
            told(f"{task.name}: training {len(piece)} networks on halves")
            chosen = torch.stack([halves[subset] for subset, _ in piece])
            weights = train(task, chosen, [1000 + SEEDS * subset + seed for subset, seed in piece])
            network = task.network()
            with torch.no_grad():
                logits = vmap(lambda own: functional_call(network, own, (task.query_x,)))(weights)
                found = torch.stack([margins(one.double(), task.query_y) for one in logits])
            numpy.save(folder / "margins.npy", found.numpy().astype(numpy.float32))

        place = stages.once(f"{task.name}-truth-piece-{first}", key, measure)
        pieces.append(numpy.load(place / "margins.npy"))
    outputs = numpy.concatenate(pieces).reshape(SUBSETS, SEEDS, -1)

    def write(folder):
        marks = numpy.zeros((SUBSETS, len(task.x)), numpy.uint8)
        numpy.put_along_axis(marks, halves.numpy(), 1, axis=1)
        keys = {
            "train_keys": json.dumps([f"r{row}" for row in range(len(task.x))]),
            "query_keys": json.dumps([f"q{row}" for row in range(len(task.query_x))]),
        }
        save_file({"subsets": marks, "outputs": outputs}, folder / "truth.safetensors", keys)

    return stages.once(f"{task.name}-truth", key, write)


class Course:
    """Probabilities of the rows' own labels after each epoch, and the early checkpoint of each run."""

    def __init__(self, task, runs):
        self.task = task
        self.probabilities, self.rates, self.early = [], [], [None] * runs
        chance = float(torch.bincount(task.y).max()) / len(task.y)
        # Three standard errors above always naming the most frequent class.
        self.beats_chance = chance + 3 * (chance * (1 - chance) / len(task.y)) ** 0.5

    def epoch(self, number, learning_rate, weights):
        network = self.task.network()
        with torch.no_grad():
            logits = vmap(lambda own: functional_call(network, own, (self.task.x,)))(weights)
        labels = self.task.y[None, :, None].expand(len(logits), -1, 1)
        self.probabilities.append(torch.softmax(logits, dim=2).gather(2, labels)[:, :, 0])
        self.rates.append(learning_rate)
        right = (logits.argmax(dim=2) == self.task.y).double().mean(dim=1)
        for run, early in enumerate(self.early):
            if early is None and right[run] > self.beats_chance:
                self.early[run] = (number, {name: value[run].clone() for name, value in weights.items()})


def runs(stages, task, told=print):
    """Folder with checkpoints.pt of the runs on all rows: a list of {run, epoch, state}, first and last of each run, and
    the course of training, p [runs, epochs, rows] and learning rates [epochs]."""

    def make(folder):
        told(f"{task.name}: training {RUNS} networks on all rows")
        course = Course(task, RUNS)
        everything = torch.arange(len(task.x)).repeat(RUNS, 1)
        last = train(task, everything, list(range(1, RUNS + 1)), course.epoch)
        checkpoints = []
        for run in range(RUNS):
            if course.early[run] is None:
                raise SystemExit(f"{task.name}: run {run} never beats chance")
            epoch, state = course.early[run]
            checkpoints.append({"run": run, "epoch": epoch, "state": state})
            state = {name: value[run].clone() for name, value in last.items()}
            checkpoints.append({"run": run, "epoch": task.training["epochs"], "state": state})
        kept = {"checkpoints": checkpoints, "p": torch.stack(course.probabilities, 1), "rates": course.rates}
        torch.save(kept, folder / "checkpoints.pt")

    settings = {**task.settings, "runs": RUNS, "labels": task.y.tolist(), "course": "after each epoch"}
    return stages.once(f"{task.name}-runs", key_of(settings), make)
