"""Gradients of embedding tables: only the columns of a row's own tokens are there, and only they are kept."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

import torch

from .factorise import factorise
from .layers import Layer
from .sides import Matrices, Projection

# Larger than every id, so that what is no token is sorted behind the tokens.
NO_TOKEN = torch.iinfo(torch.int64).max


def sum_by_token(ids: torch.Tensor, gradients: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """A row's gradient for each of its different tokens.

    ids: [rows, tokens], -1 for none; gradients: [rows, tokens, out]. Returns the different ids, ascending, [rows, s]
    with -1 behind them, and the sums [rows, s, out]; s is the largest number that a row has.

    >>> ids, sums = sum_by_token(torch.tensor([[5, 2, 5], [-1, 3, -1]]), torch.ones(2, 3, 1))
    >>> ids.tolist(), sums[:, :, 0].tolist()
    ([[2, 5], [3, -1]], [[1.0, 2.0], [1.0, 0.0]])
    """
    rows, tokens = ids.shape
    ordered, order = torch.where(ids < 0, torch.full_like(ids, NO_TOKEN), ids).sort(dim=1)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    slot = is_new.cumsum(dim=1) - 1
    is_token = ordered != NO_TOKEN
    count = int((is_new & is_token).sum(dim=1).max()) if tokens else 0
    # One slot more takes what is no token, and is cut off.
    slot = torch.where(is_token, slot, torch.full_like(slot, count))
    found = ids.new_full((rows, count + 1), -1).scatter_(1, slot, ordered)[:, :count]
    wide = order[:, :, None].expand(-1, -1, gradients.shape[2])
    sums = gradients.new_zeros(rows, count + 1, gradients.shape[2])
    sums.scatter_add_(1, slot[:, :, None].expand_as(wide), gradients.gather(1, wide))
    return found, sums[:, :count]


class TableEncoder:
    """Makes the tensors of one table: u [rows, rank, out], ids [rows, s] and v [rows, rank, s], s the batch's own.

    The gradient of a row is sum_t e_(id_t) d_t^T, of rank at most its number of different tokens. `terms` bounds that
    number: of rows with more the tokens with the largest gradients are kept, those of the first member for all. Without
    it every token is kept. The side of the vocabulary is never projected: it is sparse as it is, and a projection of it
    mixes tokens that have nothing to do with each other. `divisor` [width, vocabulary] divides every gradient first.
    """

    encoding = "sparse"

    def __init__(
        self,
        layer: Layer,
        rank: int,
        rank_is_own: bool,
        projection: Optional[Projection],
        terms: Optional[int],
    ):
        self.layer = layer
        self.sequence: Optional[bool] = None
        self.rank: Optional[int] = rank if rank_is_own else None
        self._sequence_rank, self._rank_is_own = rank, rank_is_own
        self._matrices = Matrices(layer, projection)
        self.divisor: Optional[torch.Tensor] = None
        self._terms = terms
        self.terms = terms or 1
        self.lost_sum = 0.0
        self.lost_rows = 0

    @property
    def widths(self) -> Tuple[int, int]:
        """Values of the output side and terms of the input side, as written."""
        return self._matrices.widths[0], self.terms

    def row_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """The shape of one row of each tensor, by the ending of the tensor's name."""
        rank = self.rank or 1
        return {"u": (rank, self.widths[0]), "ids": (self.terms,), "v": (rank, self.terms)}

    def settings(self) -> Tuple[object, ...]:
        """What was asked for."""
        return self.encoding, self._matrices.schema(), self._sequence_rank, self._rank_is_own, self._terms

    def state(self) -> List[object]:
        """What the batches so far have settled, for `restore`; JSON keeps it."""
        return [self.sequence, self.rank, self.lost_sum, self.lost_rows, self.terms]

    def restore(self, state: Sequence[object]) -> None:
        """Goes on as the encoder did whose state this is."""
        self.sequence, self.rank, self.lost_sum, self.lost_rows, self.terms = state

    def schema(self, shared_input: bool) -> Dict[str, object]:
        """This layer's entry of the schema's `modules`."""
        del shared_input
        return {
            "name": self.layer.name,
            "out": self.layer.out,
            "in": self.layer.inputs,
            "bias": False,
            "encoding": self.encoding,
            "rank": self.rank or 1,
            "terms": self.terms,
            "projection": self._matrices.schema(),
        }

    def encode(
        self, ids: torch.Tensor, gradients: torch.Tensor, sequence: bool, first: Optional[torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        """The tensors of a batch of `ids` [rows, tokens] and gradients [rows, tokens, out], of all calls together.

        `first` [rows, s]: the ids that the first member has for these rows, which all members have to have.
        """
        self._settle_rank(ids.shape[1], sequence)
        ids, sums = sum_by_token(ids, gradients)
        if self.divisor is not None:
            # Any column for what is no token: its sums are zero.
            sums = sums / self.divisor.to(sums.device).T[ids.clamp_min(0)]
        total = sums.double().square().sum(dim=(1, 2))
        if first is not None:
            ids, sums = self._as_first(ids, sums, first.to(ids.device))
        elif self._terms is not None and ids.shape[1] > self._terms:
            ids, sums = _largest(ids, sums, self._terms)
        self.terms = max(self.terms, ids.shape[1])
        kept = sums.double().square().sum(dim=(1, 2))
        sums = self._matrices.project(sums, "out")
        if ids.shape[1] == 0:
            empty = sums.new_zeros(len(ids), self.rank, sums.shape[2])
            return {"u": empty, "ids": ids, "v": sums.new_zeros(len(ids), self.rank, 0)}
        each = torch.eye(ids.shape[1], device=sums.device).expand(len(ids), -1, -1)
        u, v, lost = factorise(sums, each, self.rank)
        # What the cut to `terms` leaves, and of that what the rank leaves.
        held = torch.where(total > 0, kept / total.clamp_min(torch.finfo(total.dtype).tiny), torch.ones_like(total))
        self.lost_sum += float((1 - held * (1 - lost.to(held.dtype))).clamp_min(0).sum())
        self.lost_rows += len(ids)
        return {"u": u, "ids": ids, "v": v * (ids >= 0)[:, None, :]}

    def _settle_rank(self, calls: int, sequence: bool) -> None:
        if self.sequence not in (None, sequence):
            raise ValueError(f"{self.layer.name} had a sequence in some batches and none in others")
        self.sequence = sequence
        if self.rank is None:
            self.rank = min(self._sequence_rank if sequence else calls, self.widths[0])

    def _as_first(
        self, ids: torch.Tensor, sums: torch.Tensor, first: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """The sums of the first member's tokens, in its order."""
        ordered = torch.where(ids < 0, torch.full_like(ids, NO_TOKEN), ids)
        at = torch.searchsorted(ordered, first.clamp_min(0).contiguous()).clamp_max(max(ids.shape[1] - 1, 0))
        is_there = (first < 0) | (ids.gather(1, at) == first) if ids.shape[1] else first < 0
        same = is_there.all(dim=1)
        if self._terms is None:
            same &= (ids >= 0).sum(dim=1) == (first >= 0).sum(dim=1)
        if not bool(same.all()):
            raise RowError(
                int((~same).nonzero()[0]),
                f"{self.layer.name}: row {{}} has other tokens than for the first member: the rows are in another "
                "order",
            )
        if not ids.shape[1]:
            return first, sums.new_zeros(len(first), first.shape[1], sums.shape[2])
        wide = at[:, :, None].expand(-1, -1, sums.shape[2])
        return first, sums.gather(1, wide) * (first >= 0)[:, :, None]


class RowError(ValueError):
    """A mistake in one row of a batch: its number in the batch, and a text with a place for its number in the file."""

    def __init__(self, row: int, text: str):
        super().__init__(text.format(row))
        self.row, self.text = row, text


def _largest(ids: torch.Tensor, sums: torch.Tensor, terms: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """The tokens with the largest gradients of each row, ids still ascending."""
    sizes = sums.square().sum(dim=2).masked_fill(ids < 0, -1)
    at = sizes.topk(terms, dim=1).indices.sort(dim=1).values
    return ids.gather(1, at), sums.gather(1, at[:, :, None].expand(-1, -1, sums.shape[2]))
