"""kronfluence: identity, diagonal, K-FAC and EK-FAC."""

import logging
import pathlib
import shutil
import tempfile
import weakref

import numpy
from torch.nn import functional
from torch.utils.data import TensorDataset

from networks import linear_names, margins

from .base import Method, copied

BATCH = 512
# `damping_factor` of ScoreArguments: its default, and None, which stands for 0.1 x the mean eigenvalue.
DAMPINGS = {"default damping": 1e-8, "heuristic damping": None}


def make_task(modules):
    from kronfluence.task import Task

    class Classify(Task):
        def compute_train_loss(self, batch, model, sample=False):
            logits = model(batch[0])
            if not sample:
                return functional.cross_entropy(logits, batch[1], reduction="sum")
            drawn = functional.softmax(logits.detach(), dim=1).multinomial(num_samples=1).flatten()
            return functional.cross_entropy(logits, drawn, reduction="sum")

        def compute_measurement(self, batch, model):
            return -margins(model(batch[0]), batch[1]).sum()

        def get_influence_tracked_modules(self):
            return modules

    return Classify()


class Factors:
    """An analyzer with its factors, in a folder that goes with it."""

    def __init__(self, network, strategy, is_empirical, rows):
        from kronfluence.analyzer import Analyzer, prepare_model
        from kronfluence.arguments import FactorArguments

        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kronfluence-"))
        weakref.finalize(self, shutil.rmtree, self.folder, True)
        self.rows = rows
        task = make_task(linear_names(network))
        quiet = {"disable_tqdm": True, "log_level": logging.ERROR}
        model = prepare_model(copied(network), task)
        self.analyzer = Analyzer("peer", model, task, cpu=True, output_dir=str(self.folder), **quiet)
        self.analyzer.fit_all_factors(
            "factors",
            dataset=rows,
            per_device_batch_size=BATCH,
            factor_args=FactorArguments(strategy=strategy, use_empirical_fisher=is_empirical),
            overwrite_output_dir=True,
        )

    def pairwise(self, queries, damping):
        from kronfluence.arguments import ScoreArguments

        self.analyzer.compute_pairwise_scores(
            "scores",
            factors_name="factors",
            query_dataset=queries,
            train_dataset=self.rows,
            per_device_query_batch_size=len(queries),
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=damping),
            overwrite_output_dir=True,
        )
        return self.analyzer.load_pairwise_scores("scores")["all_modules"].numpy()

    def self_scores(self, damping):
        from kronfluence.arguments import ScoreArguments

        self.analyzer.compute_self_scores(
            "self",
            factors_name="factors",
            train_dataset=self.rows,
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=damping),
            overwrite_output_dir=True,
        )
        return self.analyzer.load_self_scores("self")["all_modules"].numpy()


class Kronfluence(Method):
    def __init__(self, strategy, damping_name, is_empirical):
        self.strategy, self.damping, self.is_empirical = strategy, DAMPINGS[damping_name], is_empirical
        words = {"ekfac": "EK-FAC", "kfac": "K-FAC"}
        title, name = f"kronfluence {words.get(strategy, strategy)}", f"kronfluence-{strategy}"
        if strategy != "identity":
            fisher = "empirical Fisher" if is_empirical else "true Fisher"
            title += f", {damping_name}, {fisher}"
            name += f"-{damping_name.split()[0]}-{fisher.split()[0]}"
        super().__init__(name, title, "kronfluence")

    def fit(self, network, task, parameters):
        return Factors(network, self.strategy, self.is_empirical, TensorDataset(task.x, task.y))

    def score(self, fitted, x, y):
        return fitted.pairwise(TensorDataset(x, y), self.damping)

    def self_influence(self, fitted, task):
        return fitted.self_scores(self.damping).astype(numpy.float64)


def methods():
    yield Kronfluence("identity", "default damping", True)
    for strategy in ("diagonal", "kfac", "ekfac"):
        for is_empirical in (False, True):
            for damping in DAMPINGS:
                yield Kronfluence(strategy, damping, is_empirical)
