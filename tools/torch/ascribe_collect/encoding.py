"""From what went through a layer to the rows of its tensors."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

import torch

from .factorise import factorise, pad_rank
from .layers import Layer
from .sides import Matrices, Projection


class LayerEncoder:
    """Makes the tensors of one layer, batch by batch; all batches get the same shapes."""

    def __init__(
        self, layer: Layer, encoding: str, rank: int, rank_is_own: bool, projection: Optional[Projection]
    ):
        self.layer = layer
        self.encoding = encoding
        self.sequence: Optional[bool] = None
        self.rank: Optional[int] = rank if rank_is_own else None
        self._sequence_rank = rank
        self._matrices = Matrices(layer, projection)
        self.lost_sum = 0.0
        self.lost_rows = 0

    @property
    def widths(self) -> Tuple[int, int]:
        """Values of the output and of the input side, as written."""
        return self._matrices.widths

    def row_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """The shape of one row of each tensor, by the ending of the tensor's name."""
        out, inputs = self.widths
        if self.encoding == "dense":
            return {"g": (out, inputs)}
        return {"u": (self.rank or 1, out), "v": (self.rank or 1, inputs)}

    def schema(self, shared_input: bool) -> Dict[str, object]:
        """This layer's entry of the schema's `modules`."""
        entry: Dict[str, object] = {
            "name": self.layer.name,
            "out": self.layer.out,
            "in": self.layer.inputs,
            "bias": self.layer.bias,
            "encoding": self.encoding,
        }
        if self.encoding == "factored":
            entry["rank"] = self.rank or 1
        entry["projection"] = self._matrices.schema()
        if shared_input:
            entry["shared_input"] = True
        return entry

    def encode(self, left: torch.Tensor, right: torch.Tensor, sequence: bool) -> Dict[str, torch.Tensor]:
        """The tensors of a batch: `left` [rows, tokens, out] and `right` [rows, tokens, in], of all calls together."""
        if self.sequence not in (None, sequence):
            raise ValueError(f"{self.layer.name} had a sequence in some batches and none in others")
        self.sequence = sequence
        left, right = self.project_output(left), self._matrices.project(right, "in")
        if self.encoding == "dense":
            return {"g": torch.einsum("nto,nti->noi", left, right)}
        self._settle_rank(left.shape[1])
        if not sequence and left.shape[1] <= self.rank:
            # What went in and what came back are the factors: exact, and v is the same for all members of a store.
            return {"u": pad_rank(left, self.rank), "v": pad_rank(right, self.rank)}
        u, v, lost = factorise(left, right, self.rank)
        self.lost_sum += float(lost.sum())
        self.lost_rows += len(lost)
        return {"u": u, "v": v}

    def project_output(self, values: torch.Tensor) -> torch.Tensor:
        """[..., out] by the projection of the output side, if there is one."""
        return self._matrices.project(values, "out")

    def _settle_rank(self, pairs: int) -> None:
        """Without a sequence one pair a call is exact; with one, the rank that was asked for."""
        if self.rank is None:
            smaller = min(self.widths)
            self.rank = min(self._sequence_rank, smaller) if self.sequence else pairs
        elif not self.sequence and pairs > self.rank:
            raise ValueError(
                f"{self.layer.name} was used {pairs} times, but has rank {self.rank}: "
                f"give it a rank of its own, rank={{{self.layer.name!r}: {pairs}}}"
            )


def first_not_finite(tensors: Sequence[torch.Tensor]) -> Optional[int]:
    """The first row, of the first tensor that has any, with a value that is NaN or infinite."""
    for tensor in tensors:
        finite = torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(dim=1)
        if not bool(finite.all()):
            return int((~finite).nonzero()[0])
    return None
