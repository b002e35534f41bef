"""Hooks that note what goes into a layer, and what gradient comes back to its output."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Set, Tuple

import torch
from torch import nn

from .kinds import CONVOLUTION, TABLE, kind_of
from .layers import Layer
from .packing import Packing

# Rows that have nothing to do with each other leave exact zeros; what is below this share of the largest is rounding.
LEAK_SHARE_MAX = 1e-5


@dataclass
class Use:
    """One call of one layer: its input [rows, ..., in] (ids [rows, ...] of a table) and a probe of the output's shape,
    [rows, ..., out], whose gradient is that of the output."""

    layer: int
    bias_column: Optional[int]
    module: nn.Module
    module_name: str
    inputs: torch.Tensor
    version: int
    probe: torch.Tensor


class Taps:
    """Listens to the layers while `recording`, and at no other time.

    A table that is called with the same ids for all rows, `position(torch.arange(tokens))` or `[1, tokens]`, has one
    output for all of them, from which no row's own gradient comes back. It is given out once for each row instead,
    [rows, tokens, width], which is what it would be broadcast to.
    """

    def __init__(self, layers: Sequence[Layer]):
        self._layers = list(layers)
        self._rows: Optional[int] = None
        self._uses: List[Use] = []
        self._positions: Set[str] = set()
        # Tables that were called with as many ids as there are rows: one a row, or positions?
        self.doubtful: Set[str] = set()
        self._handles = [
            module.register_forward_hook(self._hook(index, column, name))
            for index, layer in enumerate(self._layers)
            for module, column, name in zip(layer.modules, layer.bias_columns, layer.module_names)
        ]

    @contextlib.contextmanager
    def recording(self, rows: int) -> Iterator[List[Use]]:
        """Within the block, calls of the layers are appended to the list; their first dimension has to be `rows`."""
        self._rows, self._uses, self.doubtful = rows, [], set()
        try:
            yield self._uses
        finally:
            # Backward passes may run the model again (activation checkpointing); those calls are no new uses.
            self._rows, self._uses = None, []

    def are_positions(self, names: Set[str]) -> None:
        """From now on these tables' ids of shape [tokens] are the same for all rows, whatever their number."""
        self._positions |= names

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, layer: int, bias_column: Optional[int], name: str):
        def hook(module: nn.Module, inputs: Tuple[torch.Tensor, ...], output: torch.Tensor):
            if self._rows is None or not torch.is_grad_enabled():
                return None
            if not inputs:
                raise ValueError(f"{name} was called with its input by keyword: pass it by position")
            given = inputs[0]
            if kind_of(module) == TABLE:
                noted, output = self._ids_for_rows(name, given.detach(), output)
            else:
                self._check_rows(name, given, 4 if kind_of(module) == CONVOLUTION else 2)
                noted = given.detach()
            # Adding zeros that want a gradient yields the gradient at the output without computing the weights', and
            # it stays right where the model changes the output in place.
            probe = torch.zeros((), dtype=output.dtype, device=output.device).expand(output.shape).requires_grad_()
            self._uses.append(Use(layer, bias_column, module, name, noted, given._version, probe))
            return output + probe

        return hook

    def _check_rows(self, name: str, given: torch.Tensor, dims: int) -> None:
        if given.dim() < dims or given.shape[0] != self._rows:
            raise ValueError(
                f"{name} was given an input of shape {list(given.shape)} for {self._rows} rows: the first dimension "
                "has to be the rows, the last one (of a convolution the last three) the layer's input"
            )

    def _ids_for_rows(self, name: str, ids: torch.Tensor, output: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """A table's ids [rows, ...] and its output for them, given out once for each row where it was one for all."""
        rows = self._rows
        if ids.dim() == 1:
            if len(ids) == rows and name not in self._positions:
                if rows > 1:
                    self.doubtful.add(name)
                return ids, output
            self._positions.add(name)
            ids, output = ids[None], output[None]
        if ids.dim() == 0 or ids.shape[0] not in (1, rows):
            raise ValueError(
                f"{name} was given ids of shape {list(ids.shape)} for {rows} rows: [rows, ...] has to be the shape, or "
                "[tokens] or [1, tokens] for positions that are the same in all rows (leave it out with layers=[...])"
            )
        return ids.expand(rows, *ids.shape[1:]), output.expand(rows, *output.shape[1:])


def output_gradients(
    scalar: torch.Tensor, uses: Sequence[Use], keep_graph: bool = False
) -> List[Optional[torch.Tensor]]:
    """The gradient of `scalar` at the output of each use, of the output's shape; None where there is no dependence."""
    if not uses:
        return []
    if not scalar.requires_grad:
        raise ValueError("the loss does not depend on any collected layer: was it detached, or made without gradients?")
    gradients = torch.autograd.grad(scalar, [use.probe for use in uses], retain_graph=keep_graph, allow_unused=True)
    for use in uses:
        if use.inputs._version != use.version:
            raise ValueError(f"the input of {use.module_name} was changed in place after the layer had used it")
    return list(gradients)


def leaking(values: torch.Tensor, uses: Sequence[Use], packing: Optional[Packing] = None) -> List[str]:
    """Names of the layers through which the loss of one example depends on the outputs of another.

    `values` [examples]: the loss of each. Such examples have no gradients of their own. Costs two backward passes: that
    of every second example may reach these alone, and that of the others theirs.
    """
    names = []
    for parity in (0, 1):
        gradients = output_gradients(values[parity::2].sum(), uses, keep_graph=True)
        for use, gradient in zip(uses, gradients):
            if gradient is None or gradient.numel() == 0:
                continue
            if packing is None:
                own, others = gradient[parity::2], gradient[1 - parity :: 2]
            elif gradient.shape[:2] == packing.example_of.shape:
                whose = packing.example_of.to(gradient.device)
                # Of what is no example's nothing may depend either.
                is_own = (whose >= 0) & (whose % 2 == parity)
                own, others = gradient[is_own], gradient[~is_own]
            else:
                continue
            if _largest(others) > LEAK_SHARE_MAX * _largest(own):
                names.append(use.module_name)
    return list(dict.fromkeys(names))


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
