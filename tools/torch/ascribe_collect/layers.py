"""Which layers of a model are collected, and which of them are one because they share their weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

# The name of the only layer of a model that is an nn.Linear itself: a schema's names are not empty.
ROOT_NAME = "linear"


@dataclass(frozen=True)
class Layer:
    """One weight matrix: usually one nn.Linear, several where they share their weight.

    `inputs` is the input's width with its bias columns. A bias is the weight of a constant input 1; where layers share
    the weight but not the bias, each of the different biases is an input of its own, 1 for its layer and 0 for others.
    """

    name: str
    out: int
    inputs: int
    modules: Tuple[nn.Linear, ...]
    module_names: Tuple[str, ...]
    bias_columns: Tuple[Optional[int], ...]

    @property
    def bias(self) -> bool:
        return any(column is not None for column in self.bias_columns)

    @property
    def shape(self) -> Tuple[str, int, int, bool]:
        return self.name, self.out, self.inputs, self.bias


def select_layers(model: nn.Module, names: Optional[Sequence[str]] = None) -> Tuple[List[Layer], List[str]]:
    """The layers to collect, in the model's order, and remarks on what is left out or put together.

    `names` are names as in `model.named_modules()`; without them every nn.Linear with a trainable weight is taken.

    >>> layers, remarks = select_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    >>> [(layer.name, layer.out, layer.inputs) for layer in layers]
    [('0', 4, 4), ('2', 2, 5)]
    """
    linear = {
        name or ROOT_NAME: module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    chosen = list(linear) if names is None else list(names)
    unknown = [name for name in chosen if name not in linear]
    if unknown:
        raise ValueError(f"no nn.Linear is named {unknown[0]!r}; there are: {', '.join(linear) or 'none'}")
    remarks = []
    by_weight: Dict[int, List[str]] = {}
    for name, module in linear.items():
        by_weight.setdefault(id(module.weight), []).append(name)
    layers = []
    for together in by_weight.values():
        wanted = [name for name in together if name in chosen]
        if not wanted:
            continue
        if not linear[wanted[0]].weight.requires_grad:
            remarks.append(f"{', '.join(together)}: left out, the weight is frozen (requires_grad is false)")
            continue
        layers.append(_layer(wanted[0], together, linear))
        if len(together) > 1:
            remarks.append(f"{', '.join(together)}: one weight, collected as {wanted[0]}")
    if not layers:
        raise ValueError("no trainable nn.Linear to collect: " + ("; ".join(remarks) or "the model has none"))
    remarks += _coverage(model, layers)
    return layers, remarks


def _layer(name: str, together: Sequence[str], linear: Dict[str, nn.Linear]) -> Layer:
    modules = tuple(linear[each] for each in together)
    width = modules[0].in_features
    columns: Dict[int, int] = {}
    bias_columns: List[Optional[int]] = []
    for module in modules:
        trainable = module.bias is not None and module.bias.requires_grad
        bias_columns.append(columns.setdefault(id(module.bias), width + len(columns)) if trainable else None)
    return Layer(
        name, modules[0].out_features, width + len(columns), modules, tuple(together), tuple(bias_columns)
    )


def _coverage(model: nn.Module, layers: Sequence[Layer]) -> List[str]:
    """What of the trainable parameters the layers do not hold: scores know nothing of it."""
    inside = {id(parameter) for layer in layers for module in layer.modules for parameter in module.parameters()}
    of_linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    remarks = []
    outside: Dict[int, Tuple[str, torch.Tensor]] = {}
    for module_name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{parameter_name}" if module_name else parameter_name
            if id(parameter) not in inside:
                if parameter.requires_grad:
                    outside.setdefault(id(parameter), (name, parameter))
            elif not isinstance(module, nn.Linear) and id(parameter) in of_linear:
                remarks.append(f"{name}: is a collected layer's weight too; only what the layer does is collected")
    if outside:
        missing = sum(parameter.numel() for _, parameter in outside.values())
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        names = [name for name, _ in outside.values()]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        remarks.append(f"not collected: {missing} of {trainable} trainable values ({shown})")
    return remarks
