"""From what went through a layer to the rows of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import torch

from .factorise import factorise, pad_rank
from .layers import Layer
from .projection import rademacher
from .taps import Use


@dataclass(frozen=True)
class Projection:
    """Two-sided random projection of every layer to at most `out` x `inputs` values.

    A side that is None, or at least as wide as the layer's, is left as it is. Entries are +-1/sqrt(width) and follow
    from the seed and the layer's name (`storage-format/projection.md`).

    >>> Projection(seed=7, out=16, inputs=16).sides(out=64, inputs=785)
    (16, 16)
    """

    seed: int
    out: Optional[int] = None
    inputs: Optional[int] = None

    def sides(self, out: int, inputs: int) -> Tuple[Optional[int], Optional[int]]:
        """The widths after projection of a layer of `out` x `inputs`; None for a side that is not projected."""
        keep_out = self.out is None or self.out >= out
        keep_in = self.inputs is None or self.inputs >= inputs
        return (None if keep_out else self.out), (None if keep_in else self.inputs)


class LayerEncoder:
    """Makes the tensors of one layer, batch by batch; all batches get the same shapes."""

    def __init__(
        self, layer: Layer, encoding: str, rank: Optional[int], rank_is_own: bool, projection: Optional[Projection]
    ):
        self.layer = layer
        self.encoding = encoding
        self.sequence: Optional[bool] = None
        self.rank: Optional[int] = rank if rank_is_own else None
        self._sequence_rank = rank
        self._projection = projection
        self._sides = projection.sides(layer.out, layer.inputs) if projection else (None, None)
        self._matrices: Dict[Tuple[str, torch.device], torch.Tensor] = {}
        self.lost_sum = 0.0
        self.lost_rows = 0

    @property
    def widths(self) -> Tuple[int, int]:
        """Values of the output and of the input side, as written."""
        return self._sides[0] or self.layer.out, self._sides[1] or self.layer.inputs

    def row_shapes(self) -> Dict[str, Tuple[int, ...]]:
        """The shape of one row of each tensor, by the ending of the tensor's name."""
        out, inputs = self.widths
        if self.encoding == "dense":
            return {"g": (out, inputs)}
        return {"u": (self.rank or 1, out), "v": (self.rank or 1, inputs)}

    def schema(self, shared_input: bool) -> Dict[str, object]:
        """This layer's entry of the schema's `modules`."""
        out, inputs = self._sides
        projection = None
        if out is not None or inputs is not None:
            projection = {"kind": "rademacher", "seed": self._projection.seed, "out": out, "in": inputs}
        entry: Dict[str, object] = {
            "name": self.layer.name,
            "out": self.layer.out,
            "in": self.layer.inputs,
            "bias": self.layer.bias,
            "encoding": self.encoding,
        }
        if self.encoding == "factored":
            entry["rank"] = self.rank or 1
        entry["projection"] = projection
        if shared_input:
            entry["shared_input"] = True
        return entry

    def encode(
        self, uses: Sequence[Use], gradients: Sequence[torch.Tensor], scale: Optional[torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        """The tensors of a batch. `gradients` are those at the uses' outputs; `scale` [rows] multiplies them."""
        sequence = any(use.inputs.dim() > 2 for use in uses)
        if self.sequence not in (None, sequence):
            raise ValueError(f"{self.layer.name} had a sequence in some batches and none in others")
        self.sequence = sequence
        pairs = [self._tokens(use, gradient, scale) for use, gradient in zip(uses, gradients)]
        left = torch.cat([pair[0] for pair in pairs], dim=1)
        right = torch.cat([pair[1] for pair in pairs], dim=1)
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
        return self._project(values, "out", self._sides[0], self.layer.out)

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

    def _tokens(
        self, use: Use, gradient: torch.Tensor, scale: Optional[torch.Tensor]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """[rows, tokens, out] and [rows, tokens, in] of one use, bias inputs appended, both projected."""
        rows = use.inputs.shape[0]
        left = gradient.detach().to(torch.float32).reshape(rows, -1, self.layer.out)
        if scale is not None:
            left = left * scale.to(left.device, torch.float32)[:, None, None]
        width = use.inputs.shape[-1]
        right = use.inputs.to(torch.float32).reshape(rows, -1, width)
        if self.layer.inputs > width:
            constant = right.new_zeros(rows, right.shape[1], self.layer.inputs - width)
            if use.bias_column is not None:
                constant[:, :, use.bias_column - width] = 1
            right = torch.cat([right, constant], dim=2)
        return self.project_output(left), self._project(right, "in", self._sides[1], self.layer.inputs)

    def _project(self, values: torch.Tensor, side: str, width: Optional[int], columns: int) -> torch.Tensor:
        if width is None:
            return values
        place = (side, values.device)
        if place not in self._matrices:
            matrix = rademacher(self._projection.seed, self.layer.name, side, width, columns)
            self._matrices[place] = torch.from_numpy(matrix).to(values.device)
        return values @ self._matrices[place].T


def first_not_finite(tensors: Sequence[torch.Tensor]) -> Optional[int]:
    """The first row, of the first tensor that has any, with a value that is NaN or infinite."""
    for tensor in tensors:
        finite = torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(dim=1)
        if not bool(finite.all()):
            return int((~finite).nonzero()[0])
    return None
