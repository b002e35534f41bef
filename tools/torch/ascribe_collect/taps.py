"""Hooks that note what goes into a layer, and what gradient comes back to its output."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from .layers import Layer


@dataclass
class Use:
    """One call of one layer: its input [rows, ..., in] and a probe whose gradient is that of the output."""

    layer: int
    bias_column: Optional[int]
    module_name: str
    inputs: torch.Tensor
    version: int
    probe: torch.Tensor


class Taps:
    """Listens to the layers while `recording`, and at no other time."""

    def __init__(self, layers: Sequence[Layer]):
        self._layers = list(layers)
        self._rows: Optional[int] = None
        self._uses: List[Use] = []
        self._handles = [
            module.register_forward_hook(self._hook(index, column, name))
            for index, layer in enumerate(self._layers)
            for module, column, name in zip(layer.modules, layer.bias_columns, layer.module_names)
        ]

    @contextlib.contextmanager
    def recording(self, rows: int) -> Iterator[List[Use]]:
        """Within the block, calls of the layers are appended to the list; their first dimension has to be `rows`."""
        self._rows, self._uses = rows, []
        try:
            yield self._uses
        finally:
            # Backward passes may run the model again (activation checkpointing); those calls are no new uses.
            self._rows, self._uses = None, []

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
            rows, given = self._rows, inputs[0]
            if given.dim() < 2 or given.shape[0] != rows:
                raise ValueError(
                    f"{name} was given an input of shape {list(given.shape)} for {rows} rows: the first dimension "
                    "has to be the rows, the last one the layer's input"
                )
            # Adding zeros that want a gradient yields the gradient at the output without computing the weights', and
            # it stays right where the model changes the output in place.
            probe = torch.zeros((), dtype=output.dtype, device=output.device).expand(output.shape).requires_grad_()
            self._uses.append(Use(layer, bias_column, name, given.detach(), given._version, probe))
            return output + probe

        return hook


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
