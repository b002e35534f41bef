"""How probable each row's own label was in the course of training."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import torch


class TrajectoryLog:
    """Kept by the training loop: after each epoch the probabilities of all rows, by the model as it is then.

    Those of training's own passes will do from the second epoch on; the first epoch's are of a model that knows nothing.

    >>> log = TrajectoryLog(2)
    >>> log.record([0, 1], torch.tensor([0.5, 0.25]))                 # in each batch: row numbers, p of their labels
    >>> log.end_epoch(learning_rate=0.1)                              # after each epoch
    >>> {name: values.tolist() for name, values in log.tensors().items()}
    {'trajectory.p': [[0.5], [0.25]], 'trajectory.weight': [0.10000000149011612]}

    For several runs call `next_run()` between them: probabilities are averaged over runs, epoch by epoch.
    """

    def __init__(self, n_rows: int):
        if n_rows < 1:
            raise ValueError("a log needs at least one row")
        self.n_rows = n_rows
        self.missed = 0
        self._runs: List[List[np.ndarray]] = [[]]
        self._weights: List[List[float]] = [[]]
        self._current = np.full(n_rows, np.nan, dtype=np.float32)

    def record(self, rows: object, own_label_probability: object) -> None:
        """Notes p [batch] of the rows' own labels; `rows` [batch] are row numbers as in the sketch file.

        A row noted twice in an epoch keeps the later value.
        """
        rows = _array(rows)
        p = _array(own_label_probability).astype(np.float32)
        if rows.ndim != 1 or rows.shape != p.shape:
            raise ValueError(f"{list(rows.shape)} row numbers and {list(p.shape)} probabilities")
        if not np.issubdtype(rows.dtype, np.integer):
            raise ValueError(f"row numbers are {rows.dtype}, but have to be whole numbers")
        outside = (rows < 0) | (rows >= self.n_rows)
        if outside.any():
            raise ValueError(f"row {int(rows[outside][0])} is not one of {self.n_rows} rows")
        # Rounding may lead a hair above 1; more is another quantity, such as a loss or a logit.
        wrong = ~((p >= 0) & (p <= 1 + 1e-5))
        if wrong.any():
            raise ValueError(f"row {int(rows[wrong][0])} has the probability {float(p[wrong][0])}")
        self._current[rows] = np.minimum(p, 1)

    def end_epoch(self, learning_rate: float, epochs: float = 1.0) -> None:
        """Closes an epoch; `epochs` is how many it stands for where only some are logged.

        The epoch's weight is `learning_rate * epochs`.
        """
        weight = float(learning_rate) * float(epochs)
        if not np.isfinite(weight) or weight < 0:
            raise ValueError(f"learning rate {learning_rate} for {epochs} epochs")
        if np.isnan(self._current).all():
            raise ValueError("an epoch ended in which no row was recorded")
        self._runs[-1].append(self._current)
        self._weights[-1].append(weight)
        self._current = np.full(self.n_rows, np.nan, dtype=np.float32)

    def next_run(self) -> None:
        """The epochs from here on are those of another training run."""
        if not self._runs[-1]:
            raise ValueError("a run ended without an epoch")
        self._runs.append([])
        self._weights.append([])

    def tensors(self) -> Dict[str, np.ndarray]:
        """`trajectory.p` float32 [rows, epochs] and `trajectory.weight` float32 [epochs]."""
        runs = [run for run in self._runs if run]
        weights = [weight for weight in self._weights if weight]
        if not runs:
            raise ValueError("the log has no epoch: call end_epoch after each")
        if any(len(run) != len(runs[0]) for run in runs) or any(weight != weights[0] for weight in weights):
            raise ValueError("the runs differ in their epochs or learning rates: their mean has no meaning")
        if not sum(weights[0]) > 0:
            raise ValueError("all learning rates are 0: the log's epochs have no weight")
        self.missed = sum(int(np.isnan(epoch).sum()) for run in runs for epoch in run)
        mean = np.mean([_filled(np.stack(run, axis=1)) for run in runs], axis=0, dtype=np.float64)
        return {"trajectory.p": mean.astype(np.float32), "trajectory.weight": np.array(weights[0], np.float32)}


def _array(values: object) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _filled(p: np.ndarray) -> np.ndarray:
    """Epochs that missed a row (loaders may drop the last batch) take its value of the epoch before, or the next."""
    known = ~np.isnan(p)
    if not known.any(axis=1).all():
        raise ValueError(f"row {int((~known.any(axis=1)).argmax())} was recorded in no epoch")
    epochs = np.arange(p.shape[1])
    before = np.maximum.accumulate(np.where(known, epochs, -1), axis=1)
    first = known.argmax(axis=1)[:, None]
    return np.take_along_axis(p, np.where(before < 0, first, before), axis=1)
