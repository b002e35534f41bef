"""The two factors of Kronecker-factored curvature, as sums over tokens."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import torch

from .kinds import CONVOLUTION, kind_of
from .layers import Layer

# A factor has the square of this many values, in double precision while it is added up.
FACTOR_WIDTH_MAX = 8192
# Entry of a sketch file's metadata: JSON, the pairs that a layer's means are of.
FACTOR_COUNTS = "ascribe.factor_counts"


class FactorSums:
    """A = E[a a^T] and B = E[d d^T] of one layer: means over rows, tokens and calls together.

    a is the input with its bias inputs, d the gradient of the row's summed loss at the output, as they are in the
    sketch: with the labels that the collector uses, projected where the layer is. Both are divided by the same count,
    that of pairs (a, d): one for each token of each row and call, places of a convolution being tokens. Tokens that
    `token_mask` calls padding are not counted, nor are those of no segment; without a mask padding counts in A with
    whatever the model has there, and in B with 0. A row that does not call the layer adds nothing. Sums are double
    precision.

    >>> sums = FactorSums()
    >>> sums.add(torch.tensor([[[2.0]]]), torch.tensor([[[3.0, 1.0]]]), torch.tensor([[True]]))
    >>> sums.means()["A"].tolist(), sums.means()["B"].tolist(), sums.count
    ([[9.0, 3.0], [3.0, 1.0]], [[4.0]], 1)
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: Optional[Dict[str, torch.Tensor]] = None

    def add(self, left: torch.Tensor, right: torch.Tensor, real: torch.Tensor) -> None:
        """d [rows, tokens, out] and a [rows, tokens, in] of a batch; `real` [rows, tokens] is False for padding."""
        work = torch.float32 if left.device.type == "mps" else torch.float64
        kept = {"B": left[real.to(left.device)].to(work), "A": right[real.to(right.device)].to(work)}
        products = {name: (values.T @ values).to("cpu", torch.float64) for name, values in kept.items()}
        if self._sums is None:
            self._sums = products
        else:
            for name, product in products.items():
                self._sums[name] += product
        self.count += len(kept["A"])

    def means(self) -> Dict[str, torch.Tensor]:
        """A [in, in] and B [out, out], float64; none if nothing was added."""
        if self._sums is None or self.count == 0:
            return {}
        return {name: values / self.count for name, values in self._sums.items()}

    def sums(self) -> Dict[str, torch.Tensor]:
        """A and B before they are divided by `count`, float64."""
        return self._sums or {}

    def restore(self, count: int, sums: Optional[Dict[str, torch.Tensor]]) -> None:
        """Goes on from sums and a count of before."""
        self.count, self._sums = count, sums


def no_factors(layer: Layer, widths: Tuple[int, int]) -> Optional[str]:
    """Why a layer has no factors, if so."""
    if layer.holds_table:
        return "a table's input is as wide as its vocabulary"
    if any(kind_of(module) == CONVOLUTION and module.groups > 1 for module in layer.modules):
        return "a convolution in groups has a pair for each of them"
    if max(widths) > FACTOR_WIDTH_MAX:
        return f"a side is wider than {FACTOR_WIDTH_MAX}"
    return None
