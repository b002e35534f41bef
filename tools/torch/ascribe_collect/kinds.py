"""The kinds of layers, and how what goes through one becomes pairs of vectors whose outer products are its gradient."""

from __future__ import annotations

from typing import Optional, Tuple

import torch
from torch import nn

LINEAR = "linear"
TABLE = "table"


def kind_of(module: nn.Module) -> Optional[str]:
    """What kind of layer a module is, None if it is none that can be collected.

    >>> kind_of(nn.Linear(3, 4)), kind_of(nn.Embedding(9, 4)), kind_of(nn.LayerNorm(4))
    ('linear', 'table', None)
    """
    if isinstance(module, nn.Linear):
        return LINEAR
    if isinstance(module, nn.Embedding):
        return TABLE
    return None


def widths(module: nn.Module) -> Tuple[int, int]:
    """Width of the output and of the input, without a bias; a table's input is as wide as it has rows.

    >>> widths(nn.Linear(3, 4)), widths(nn.Embedding(9, 4))
    ((4, 3), (4, 9))
    """
    if isinstance(module, nn.Embedding):
        return module.embedding_dim, module.num_embeddings
    return module.out_features, module.in_features


def bias_of(module: nn.Module) -> Optional[torch.Tensor]:
    """The bias that training changes, if there is one."""
    bias = getattr(module, "bias", None)
    return bias if bias is not None and bias.requires_grad else None


def looked_up(module: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    """Row numbers [rows, tokens] of a call of a table, -1 where the table gets no gradient (its padding)."""
    ids = ids.reshape(ids.shape[0], -1).to(torch.int64)
    if module.padding_idx is not None:
        ids = ids.masked_fill(ids == module.padding_idx, -1)
    return ids


def one_hot(ids: torch.Tensor, width: int) -> torch.Tensor:
    """float32 [rows, tokens, width], zeros for -1."""
    hot = torch.zeros(*ids.shape, width, device=ids.device)
    return hot.scatter_(2, ids.clamp_min(0)[:, :, None], (ids >= 0).to(torch.float32)[:, :, None])
