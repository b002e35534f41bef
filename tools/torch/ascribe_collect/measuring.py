"""Running a model on batches of rows, and the gradients that come back to its layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import nn

from .classifier import LabelSampler, checked_labels, margin_and_own
from .language import checked_token_labels, token_losses
from .layers import Layer
from .packing import Packing
from .pairs import Calls
from .taps import Taps, Use, leaking, output_gradients

Forward = Callable[[nn.Module], torch.Tensor]


@dataclass
class Batch:
    """What a batch of `rows` examples left behind: the calls of the layers and the gradients at their outputs.

    `own` [rows]: 1 - p of the row's own label, where it was measured. `unlabelled`: rows without any label.
    """

    rows: int
    uses: Sequence[Use]
    gradients: Sequence[Optional[torch.Tensor]]
    scale: Optional[torch.Tensor]
    packing: Optional[Packing] = None
    mask: Optional[torch.Tensor] = None
    own: Optional[torch.Tensor] = None
    unlabelled: int = 0

    def calls(self, layers: Sequence[Layer]) -> Iterator[Tuple[int, Calls, bool]]:
        """For each layer that was called its number, its calls, and whether the loss depends on any of them."""
        for index, layer in enumerate(layers):
            both = [(use, gradient) for use, gradient in zip(self.uses, self.gradients) if use.layer == index]
            if both:
                # A call that the loss does not depend on has no gradient, but its input still says what v is.
                given = [torch.zeros_like(use.probe) if gradient is None else gradient for use, gradient in both]
                calls = Calls(layer, [use for use, _ in both], given, self.scale, self.packing, self.mask)
                yield index, calls, any(gradient is not None for _, gradient in both)


class Measuring:
    """Takes batches of rows of one model after the other; what becomes of their gradients is `_take`'s to say.

    Settings are those of `Collector`, which see.
    """

    def __init__(
        self, layers: Sequence[Layer], measurement: str, labels: str, seed: int, stream: int, loss_scale: float
    ):
        if not loss_scale > 0:
            raise ValueError(f"loss_scale {loss_scale} is not above 0")
        self._layers = list(layers)
        self._measurement, self._labels = measurement, labels
        self._seed, self._stream, self._loss_scale = seed, stream, float(loss_scale)
        self._rows_are_apart = False
        self._sampler = LabelSampler(seed, stream)
        self._taps: Optional[Taps] = None

    def add(self, rows: int, loss: Forward, *, token_mask: Optional[torch.Tensor] = None) -> None:
        """Appends `rows` rows. `loss(model)` runs the model on them and returns the loss: one value a row, or the sum.

        `token_mask` [rows, tokens] is False for padding: the table's gradient then has no column for it, and the
        K-FAC factors leave it out.

        >>> collector.add(len(x), lambda model: F.mse_loss(model(x), y, reduction="none").sum(1))   # doctest: +SKIP
        """
        self._check_batch(rows)
        if self._measurement != "loss" or self._labels != "true" or self._wants_logits():
            raise ValueError("margin, sampled labels and the jacobian need logits: use add_classified or add_tokens")

        def measure(model: nn.Module) -> torch.Tensor:
            value = loss(model)
            if value.dim() > 1 or (value.dim() == 1 and len(value) != rows):
                raise ValueError(f"a loss of shape {list(value.shape)}: one value a row ({rows}) or their sum")
            return value

        uses, value = self._recorded(rows, measure, None)
        gradients, scale = self._gradients(value, uses, None)
        self._take(Batch(rows, uses, gradients, scale, mask=_checked_mask(token_mask, rows)))

    def add_classified(
        self, labels: Sequence[int], logits: Forward, *, token_mask: Optional[torch.Tensor] = None
    ) -> None:
        """Appends a row for each of `labels` [rows], measured by cross-entropy or margin; writes `own` = 1 - p too.

        `logits(model)` runs the model on these rows and returns [rows, classes].
        """
        rows = len(labels)
        self._check_batch(rows)
        found: Dict[str, torch.Tensor] = {}

        def measure(model: nn.Module) -> torch.Tensor:
            values = found["logits"] = logits(model)
            if values.dim() != 2 or len(values) != rows or values.shape[1] < 2:
                raise ValueError(f"logits of shape {list(values.shape)} for {rows} rows: [rows, classes] is wanted")
            self._check_logits(values, None)
            target = checked_labels(labels, rows, values.shape[1])
            if self._labels == "sampled":
                target = self._sampler.draw(values)
            margin, found["own"] = margin_and_own(values, target)
            return margin

        uses, margin = self._recorded(rows, measure, None)
        own = found["own"]
        self._take_logits(uses, found["logits"])
        # The loss's own gradient at the label's logit would have lost what is left of it, see margin_and_own.
        factor = -own if self._measurement == "loss" else -torch.ones_like(own)
        gradients, scale = self._gradients(margin, uses, factor)
        mask = _checked_mask(token_mask, rows)
        known = own if self._labels == "true" else None
        self._take(Batch(rows, uses, gradients, scale, mask=mask, own=known))

    def add_tokens(
        self,
        labels: torch.Tensor,
        logits: Forward,
        *,
        segments: Optional[torch.Tensor] = None,
        token_mask: Optional[torch.Tensor] = None,
    ) -> int:
        """Appends examples of a language model, measured by the cross-entropy summed over their tokens.

        `logits(model)` runs the model and returns [rows, tokens, vocabulary]; `labels` [rows, tokens] are those of the
        logits at the same place, -100 where none counts (prompt, padding; see `next_token_labels`). With sampled labels
        those that count are drawn from the model.

        A row is an example, unless `segments` [rows, tokens] says which tokens are whose: several examples packed into
        one row, in order of appearance, negative for padding. The model has to keep them apart (attention within
        segments only, positions from 0 in each); a member's first batch is checked for that. Returns how many examples
        were appended.

        >>> collector.add_tokens(next_token_labels(tokens), lambda model: model(tokens).logits)   # doctest: +SKIP
        8
        """
        labels = torch.as_tensor(labels)
        if labels.dim() != 2 or labels.numel() == 0:
            raise ValueError(f"labels of shape {list(labels.shape)}: [rows, tokens] is wanted")
        if self._measurement != "loss" or self._wants_logits():
            raise ValueError("margin and the jacobian are for one label a row, not for tokens")
        packing = None if segments is None else Packing(segments)
        if packing is not None and (packing.rows, packing.tokens) != tuple(labels.shape):
            raise ValueError(f"segments of shape {[packing.rows, packing.tokens]} for labels {list(labels.shape)}")
        rows = packing.examples if packing else len(labels)
        self._check_batch(rows)
        example_of = packing.example_of if packing else torch.arange(rows)[:, None].expand(labels.shape)
        found: Dict[str, torch.Tensor] = {}

        def measure(model: nn.Module) -> torch.Tensor:
            values = logits(model)
            target = checked_token_labels(labels, values)
            target = target.masked_fill(example_of.to(target.device) < 0, -100)
            self._check_logits(values, packing)
            sampler = self._sampler if self._labels == "sampled" else None
            losses, found["labelled"] = token_losses(values, target, example_of, sampler)
            return losses

        uses, losses = self._recorded(len(labels), measure, packing)
        gradients, scale = self._gradients(losses, uses, None)
        mask = _checked_mask(token_mask, len(labels))
        unlabelled = int((found["labelled"] == 0).sum())
        self._take(Batch(rows, uses, gradients, scale, packing, mask, unlabelled=unlabelled))
        return rows

    def _recorded(self, rows: int, measure: Forward, packing: Optional[Packing]) -> Tuple[Sequence[Use], torch.Tensor]:
        """The calls of the layers while `measure` runs the model on `rows` rows, and what it returns.

        In a member's first batch it is checked that each example's value depends on that example alone; so it is where
        a table was called with as many ids as there are rows: one a row, or positions that all rows share?
        """
        sampler = copy.deepcopy(self._sampler)
        with torch.enable_grad(), self._taps.recording(rows) as uses:
            values = measure(self._model)
        doubtful = set(self._taps.doubtful)
        if (values.dim() == 1 and len(values) == 1) or (self._rows_are_apart and not doubtful):
            return uses, values
        if values.dim() == 0:
            if doubtful:
                raise ValueError(
                    f"{min(doubtful)} was given {rows} ids for {rows} rows: whether these are one a row or positions "
                    "is seen from a loss of one value a row, not from a sum"
                )
            return uses, values
        leaks = leaking(values, uses, packing)
        if doubtful & set(leaks):
            self._taps.are_positions(doubtful & set(leaks))
            self._sampler = sampler
            return self._recorded(rows, measure, packing)
        if leaks:
            raise ValueError(
                f"{leaks[0]}: the loss of a row depends on other rows of the batch, so that it has no gradient of its "
                "own: are rows the first dimension, and does nothing (batch statistics, a mean, attention) mix them?"
            )
        self._rows_are_apart = True
        return uses, values

    def _gradients(
        self, values: torch.Tensor, uses: Sequence[Use], factor: Optional[torch.Tensor]
    ) -> Tuple[List[Optional[torch.Tensor]], Optional[torch.Tensor]]:
        """Gradients at the outputs of `uses`, and by what [examples] they have to be multiplied still."""
        gradients = output_gradients(values.sum() * self._loss_scale, uses)
        if self._loss_scale == 1:
            return gradients, factor
        if factor is None:
            factor = torch.ones(1, dtype=torch.float64)
        return gradients, factor / self._loss_scale

    def _check_logits(self, values: torch.Tensor, packing: Optional[Packing]) -> None:
        finite = torch.isfinite(values.detach()).flatten(1).all(dim=1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            place = f"row {row} of the packed batch" if packing else f"row {self._first_row() + row}"
            raise ValueError(f"the logits of {place} are not finite")

    def _attach(self, model: nn.Module) -> None:
        self._model = model
        self._was_training = {module: module.training for module in model.modules()}
        model.eval()
        self._taps = Taps(self._layers)

    def _detach(self) -> None:
        if self._taps is None:
            return
        self._taps.remove()
        self._taps = None
        for module, training in self._was_training.items():
            module.training = training

    def _begin(self, member: int, drawn: int) -> None:
        """Another member: its labels are drawn anew (`drawn` of them before), and its rows are looked at again."""
        self._rows_are_apart = False
        self._sampler = LabelSampler(self._seed, self._stream + member, drawn)

    # What those who take the gradients have to say.

    def _check_batch(self, rows: int) -> None:
        raise NotImplementedError

    def _first_row(self) -> int:
        """Number of the next row, for messages."""
        raise NotImplementedError

    def _take(self, batch: Batch) -> None:
        raise NotImplementedError

    def _wants_logits(self) -> bool:
        """Whether `_take_logits` does anything."""
        return False

    def _take_logits(self, uses: Sequence[Use], logits: torch.Tensor) -> None:
        """Called before `_take`, while the graph behind the logits is still there."""


def _checked_mask(mask: Optional[torch.Tensor], rows: int) -> Optional[torch.Tensor]:
    if mask is None:
        return None
    mask = torch.as_tensor(mask)
    if mask.dim() != 2 or len(mask) != rows:
        raise ValueError(f"token_mask of shape {list(mask.shape)}: [rows, tokens] of the {rows} rows is wanted")
    return mask.to(torch.bool)
