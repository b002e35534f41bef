"""What a method is asked for, and what it is measured by."""

import copy
import dataclasses
import resource
import statistics

import numpy

SINGLE_QUERIES = 3
# Checkpoints on which single queries are timed: others take as long.
TIMED_MEMBERS = 2


@dataclasses.dataclass
class Measured:
    """Scores [members, queries, rows], members in the order of the checkpoints; processor seconds, in the mean over members.

    `combined` holds scores [queries, rows] that the library itself makes of several members, by the name of the members
    (see `SELECTIONS`); `times` seconds of a whole selection, where they are not the sum over its members.
    """

    scores: numpy.ndarray
    fit_s: float
    single_s: float
    batch_s: float
    bytes_a_row: float
    combined: dict = dataclasses.field(default_factory=dict)
    times: dict = dataclasses.field(default_factory=dict)
    notes: dict = dataclasses.field(default_factory=dict)


# Members of one run (0) and of five; checkpoints come as first, last of each run.
SELECTIONS = {
    ("one", "first"): [0],
    ("one", "last"): [1],
    ("one", "both"): [0, 1],
    ("five", "first"): [0, 2, 4, 6, 8],
    ("five", "last"): [1, 3, 5, 7, 9],
    ("five", "both"): list(range(10)),
}


class Method:
    """`name` is for the command line, `title` for the table, `library` what its version is looked up by."""

    # Whether every query goes through the training rows' gradients again.
    rereads_training_set = True
    # Whether gradients of an nn.Embedding can be taken in.
    takes_table = False
    # Raised when a stored measurement would no longer be what the code makes.
    revision = 2

    def __init__(self, name, title, library):
        self.name, self.title, self.library = name, title, library

    def settings(self):
        return {"method": self.name, "revision": self.revision}

    def fit(self, network, task, parameters):
        """What is computed once for a checkpoint; `parameters` names the weights that are attributed to, or is None for all."""
        raise NotImplementedError

    def score(self, fitted, x, y):
        """float [queries, rows]; positive: training on the row raises the query's margin."""
        raise NotImplementedError

    def bytes_a_row(self, fitted, task):
        """Bytes kept for each training row."""
        return 0.0

    def combine(self, fitted, x, y):
        """The library's own scores of several members, or None where it has none."""
        return None

    def measure(self, task, checkpoints, parameters, place):
        """Fits and asks each checkpoint, then what the library makes of several."""
        all_fitted, scores, fit_s, single_s, batch_s = [], [], [], [], []
        for checkpoint in checkpoints:
            network = task.network()
            network.load_state_dict(checkpoint["state"])
            network.eval()
            fitted, seconds = timed(self.fit, network, task, parameters)
            fit_s.append(seconds)
            ask = lambda count, first=0: self.score(  # noqa: E731
                fitted, task.query_x[first : first + count], task.query_y[first : first + count]
            )
            if len(scores) < TIMED_MEMBERS:
                # The first call warms up.
                ask(1)
                single_s.append(statistics.median(timed(ask, 1, row)[1] for row in range(SINGLE_QUERIES)))
            found, seconds = timed(ask, len(task.query_x))
            batch_s.append(seconds / len(task.query_x))
            scores.append(numpy.asarray(found, dtype=numpy.float32))
            all_fitted.append(fitted)
        combined = {}
        for name, members in SELECTIONS.items():
            if len(members) > 1:
                made = self.combine([all_fitted[member] for member in members], task.query_x, task.query_y)
                if made is not None:
                    combined[name] = numpy.asarray(made, dtype=numpy.float32)
        kept = self.bytes_a_row(all_fitted[-1], task)
        seconds = [statistics.fmean(values) for values in (fit_s, single_s, batch_s)]
        return Measured(numpy.stack(scores), *seconds, kept, combined)


def processor_seconds():
    """Of this process and of those it has waited for, all threads: what else the machine does leaves them as they are."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(own.ru_utime + own.ru_stime for own in used)


def timed(function, *arguments):
    """What it returns, and processor seconds."""
    begun = processor_seconds()
    found = function(*arguments)
    return found, processor_seconds() - begun


def copied(network):
    """For libraries that change the network they are given."""
    return copy.deepcopy(network)
