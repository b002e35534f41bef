"""The kinds of layers, and how wide the two sides of their weights are."""

from __future__ import annotations

from typing import Optional, Tuple

import torch
from torch import nn

LINEAR = "linear"
TABLE = "table"
CONVOLUTION = "convolution"
# Hugging Face's Conv1D of GPT-2: a linear layer whose weight is kept transposed, [in, out].
TRANSPOSED = "transposed linear"


def kind_of(module: nn.Module) -> Optional[str]:
    """What kind of layer a module is, None if it is none that can be collected.

    >>> kind_of(nn.Linear(3, 4)), kind_of(nn.Embedding(9, 4)), kind_of(nn.LayerNorm(4))
    ('linear', 'table', None)
    """
    if isinstance(module, nn.Linear):
        return LINEAR
    if isinstance(module, nn.Embedding):
        return TABLE
    if isinstance(module, nn.Conv2d):
        return CONVOLUTION
    weight = getattr(module, "weight", None)
    # By its looks, for the package that it comes from need not be installed.
    if type(module).__name__ == "Conv1D" and isinstance(weight, nn.Parameter) and weight.dim() == 2:
        if getattr(module, "nf", None) == weight.shape[1]:
            return TRANSPOSED
    return None


def widths(module: nn.Module) -> Tuple[int, int]:
    """Width of the output and of the input, without a bias; a table's input is as wide as it has rows.

    A convolution's input is what it sees at one place, in_channels / groups x height x width.

    >>> widths(nn.Linear(3, 4)), widths(nn.Embedding(9, 4)), widths(nn.Conv2d(3, 8, 5))
    ((4, 3), (4, 9), (8, 75))
    """
    kind, weight = kind_of(module), module.weight
    if kind in (TABLE, TRANSPOSED):
        return weight.shape[1], weight.shape[0]
    return weight.shape[0], weight[0].numel()


def as_matrix(module: nn.Module, of_weight: torch.Tensor) -> torch.Tensor:
    """A tensor of the weight's shape as [out, in], the way gradients are written."""
    if kind_of(module) in (TABLE, TRANSPOSED):
        return of_weight.T
    return of_weight.reshape(of_weight.shape[0], -1)


def bias_of(module: nn.Module) -> Optional[torch.Tensor]:
    """The bias that training changes, if there is one."""
    bias = getattr(module, "bias", None)
    return bias if bias is not None and bias.requires_grad else None


def outputs_last(module: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """A tensor of the shape of a call's output, with the output's width as the last dimension."""
    return output.movedim(1, -1) if kind_of(module) == CONVOLUTION else output
