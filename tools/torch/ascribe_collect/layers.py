"""Which layers of a model are collected, and which of them are one because they share their weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from .kinds import LINEAR, TABLE, bias_of, kind_of, widths

# The name of the only layer of a model that is one itself: a schema's names are not empty.
ROOT_NAME = "linear"


@dataclass(frozen=True)
class Layer:
    """One weight: usually that of one module, of several where they share it.

    `inputs` is the input's width with its bias columns. A bias is the weight of a constant input 1; where layers share
    the weight but not the bias, each of the different biases is an input of its own, 1 for its layer and 0 for others.

    `is_table`: only looked up in, so that a row's gradient has the columns of its own tokens and no others. A table
    that shares its weight with a linear layer (often the last one) is that layer, `out` is then its vocabulary.
    """

    name: str
    out: int
    inputs: int
    modules: Tuple[nn.Module, ...]
    module_names: Tuple[str, ...]
    bias_columns: Tuple[Optional[int], ...]
    is_table: bool = False

    @property
    def bias(self) -> bool:
        return any(column is not None for column in self.bias_columns)

    @property
    def holds_table(self) -> bool:
        """Whether one side of the weight is a vocabulary."""
        return any(kind_of(module) == TABLE for module in self.modules)

    @property
    def shape(self) -> Tuple[str, int, int, bool, bool]:
        return self.name, self.out, self.inputs, self.bias, self.is_table


def select_layers(
    model: nn.Module, names: Optional[Sequence[str]] = None, lookups: Sequence[str] = ()
) -> Tuple[List[Layer], List[str]]:
    """The layers to collect, in the model's order, and remarks on what is left out or put together.

    `names` are names as in `model.named_modules()`; without them every layer with a trainable weight is taken.
    `lookups` are tables of which only the looking up is taken, whatever shares their weight.

    >>> layers, remarks = select_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    >>> [(layer.name, layer.out, layer.inputs) for layer in layers]
    [('0', 4, 4), ('2', 2, 5)]
    """
    known = {name or ROOT_NAME: module for name, module in model.named_modules() if kind_of(module) is not None}
    chosen = list(known) if names is None else list(names)
    for name in [*chosen, *lookups]:
        if name not in known:
            there = ", ".join(known) or "none"
            raise ValueError(f"no layer that can be collected is named {name!r}; there are: {there}")
    for name in lookups:
        if kind_of(known[name]) != TABLE:
            raise ValueError(f"{name} of lookups is no nn.Embedding")
    remarks = []
    by_weight: Dict[int, List[str]] = {}
    for name, module in known.items():
        by_weight.setdefault(id(module.weight), []).append(name)
    layers = []
    for together in by_weight.values():
        wanted = [name for name in together if name in chosen]
        if not wanted:
            continue
        reason = _left_out(together, known)
        if reason is not None:
            remarks.append(f"{', '.join(together)}: left out, {reason}")
            continue
        if any(name in lookups for name in together):
            tables = [name for name in together if kind_of(known[name]) == TABLE]
            others = [name for name in together if name not in tables]
            if others:
                remarks.append(f"{', '.join(tables)}: only looked up; what {', '.join(others)} adds is not collected")
            together, wanted = tables, tables
        layers.append(_layer(wanted[0], together, known))
        if len(together) > 1:
            remarks.append(f"{', '.join(together)}: one weight, collected as {wanted[0]}")
    if not layers:
        raise ValueError("no trainable layer to collect: " + ("; ".join(remarks) or "the model has none"))
    remarks += _coverage(model, layers)
    return layers, remarks


def _left_out(together: Sequence[str], known: Dict[str, nn.Module]) -> Optional[str]:
    """Why a weight is not collected, if so."""
    if not known[together[0]].weight.requires_grad:
        return "the weight is frozen (requires_grad is false)"
    kinds = {kind_of(known[name]) for name in together}
    if len(kinds) > 1 and kinds != {LINEAR, TABLE}:
        return f"the weight is shared by layers of different kinds ({', '.join(sorted(kinds))})"
    return None


def _layer(name: str, together: Sequence[str], known: Dict[str, nn.Module]) -> Layer:
    modules = tuple(known[each] for each in together)
    # A table beside a linear layer is one, seen from the other side: the linear layer says which side is which.
    first = next((module for module in modules if kind_of(module) != TABLE), modules[0])
    out, width = widths(first)
    columns: Dict[int, int] = {}
    bias_columns: List[Optional[int]] = []
    for module in modules:
        bias = bias_of(module)
        bias_columns.append(None if bias is None else columns.setdefault(id(bias), width + len(columns)))
    return Layer(
        name,
        out,
        width + len(columns),
        modules,
        tuple(together),
        tuple(bias_columns),
        is_table=kind_of(first) == TABLE,
    )


def _coverage(model: nn.Module, layers: Sequence[Layer]) -> List[str]:
    """What of the trainable parameters the layers do not hold: scores know nothing of it."""
    inside = {id(parameter) for layer in layers for module in layer.modules for parameter in module.parameters()}
    weights = {id(module.weight) for layer in layers for module in layer.modules}
    remarks = []
    outside: Dict[int, Tuple[str, torch.Tensor]] = {}
    for module_name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{parameter_name}" if module_name else parameter_name
            if id(parameter) not in inside:
                if parameter.requires_grad:
                    outside.setdefault(id(parameter), (name, parameter))
            elif kind_of(module) is None and id(parameter) in weights:
                remarks.append(f"{name}: is a collected layer's weight too; only what the layer does is collected")
        if getattr(module, "scale_grad_by_freq", False):
            remarks.append(f"{module_name}: scale_grad_by_freq depends on the batch and is left out of gradients")
    if outside:
        missing = sum(parameter.numel() for _, parameter in outside.values())
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        names = [name for name, _ in outside.values()]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        remarks.append(f"not collected: {missing} of {trainable} trainable values ({shown})")
    return remarks
