"""From the calls of a layer to pairs of vectors whose outer products add up to each row's gradient.

Everything here is float32 whatever the model's precision is: inputs and gradients are converted before anything is
multiplied or added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import torch
from torch.nn import functional as F

from .kinds import CONVOLUTION, TABLE, kind_of, outputs_last
from .layers import Layer
from .packing import Packing
from .taps import Use


@dataclass
class Calls:
    """The calls of one layer in a batch, with the gradients at their outputs.

    `scale` [examples] multiplies each example's gradient; `packing` takes rows of tokens apart into examples; `mask`
    [rows, tokens] is False for tokens that are padding.
    """

    layer: Layer
    uses: Sequence[Use]
    gradients: Sequence[torch.Tensor]
    scale: Optional[torch.Tensor] = None
    packing: Optional[Packing] = None
    mask: Optional[torch.Tensor] = None

    @property
    def sequence(self) -> bool:
        """Whether an example may have had several inputs."""
        return any(_has_tokens(use) for use in self.uses)

    def pairs(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """[examples, tokens, out] and [examples, tokens, in], the inputs of biases appended."""
        both = [self._pair(use, gradient) for use, gradient in zip(self.uses, self.gradients)]
        return torch.cat([left for left, _ in both], dim=1), torch.cat([right for _, right in both], dim=1)

    def lookups(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Of a table: ids [examples, tokens], -1 for none, and the gradients [examples, tokens, out]."""
        for use, gradient in zip(self.uses, self.gradients):
            if self._is_masked(use) and bool(gradient[~self.mask.to(gradient.device)].any()):
                raise ValueError(
                    f"{use.module_name}: the loss depends on tokens that token_mask calls padding: the model has to "
                    "leave them out"
                )
        ids = [self._tokens(use, self._ids(use)[..., None], fill=-1)[:, :, 0] for use in self.uses]
        lefts = [self._scaled(use, gradient) for use, gradient in zip(self.uses, self.gradients)]
        return torch.cat(ids, dim=1), torch.cat(lefts, dim=1)

    def real_tokens(self) -> torch.Tensor:
        """bool [examples, tokens]: which of the pairs are those of tokens that are no padding."""
        parts: List[torch.Tensor] = []
        for use, gradient in zip(self.uses, self.gradients):
            last = outputs_last(use.module, gradient)[..., :1]
            real = torch.ones_like(last, dtype=torch.bool)
            if self._is_masked(use):
                kept = self.mask.to(last.device).reshape(*self.mask.shape, *[1] * (last.dim() - 2))
                real = real & kept
            parts.append(self._tokens(use, real)[:, :, 0])
        return torch.cat(parts, dim=1)

    def _pair(self, use: Use, gradient: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        left = self._scaled(use, gradient)
        if kind_of(use.module) == TABLE:
            # Seen from the side of the layer that it shares its weight with.
            ids = self._tokens(use, self._ids(use)[..., None], fill=-1)[:, :, 0]
            return _one_hot(ids, self.layer.out), self._with_bias(use, left)
        if kind_of(use.module) == CONVOLUTION:
            patches = _patches(use.module, use.inputs)
            if use.module.groups > 1:
                return self._grouped(use, left, patches)
            return left, self._with_bias(use, patches)
        right = self._tokens(use, use.inputs.to(torch.float32))
        return left, self._with_bias(use, right)

    def _grouped(self, use: Use, left: torch.Tensor, patches: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """A convolution in groups: each group's rows of the weight see their own channels only.

        The gradient itself is formed, which has the weight's size, and stands on the right of unit vectors.
        """
        rows, places, out = left.shape
        groups = use.module.groups
        of_group = left.reshape(rows, places, groups, out // groups)
        seen = patches.reshape(rows, places, groups, -1)
        matrix = torch.einsum("npgo,npgi->ngoi", of_group, seen).reshape(rows, out, -1)
        width = self.layer.inputs - matrix.shape[2]
        constant = matrix.new_zeros(rows, out, width)
        if use.bias_column is not None:
            constant[:, :, use.bias_column - matrix.shape[2]] = left.sum(dim=1)
        unit = torch.eye(out, device=left.device).expand(rows, -1, -1)
        return unit, torch.cat([matrix, constant], dim=2)

    def _with_bias(self, use: Use, right: torch.Tensor) -> torch.Tensor:
        width = right.shape[2]
        if self.layer.inputs <= width:
            return right
        constant = right.new_zeros(right.shape[0], right.shape[1], self.layer.inputs - width)
        if use.bias_column is not None:
            constant[:, :, use.bias_column - width] = 1
        return torch.cat([right, constant], dim=2)

    def _scaled(self, use: Use, gradient: torch.Tensor) -> torch.Tensor:
        left = self._tokens(use, outputs_last(use.module, gradient.detach()).to(torch.float32))
        return left if self.scale is None else left * self.scale.to(left.device, torch.float32)[:, None, None]

    def _ids(self, use: Use) -> torch.Tensor:
        ids = use.inputs.to(torch.int64)
        if use.module.padding_idx is not None:
            ids = ids.masked_fill(ids == use.module.padding_idx, -1)
        if self._is_masked(use):
            kept = self.mask.to(ids.device).reshape(*self.mask.shape, *[1] * (ids.dim() - 2))
            ids = ids.masked_fill(~kept, -1)
        return ids

    def _is_masked(self, use: Use) -> bool:
        of_table = kind_of(use.module) == TABLE
        dims = use.inputs.dim() + of_table
        return self.mask is not None and dims > 2 and use.inputs.shape[:2] == self.mask.shape

    def _tokens(self, use: Use, values: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """[rows, ..., width] as [examples, tokens, width]."""
        if self.packing is not None:
            if values.dim() < 3 or values.shape[1] != self.packing.tokens or kind_of(use.module) == CONVOLUTION:
                raise ValueError(
                    f"{use.module_name} works on {list(use.inputs.shape)}, but packed rows can only be taken apart "
                    f"where the second dimension is the {self.packing.tokens} tokens"
                )
            values = self.packing.apart(values, fill)
        return values.reshape(values.shape[0], -1, values.shape[-1])


def _has_tokens(use: Use) -> bool:
    kind = kind_of(use.module)
    return kind == CONVOLUTION or use.inputs.dim() > (1 if kind == TABLE else 2)


def _one_hot(ids: torch.Tensor, width: int) -> torch.Tensor:
    """float32 [rows, tokens, width], zeros for -1."""
    hot = torch.zeros(*ids.shape, width, device=ids.device)
    return hot.scatter_(2, ids.clamp_min(0)[:, :, None], (ids >= 0).to(torch.float32)[:, :, None])


def _patches(module: torch.nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
    """What a convolution sees at each place of its output: float32 [rows, places, channels x height x width]."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    # The module's own numbers, which hold those of padding="same" and "valid" too.
    around = module._reversed_padding_repeated_twice
    filled = inputs.to(torch.float32)
    if any(around):
        filled = F.pad(filled, around, mode=mode)
    seen = F.unfold(filled, module.kernel_size, dilation=module.dilation, stride=module.stride)
    return seen.transpose(1, 2)
