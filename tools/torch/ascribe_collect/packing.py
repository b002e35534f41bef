"""Several examples in one row of tokens: which token is whose."""

from __future__ import annotations

from typing import List

import torch


class Packing:
    """Takes rows of tokens apart into examples, in the order in which they appear, row after row.

    segments: whole numbers [rows, tokens]; within a row equal numbers are one example, negative ones none (padding).

    >>> packing = Packing(torch.tensor([[0, 0, 1], [7, -1, -1]]))
    >>> packing.apart(torch.tensor([[10, 11, 12], [13, 14, 15]]), fill=-1).tolist()
    [[10, 11], [12, -1], [13, -1]]
    """

    def __init__(self, segments: torch.Tensor):
        segments = torch.as_tensor(segments)
        if segments.dim() != 2 or segments.is_floating_point() or segments.dtype == torch.bool:
            given = f"{segments.dtype} {list(segments.shape)}"
            raise ValueError(f"segments are {given}: whole numbers [rows, tokens] are wanted")
        self.rows, self.tokens = segments.shape
        places: List[List[int]] = []
        for row, numbers in enumerate(segments.tolist()):
            found = {}
            for token, number in enumerate(numbers):
                if number >= 0:
                    found.setdefault(number, []).append(row * self.tokens + token)
            places += found.values()
        if not places:
            raise ValueError("segments name no example: all are negative")
        self.examples = len(places)
        nowhere = self.rows * self.tokens
        longest = max(len(own) for own in places)
        self.index = torch.tensor([own + [nowhere] * (longest - len(own)) for own in places])
        # Of each token the number of its example, -1 for none.
        self.example_of = torch.full((nowhere + 1,), -1)
        numbers = torch.arange(self.examples)[:, None].expand_as(self.index)
        self.example_of[self.index.flatten()] = numbers.flatten()
        self.example_of = self.example_of[:nowhere].reshape(self.rows, self.tokens)

    def apart(self, values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """[rows, tokens, ...] as [examples, longest example, ...], with `fill` behind the shorter ones."""
        flat = values.reshape(self.rows * self.tokens, *values.shape[2:])
        flat = torch.cat([flat, flat.new_full((1, *flat.shape[1:]), fill)])
        return flat[self.index.to(values.device)]
