"""How a classifier's logits depend on the outputs of its layers."""

from __future__ import annotations

from typing import Dict, List, Sequence

import torch

from .encoding import LayerEncoder
from .kinds import TABLE, kind_of
from .taps import Use, output_gradients


def has_one_output(uses: Sequence[Use]) -> bool:
    """Whether a layer had one output a row; with several the jacobian has no place for them."""
    return len(uses) == 1 and uses[0].inputs.dim() == 2 and kind_of(uses[0].module) != TABLE


def jacobians(encoders: Sequence[LayerEncoder], uses: Sequence[Use], logits: torch.Tensor) -> Dict[str, torch.Tensor]:
    """d logits / d output of each encoder's layer, by name: float32 [rows, classes, out], projected as the layer is.

    `uses` has one use for each encoder. Costs a backward pass a class; the graph is kept for more.
    """
    collected: List[List[torch.Tensor]] = [[] for _ in encoders]
    for label in range(logits.shape[1] if encoders else 0):
        gradients = output_gradients(logits[:, label].sum(), uses, keep_graph=True)
        for encoder, use, gradient, of_layer in zip(encoders, uses, gradients, collected):
            gradient = torch.zeros_like(use.probe) if gradient is None else gradient
            of_layer.append(encoder.project_output(gradient.to(torch.float32)).cpu())
    return {encoder.layer.name: torch.stack(of_layer, dim=1) for encoder, of_layer in zip(encoders, collected)}
