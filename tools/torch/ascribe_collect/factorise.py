"""A sum of outer products as few pairs of vectors."""

from __future__ import annotations

from typing import Optional, Tuple

import torch


def factorise(left: torch.Tensor, right: torch.Tensor, rank: int) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The top `rank` singular pairs of sum_t left_t right_t^T, for each row.

    left: [n, tokens, out], right: [n, tokens, in]. Returns u [n, rank, out], v [n, rank, in] and the share of the
    squared norm that was left out, [n] (0 where rank >= min(tokens, out, in)). Each pair carries the root of its
    singular value on both sides, so that u and v are of one size. Pairs beyond the matrix's rank are zero.

    The matrix itself (out x in) is not formed unless there are at least as many tokens as it has rows and columns:
    its singular pairs follow from those of the small core between the orthogonal bases of the two sides. A token
    whose left side is zero adds nothing, so padding does not matter.

    >>> u, v, lost = factorise(torch.randn(5, 3, 40), torch.randn(5, 3, 30), rank=2)
    >>> u.shape, v.shape
    (torch.Size([5, 2, 40]), torch.Size([5, 2, 30]))
    """
    # Half of single precision's digits would go into the inner products; the core is small, so double is cheap.
    work = torch.float32 if left.device.type == "mps" else torch.float64
    left_basis, left_part = _basis(left.to(work))
    right_basis, right_part = _basis(right.to(work))
    core = left_part @ right_part.transpose(1, 2)
    left_vectors, values, right_vectors = torch.linalg.svd(core, full_matrices=False)
    kept = min(rank, values.shape[1])
    root = values[:, :kept].sqrt()
    u = _unfold(left_basis, left_vectors[:, :, :kept] * root[:, None, :])
    v = _unfold(right_basis, right_vectors.transpose(1, 2)[:, :, :kept] * root[:, None, :])
    # A pair's sign is arbitrary; the largest entry of u is made positive, so that every machine writes the same.
    largest = u.gather(2, u.abs().argmax(dim=2, keepdim=True))
    sign = torch.where(largest < 0, -torch.ones_like(largest), torch.ones_like(largest))
    total = values.square().sum(dim=1)
    left_out = values[:, kept:].square().sum(dim=1)
    lost = torch.where(total > 0, left_out / total.clamp_min(torch.finfo(work).tiny), torch.zeros_like(total))
    return pad_rank(u * sign, rank), pad_rank(v * sign, rank), lost


def pad_rank(pairs: torch.Tensor, rank: int) -> torch.Tensor:
    """Zero vectors appended to [n, pairs, width] up to `rank` of them."""
    missing = rank - pairs.shape[1]
    if missing <= 0:
        return pairs
    return torch.cat([pairs, pairs.new_zeros(pairs.shape[0], missing, pairs.shape[2])], dim=1)


def _basis(side: torch.Tensor) -> Tuple[Optional[torch.Tensor], torch.Tensor]:
    """[n, tokens, width] as an orthogonal basis [n, width, k] and coordinates [n, k, tokens]; None for the identity."""
    columns = side.transpose(1, 2)
    if side.shape[1] >= side.shape[2]:
        return None, columns
    basis, coordinates = torch.linalg.qr(columns, mode="reduced")
    return basis, coordinates


def _unfold(basis: Optional[torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
    """Coordinates [n, k, rank] back to vectors [n, rank, width]."""
    return (vectors if basis is None else basis @ vectors).transpose(1, 2)
