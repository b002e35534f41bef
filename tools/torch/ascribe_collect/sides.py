"""The two sides of a layer's gradient, and their random projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import torch

from .layers import Layer
from .projection import rademacher


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


class Matrices:
    """The projection matrices of one layer, made when they are needed, on the device where they are."""

    def __init__(self, layer: Layer, projection: Optional[Projection]):
        self._layer = layer
        self._projection = projection
        self._sides = projection.sides(layer.out, layer.inputs) if projection else (None, None)
        self._made: Dict[Tuple[str, torch.device], torch.Tensor] = {}

    @property
    def widths(self) -> Tuple[int, int]:
        """Values of the output and of the input side after projection."""
        return self._sides[0] or self._layer.out, self._sides[1] or self._layer.inputs

    def schema(self) -> Optional[Dict[str, object]]:
        """The entry `projection` of the layer's module in the schema."""
        out, inputs = self._sides
        if out is None and inputs is None:
            return None
        return {"kind": "rademacher", "seed": self._projection.seed, "out": out, "in": inputs}

    def project(self, values: torch.Tensor, side: str) -> torch.Tensor:
        """[..., width] by the projection of the side "out" or "in", if there is one."""
        at = 0 if side == "out" else 1
        width, columns = self._sides[at], (self._layer.out, self._layer.inputs)[at]
        if width is None:
            return values
        place = (side, values.device)
        if place not in self._made:
            matrix = rademacher(self._projection.seed, self._layer.name, side, width, columns)
            self._made[place] = torch.from_numpy(matrix).to(values.device)
        return values @ self._made[place].T
