"""Gradients divided by what Adam divides its steps by: the fourth root of its second moments."""

from __future__ import annotations

from typing import Dict, Mapping

import torch
from torch import nn

from .kinds import TABLE, as_matrix, kind_of
from .layers import Layer

# What the schema says of such gradients.
ADAM = "adam, divided by (sqrt(v) + eps)^(1/2), v the bias-corrected second moment"

# Divisors of the parameters' shapes, by the parameters' names.
Divisors = Mapping[str, torch.Tensor]


def adam_divisors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Dict[str, torch.Tensor]:
    """By what gradients are to be divided, by the names of the model's parameters: (sqrt(v) + eps)^(1/2).

    v is the second moment that the optimiser keeps of a parameter, bias-corrected as in its own step: exp_avg_sq /
    (1 - beta2^steps), or max_exp_avg_sq likewise with amsgrad. Adam's step divides the gradient by sqrt(v) + eps; an
    inner product of two gradients that are both divided by its root is preconditioned the same way. A value whose
    gradient was always 0 is divided by the root of eps. Parameters that the optimiser has not stepped are left out.

    Save the result with the checkpoint, or load the optimiser's state first: `optimizer.load_state_dict(...)`.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    >>> model(torch.tensor([[16.0]])).sum().backward(); optimizer.step()
    >>> adam_divisors(model, optimizer)["weight"].round().tolist()
    [[4.0]]
    """
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    divisors = {}
    for name, parameter in model.named_parameters():
        group, state = groups.get(id(parameter)), optimizer.state.get(parameter, {})
        if group is None or "step" not in state:
            continue
        moment = state.get("max_exp_avg_sq", state.get("exp_avg_sq"))
        if moment is None:
            kind = type(optimizer).__name__
            raise ValueError(f"{kind} keeps no second moments (exp_avg_sq) of {name}: is it an Adam?")
        correction = 1 - group["betas"][1] ** float(state["step"])
        root = (moment.detach().to(torch.float32) / correction).sqrt()
        divisors[name] = (root + group["eps"]).sqrt()
    if not divisors:
        raise ValueError("the optimiser has no state for any parameter of this model: has it made a step?")
    return divisors


def layer_divisor(model: nn.Module, layer: Layer, divisors: Divisors) -> torch.Tensor:
    """float32 [out, in] of a layer, the columns of biases included; of a table [width, vocabulary]."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def of(parameter: torch.Tensor) -> torch.Tensor:
        name = names[id(parameter)]
        if name not in divisors:
            raise ValueError(f"{layer.name}: no divisor for {name}: did the optimiser train it?")
        divisor = divisors[name]
        if divisor.shape != parameter.shape or not bool((torch.isfinite(divisor) & (divisor > 0)).all()):
            raise ValueError(f"the divisor of {name} has another shape than it, or values that are not above 0")
        return divisor.to(parameter.device, torch.float32)

    # A table beside a linear layer sees the weight from the other side.
    first = next((module for module in layer.modules if kind_of(module) != TABLE), layer.modules[0])
    matrix = as_matrix(first, of(first.weight))
    columns = [matrix]
    for column in range(matrix.shape[1], layer.inputs):
        bias = next(module.bias for module, own in zip(layer.modules, layer.bias_columns) if own == column)
        columns.append(of(bias)[:, None])
    return torch.cat(columns, dim=1)
