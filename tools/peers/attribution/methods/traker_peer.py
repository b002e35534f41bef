"""traker: TRAK with its projector for processors, and without projection."""

import logging
import shutil
import statistics
import tempfile

import numpy
import torch

from networks import margins

from .base import SELECTIONS, SINGLE_QUERIES, TIMED_MEMBERS, Measured, Method, timed

BATCH = 256


def model_output():
    from trak.modelout_functions import AbstractModelOutput

    class Margin(AbstractModelOutput):
        """As its image classification: the margin, and 1 - p, the derivative of the loss by it."""

        def __init__(self):
            pass

        @staticmethod
        def get_output(model, weights, buffers, x, label):
            logits = torch.func.functional_call(model, (weights, buffers), x[None])
            return margins(logits, label[None]).sum()

        def get_out_to_loss_grad(self, model, weights, buffers, batch):
            x, labels = batch
            logits = torch.func.functional_call(model, (weights, buffers), x)
            return torch.sigmoid(-margins(logits.detach().double(), labels)).float()[:, None]

    return Margin()


class Traker(Method):
    """`dimension` of the projection, None for none; `ridge` is traker's `lambda_reg` as a share of the mean eigenvalue."""

    rereads_training_set = False
    takes_table = True

    def __init__(self, dimension, ridge):
        projection = f"{dimension} values" if dimension else "unprojected"
        regularised = f"ridge {ridge:g} x mean eigenvalue" if ridge else "no ridge (default)"
        super().__init__(
            f"traker-{dimension or 'whole'}-{ridge:g}", f"traker, {projection}, {regularised}", "traker"
        )
        self.dimension, self.ridge = dimension, ridge

    def start(self, network, task, parameters, folder):
        from trak import TRAKer
        from trak.projectors import BasicProjector, NoOpProjector, ProjectionType

        weights = sum(weight.numel() for name, weight in network.named_parameters() if not parameters or name in parameters)
        if self.dimension:
            # One block: the matrix of a checkpoint is made once. Real numbers, as traker itself chooses on processors.
            projector = BasicProjector(
                grad_dim=weights, proj_dim=self.dimension, seed=0, proj_type=ProjectionType.normal, device="cpu",
                block_size=self.dimension,
            )
        else:
            projector = NoOpProjector(device="cpu")
        return TRAKer(
            model=network, task=model_output(), train_set_size=len(task.x), save_dir=folder, device="cpu",
            projector=projector, use_half_precision=False, grad_wrt=parameters, logging_level=logging.ERROR,
        )

    def fit_one(self, traker, task, state, member):
        traker.load_checkpoint(state, model_id=member)
        for x, y in zip(task.x.split(BATCH), task.y.split(BATCH)):
            traker.featurize((x, y), num_samples=len(x))
        store = traker.saver.current_store
        mean = float(numpy.square(store["grads"]).sum()) / store["grads"].shape[1]
        traker.score_computer.lambda_reg = self.ridge * mean
        traker.finalize_features([member])

    def ask(self, traker, states, members, x, y):
        """Scores [queries, rows]; every question is an experiment of its own."""
        self.asked = getattr(self, "asked", 0) + 1
        name = f"question{self.asked}"
        for member in members:
            traker.start_scoring_checkpoint(name, states[member], member, num_targets=len(x))
            for some_x, some_y in zip(x.split(BATCH), y.split(BATCH)):
                traker.score((some_x, some_y), num_samples=len(some_x))
        return numpy.array(traker.finalize_scores(name, model_ids=members)).T

    def measure(self, task, checkpoints, parameters, place):
        states = [checkpoint["state"] for checkpoint in checkpoints]
        network = task.network()
        folder = tempfile.mkdtemp(prefix="traker-")
        try:
            traker = self.start(network, task, parameters, folder)
            fit_s = [timed(self.fit_one, traker, task, state, member)[1] for member, state in enumerate(states)]
            everything = (task.query_x, task.query_y)
            scores, single_s, batch_s = [], [], []
            for member in range(len(states)):
                found, seconds = timed(self.ask, traker, states, [member], *everything)
                scores.append(found)
                batch_s.append(seconds / len(task.query_x))
                if member < TIMED_MEMBERS:
                    single_s.append(self.single(traker, states, [member], task))
            several = {name: members for name, members in SELECTIONS.items() if len(members) > 1}
            combined = {
                name: self.ask(traker, states, members, *everything) for name, members in several.items()
            }
            kept = 4.0 * len(states) * (traker.proj_dim + 1)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = [statistics.fmean(values) for values in (fit_s, single_s, batch_s)]
        return Measured(numpy.stack(scores), *seconds, kept, combined)

    def single(self, traker, states, members, task):
        seconds = [
            timed(self.ask, traker, states, members, task.query_x[row : row + 1], task.query_y[row : row + 1])[1]
            for row in range(SINGLE_QUERIES)
        ]
        return statistics.median(seconds)

    def self_influence(self, network, task):
        """Scores of the rows for themselves."""
        with tempfile.TemporaryDirectory() as folder:
            traker = self.start(network, task, None, folder)
            state = {name: value.clone() for name, value in network.state_dict().items()}
            self.fit_one(traker, task, state, 0)
            store = traker.saver.current_store
            return (store["features"] * store["grads"]).sum(axis=1) * store["out_to_loss"][:, 0]


def methods():
    yield Traker(512, 0)
    yield Traker(512, 0.1)
    yield Traker(2048, 0)
    yield Traker(2048, 0.1)
