"""What was measured of all methods on a task, brought to scores with intervals."""

import dataclasses
import json

import numpy
from safetensors.numpy import load_file

import evaluation
import measuring
import training
from methods import all_methods
from methods.base import SELECTIONS

OURS = "ascribe-margin"
RUNS = ("one", "five")


@dataclasses.dataclass
class Line:
    """A method with one or five runs: how its members were taken together, and how well that did."""

    name: str
    title: str
    runs: str
    # Of "first", "last", "both"; then "mean", "standardised" or "own", the library's own way.
    members: str
    combined: str
    lds: list
    difference: list
    figures: dict
    groups: numpy.ndarray = None

    def seconds(self, which):
        """Processor seconds of the members that were taken."""
        times = self.figures["times"].get(f"{self.runs} both")
        return times[which] if times else self.figures[which] * len(SELECTIONS[self.runs, self.members])


def candidates(groups, runs):
    """Group scores [queries, subsets] by members and by how they are taken together."""
    for (of, members), places in SELECTIONS.items():
        if of != runs:
            continue
        if f"combined {runs} {members}" in groups:
            yield members, "own", groups[f"combined {runs} {members}"]
        sums, deviations = groups["sums"][places], groups["deviations"][places]
        yield members, "mean", sums.mean(axis=0)
        if len(places) > 1:
            # Centring moves all of a query's group scores alike: halves have the same number of rows.
            yield members, "standardised", (sums / numpy.maximum(deviations, 1e-300)[:, :, None]).mean(axis=0)


class Results:
    """Everything that is kept of a task."""

    def __init__(self, stages, task):
        self.stages, self.task = stages, task
        place = training.truth(stages, task)
        self.truth = evaluation.Truth(load_file(place / "truth.safetensors")["outputs"])
        self.draws = {}

    def lines(self, setting):
        """Lines of all methods that were measured, ours first; of peers the best way to take members together.

        Beside what takes in all weights stands what takes in linear layers alone: they are asked about the same networks.
        """
        found = []
        for name, method in all_methods().items():
            own = setting if method.takes_table else "linear"
            place = self.stages.place(f"{self.task.name}-{name}-{own}", measuring.key(self.task, method, own))
            if not place.exists():
                continue
            figures = json.loads((place / "figures.json").read_text())
            if own != setting:
                figures["title"] += " (linear layers alone)"
            groups = numpy.load(place / "groups.npz")
            found += [self.line(figures, dict(groups), runs) for runs in RUNS]
        self.compare(found)
        return found

    def line(self, figures, groups, runs):
        ways = []
        for members, combined, scores in candidates(groups, runs):
            # Ours is taken as it answers by default.
            if figures["name"].startswith("ascribe") and (members, combined) != ("both", "own"):
                continue
            ways.append((self.truth.correlations(scores).mean(), members, combined, scores))
        mean, members, combined, scores = max(ways, key=lambda way: way[0])
        lds = evaluation.interval(mean, self.truth.draws(scores))
        return Line(figures["name"], figures["title"], runs, members, combined, lds, [], figures, scores)

    def compare(self, lines):
        """Ours less each line, on the same resamples."""
        for runs in RUNS:
            ours = [line for line in lines if line.name == OURS and line.runs == runs]
            if not ours:
                continue
            own = self.truth.draws(ours[0].groups)
            for line in lines:
                if line.runs == runs and line is not ours[0]:
                    mean = ours[0].lds[0] - line.lds[0]
                    line.difference = evaluation.interval(mean, own - self.truth.draws(line.groups))
