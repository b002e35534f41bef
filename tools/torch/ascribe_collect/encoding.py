"""From what went through a layer to the rows of its tensors."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

import torch

from .factorise import factorise, pad_rank
from .layers import Layer
from .sides import Matrices, Projection

# Values of gradients that are formed at one time, where they have to be formed at all.
FORMED_VALUES_MAX = 1 << 24


class LayerEncoder:
    """Makes the tensors of one layer, batch by batch; all batches get the same shapes.

    `divisor` [out, in] divides every gradient, value by value, before anything else. Gradients are then formed, a few
    rows at a time, and are of one pair a call no more.
    """

    def __init__(self, layer: Layer, encoding: str, rank: int, rank_is_own: bool, projection: Optional[Projection]):
        self.layer = layer
        self.encoding = encoding
        self.sequence: Optional[bool] = None
        self.rank: Optional[int] = rank if rank_is_own else None
        self._sequence_rank, self._rank_is_own = rank, rank_is_own
        self._matrices = Matrices(layer, projection)
        self.divisor: Optional[torch.Tensor] = None
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

    def settings(self) -> Tuple[object, ...]:
        """What was asked for."""
        return self.encoding, self._matrices.schema(), self._sequence_rank, self._rank_is_own

    def state(self) -> List[object]:
        """What the batches so far have settled, for `restore`; JSON keeps it."""
        return [self.sequence, self.rank, self.lost_sum, self.lost_rows]

    def restore(self, state: Sequence[object]) -> None:
        """Goes on as the encoder did whose state this is."""
        self.sequence, self.rank, self.lost_sum, self.lost_rows = state

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
        if self.divisor is not None:
            return self._divided(left, right)
        left, right = self.projected(left, right)
        if self.encoding == "dense":
            return {"g": torch.einsum("nto,nti->noi", left, right)}
        self._settle_rank(left.shape[1], sequence)
        if not sequence and left.shape[1] <= self.rank:
            # What went in and what came back are the factors: exact, and v is the same for all members of a store.
            return {"u": pad_rank(left, self.rank), "v": pad_rank(right, self.rank)}
        return self._factorised(left, right)

    def _divided(self, left: torch.Tensor, right: torch.Tensor) -> Dict[str, torch.Tensor]:
        divisor = self.divisor.to(left.device)
        rows = max(1, FORMED_VALUES_MAX // divisor.numel())
        # As with a sequence the rank is that which was asked for.
        self._settle_rank(left.shape[1], True)
        parts = []
        for some_left, some_right in zip(left.split(rows), right.split(rows)):
            formed = torch.einsum("nto,nti->noi", some_left, some_right) / divisor
            formed = self._matrices.project(formed, "in")
            formed = self.project_output(formed.transpose(1, 2)).transpose(1, 2)
            if self.encoding == "dense":
                parts.append({"g": formed})
                continue
            unit = torch.eye(formed.shape[1], device=formed.device).expand(len(formed), -1, -1)
            parts.append(self._factorised(unit, formed))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _factorised(self, left: torch.Tensor, right: torch.Tensor) -> Dict[str, torch.Tensor]:
        u, v, lost = factorise(left, right, self.rank)
        self.lost_sum += float(lost.sum())
        self.lost_rows += len(lost)
        return {"u": u, "v": v}

    def projected(self, left: torch.Tensor, right: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """[..., out] and [..., in] by the projections of the two sides, if there are any."""
        return self.project_output(left), self._matrices.project(right, "in")

    def project_output(self, values: torch.Tensor) -> torch.Tensor:
        """[..., out] by the projection of the output side, if there is one."""
        return self._matrices.project(values, "out")

    def _settle_rank(self, pairs: int, sequence: bool) -> None:
        """Without a sequence one pair a call is exact; with one, the rank that was asked for."""
        if self.rank is None:
            self.rank = min(self._sequence_rank, *self.widths) if sequence else pairs
        elif not sequence and pairs > self.rank:
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
