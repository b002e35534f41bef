"""Language models: labels of tokens, and the loss of examples that are sequences."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple, Union

import torch

from .classifier import LabelSampler, margin_of
from .packing import Packing

# The label of tokens that do not count, as everywhere in PyTorch.
IGNORED = -100


def next_token_labels(
    tokens: torch.Tensor,
    *,
    prompt_lengths: Union[None, int, Sequence[int]] = None,
    token_mask: Optional[torch.Tensor] = None,
    segments: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Labels [rows, tokens] of a model whose logits at a token are those of the next: shifted to the left by one.

    The last token has the label -100, and so have those whose next token is one of the first `prompt_lengths` (of all
    rows, or one number a row; with `segments` of each example, in their order), is padding (`token_mask` False, or a
    negative segment), or belongs to another example (`segments`, see `Packing`).

    >>> next_token_labels(torch.tensor([[5, 6, 7, 8]]), prompt_lengths=2).tolist()
    [[-100, 7, 8, -100]]
    """
    if tokens.dim() != 2:
        raise ValueError(f"tokens of shape {list(tokens.shape)}: [rows, tokens] is wanted")
    rows, length = tokens.shape
    packing = Packing(torch.zeros_like(tokens) if segments is None else segments)
    if (packing.rows, packing.tokens) != (rows, length):
        raise ValueError(f"segments of shape {[packing.rows, packing.tokens]} for tokens of shape {[rows, length]}")
    # Where in its example a token stands.
    within = torch.zeros(rows * length + 1, dtype=torch.int64)
    order = torch.arange(packing.index.shape[1]).expand_as(packing.index)
    within[packing.index.flatten()] = order.flatten()
    within = within[:-1].reshape(rows, length)
    example = packing.example_of
    counts = torch.zeros_like(within, dtype=torch.bool)
    counts[:, :-1] = (example[:, 1:] == example[:, :-1]) & (example[:, 1:] >= 0)
    if token_mask is not None:
        if token_mask.shape != tokens.shape:
            raise ValueError(f"token_mask of shape {list(token_mask.shape)} for tokens of shape {[rows, length]}")
        counts[:, :-1] &= token_mask.to("cpu", torch.bool)[:, 1:]
    if prompt_lengths is not None:
        lengths = torch.as_tensor(prompt_lengths).to("cpu")
        if lengths.dim() == 0:
            lengths = lengths.expand(packing.examples)
        if lengths.shape != (packing.examples,):
            raise ValueError(f"{list(lengths.shape)} prompt lengths for {packing.examples} examples")
        counts[:, :-1] &= within[:, 1:] >= lengths[example.clamp_min(0)][:, 1:]
    labels = torch.full((rows, length), IGNORED, dtype=torch.int64)
    labels[:, :-1] = tokens.detach().to("cpu", torch.int64)[:, 1:]
    return labels.masked_fill(~counts, IGNORED).to(tokens.device)


def checked_token_labels(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Labels as int64 [rows, tokens] where the logits are, or a ValueError that says what is wrong with them."""
    if logits.dim() != 3 or logits.shape[:2] != labels.shape or logits.shape[2] < 2:
        raise ValueError(
            f"logits of shape {list(logits.shape)} for labels of shape {list(labels.shape)}: "
            "[rows, tokens, vocabulary] and [rows, tokens] are wanted"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}, but have to be whole numbers")
    labels = labels.to(logits.device, torch.int64)
    wrong = ((labels != IGNORED) & ((labels < 0) | (labels >= logits.shape[2]))).nonzero()
    if len(wrong):
        row, token = wrong[0].tolist()
        raise ValueError(
            f"row {row} of the batch has the label {int(labels[row, token])} at token {token}: labels are 0 to "
            f"{logits.shape[2] - 1}, and {IGNORED} for tokens that do not count"
        )
    return labels


def token_losses(
    logits: torch.Tensor, labels: torch.Tensor, example_of: torch.Tensor, sampler: Optional[LabelSampler]
) -> Tuple[torch.Tensor, torch.Tensor]:
    """A value for each example whose gradient is that of the summed cross-entropy of its tokens, and their number.

    logits: [rows, tokens, vocabulary]; labels: int64 [rows, tokens], -100 for tokens that do not count; example_of:
    [rows, tokens], the example that a token belongs to. With a `sampler` the labels that count are drawn from the
    model instead. Cross-entropy's gradient is 1 - p times the negated margin's, which keeps its digits where p is near
    1 (see `margin_and_own`); everything is float32.
    """
    counts = labels != IGNORED
    examples = int(example_of.max()) + 1
    chosen, whose = logits[counts].to(torch.float32), example_of.to(logits.device)[counts]
    target = labels[counts] if sampler is None else sampler.draw(chosen).to(logits.device)
    margin = margin_of(chosen, target)
    own = torch.sigmoid(-margin.detach())
    values = torch.zeros(examples, device=logits.device).index_add(0, whose, -own * margin)
    return values, torch.bincount(whose, minlength=examples)
