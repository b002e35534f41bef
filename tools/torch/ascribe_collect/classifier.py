"""Measurements of classifiers with one label a row, exact where a row is fitted to ten digits."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import torch

# Probabilities, or numbers of a stream, in memory at one time.
DRAWN_AT_ONCE = 1 << 22


def margin_and_own(logits: torch.Tensor, labels: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """log p_y - log(1 - p_y) and own = 1 - p_y of each row's label y, both float64 [rows].

    logits: [rows, classes], labels: int64 [rows]. Cross-entropy's gradient is exactly -own times the margin's. Both are
    taken from the other classes alone: in single precision 1 - p is 0 from own ~ 6e-8 down, and so is what softmax
    minus one-hot leaves at the label's logit, while training ends at own ~ 1e-10.

    >>> margin, own = margin_and_own(torch.tensor([[23.0, 0.0]]), torch.tensor([0]))
    >>> float(margin), f"{float(own):.4e}"
    (23.0, '1.0262e-10')
    """
    # On the CPU: a batch of logits is small, and not every device has double precision.
    margin = margin_of(logits.to("cpu", torch.float64), labels.to("cpu"))
    return margin, torch.sigmoid(-margin.detach())


def margin_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p_y - log(1 - p_y) [rows], in the precision and on the device of the logits [rows, classes]."""
    label = labels[:, None]
    is_label = torch.zeros_like(logits, dtype=torch.bool).scatter(1, label, True)
    others = torch.logsumexp(logits.masked_fill(is_label, -torch.inf), dim=1)
    return logits.gather(1, label)[:, 0] - others


def own_label_probability(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """softmax(logits)[label], float32 [rows], without gradient: what `TrajectoryLog.record` is given."""
    return torch.softmax(logits.detach().float(), dim=1).gather(1, labels[:, None])[:, 0]


def checked_labels(labels: object, rows: int, classes: int) -> torch.Tensor:
    """Labels as int64 [rows], or a ValueError that says what is wrong with them."""
    labels = torch.as_tensor(labels)
    if labels.dim() != 1 or len(labels) != rows:
        raise ValueError(f"labels of shape {list(labels.shape)} for {rows} rows")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}, but have to be whole numbers")
    labels = labels.to("cpu", torch.int64)
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"row {row} of the batch has the label {int(labels[row])}, but there are {classes} classes")
    return labels


class LabelSampler:
    """Draws labels from the model's own predictions; which ones does not depend on how rows are batched.

    `stream` tells apart what is to have numbers of its own, such as members. `drawn` numbers are passed over.
    """

    def __init__(self, seed: int, stream: int, drawn: int = 0):
        self._numbers = np.random.Generator(np.random.Philox(key=[seed, stream]))
        self.drawn = 0
        while self.drawn < drawn:
            self._next(min(drawn - self.drawn, DRAWN_AT_ONCE))

    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """int64 [rows] for logits [rows, classes], one number of the stream a row."""
        rows = max(1, DRAWN_AT_ONCE // max(logits.shape[1], 1))
        blocks = [self._drawn(block) for block in logits.detach().split(rows)]
        return torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.int64)

    def _drawn(self, logits: torch.Tensor) -> torch.Tensor:
        probability = torch.softmax(logits.to("cpu", torch.float64), dim=1).numpy()
        cumulative = np.cumsum(probability, axis=1)
        drawn = self._next(len(probability))[:, None] * cumulative[:, -1:]
        return torch.from_numpy(np.minimum((cumulative <= drawn).sum(axis=1), probability.shape[1] - 1))

    def _next(self, count: int) -> np.ndarray:
        self.drawn += count
        return self._numbers.random(count)
