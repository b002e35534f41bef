"""Collects compressed per-example gradients of a model's linear layers into a sketch file."""

from __future__ import annotations

import pathlib
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import nn

from .classifier import LabelSampler, checked_labels, margin_and_own
from .encoding import LayerEncoder, Projection, first_not_finite
from .jacobian import has_one_output, jacobians
from .layers import Layer, select_layers
from .report import LayerReport, Report
from .sketch_file import SketchWriter
from .taps import Taps, Use, output_gradients
from .trajectory import TrajectoryLog

Rank = Union[int, Mapping[str, int]]
State = Union[nn.Module, Mapping[str, torch.Tensor]]
Tensors = Dict[str, Tuple[np.ndarray, str]]


class Collector:
    """Writes one sketch file: `path` (safetensors), and its keys beside it.

    >>> with Collector(model, "train.safetensors") as collector:                             # doctest: +SKIP
    ...     collector.member(run=0, epoch=12)
    ...     for x, y in batches:                                          # rows in the order of the keys
    ...         collector.add_classified(y, lambda model: model(x))
    ...     print(collector.finish(keys))

    A row's gradient at a layer is sum_t d_t a_t^T [out, in]: a_t is the input at token t with a 1 appended where there
    is a bias, d_t the gradient of the loss at the output. Tokens with d_t = 0, such as padding, add nothing, so no mask
    is asked for: the model and the loss have to leave padding out, as in training. Losses are sums, over examples and
    over tokens: a mean over the batch would divide every row's gradient by the batch's size.

    Settings:
    - layers: names of nn.Linear modules; by default all with a trainable weight.
    - encoding: "factored" (pairs u, v) or "dense" (the matrix; meant for use with a projection).
    - rank: pairs a row where the input has a sequence (exact from the number of tokens on); without a sequence one
      pair a call is exact and is what is kept. A mapping from layers' names sets the rank of those layers, the
      others keep 1.
    - projection: a `Projection`, or None.
    - dtype: "F32", "BF16" or "F16" of the u, v and g written.
    - measurement, of `add_classified`: "loss", or "margin" for queries: the gradient of -(log p - log(1 - p)), so that
      a positive score still means that the training row helps.
    - labels, of `add_classified`: "true", or "sampled" from the model with `seed`.
    - loss: the text that the schema gives for what is measured.
    - shared_input: layers whose input is the same for all members (those fed by data): their v is written once.
    - jacobian: names of layers without a sequence, or True for all: d logits / d output is written, [classes, out].

    While collecting, the model is in evaluation mode (dropout and batch statistics would tie rows to each other).
    """

    def __init__(
        self,
        model: nn.Module,
        path: Union[str, pathlib.Path],
        *,
        layers: Optional[Sequence[str]] = None,
        encoding: str = "factored",
        rank: Rank = 1,
        projection: Optional[Projection] = None,
        dtype: str = "F32",
        measurement: str = "loss",
        labels: str = "true",
        seed: int = 0,
        loss: Optional[str] = None,
        shared_input: Sequence[str] = (),
        jacobian: Union[bool, Sequence[str]] = False,
    ):
        _one_of("encoding", encoding, ("factored", "dense"))
        _one_of("dtype", dtype, ("F32", "BF16", "F16"))
        _one_of("measurement", measurement, ("loss", "margin"))
        _one_of("labels", labels, ("true", "sampled"))
        self._names, self._dtype = layers, dtype
        self._measurement, self._labels, self._seed = measurement, labels, seed
        self._loss = loss or ("cross-entropy, summed" if measurement == "loss" else "margin, negated")
        self._layers, self._remarks = select_layers(model, layers)
        self._encoders = [_encoder(layer, encoding, rank, projection) for layer in self._layers]
        known = [layer.name for layer in self._layers]
        wanted = [] if isinstance(jacobian, bool) else list(jacobian)
        for name in [*(rank if isinstance(rank, Mapping) else ()), *shared_input, *wanted]:
            if name not in known:
                raise ValueError(f"{name!r} is not a collected layer; those are: {', '.join(known)}")
        if encoding == "dense" and (shared_input or jacobian):
            raise ValueError('shared_input and jacobian go with encoding="factored": "dense" has no input of its own')
        self._shared = set(shared_input)
        self._jacobian = set(known) if jacobian is True else set(wanted)
        self._jacobian_is_named = bool(wanted)
        self._used: set = set()
        self._sampler = LabelSampler(seed, 0)
        self._taps: Optional[Taps] = None
        self._writer = SketchWriter(path, shared_input)
        self._attach(model)

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hooks off the model and deletes what is not finished; may be called twice."""
        self._detach()
        self._writer.close()

    def member(self, state: Optional[State] = None, *, run: int, epoch: int) -> None:
        """Begins a member of the store: the model as it is, another model, or a state dict to load into it.

        Every member has to get the same rows in the same order. `run` and `epoch` go into the schema.
        """
        self._check_open()
        if isinstance(state, nn.Module):
            layers, _ = select_layers(state, self._names)
            before, after = [layer.shape for layer in self._layers], [layer.shape for layer in layers]
            if before != after:
                raise ValueError(f"this model's layers differ from those of the first member: {after}, not {before}")
            self._detach()
            self._layers = layers
            self._attach(state)
        elif state is not None:
            self._model.load_state_dict(state)
        self._writer.begin_member(run, epoch)
        self._sampler = LabelSampler(self._seed, len(self._writer.checkpoints) - 1)

    def add(self, rows: int, loss: Callable[[nn.Module], torch.Tensor]) -> None:
        """Appends `rows` rows. `loss(model)` runs the model on them and returns the loss: one value a row, or the sum.

        >>> collector.add(len(x), lambda model: F.mse_loss(model(x), y, reduction="none").sum(1))   # doctest: +SKIP
        """
        self._check_batch(rows)
        if self._measurement != "loss" or self._labels != "true" or self._jacobian:
            raise ValueError("margin, sampled labels and the jacobian need logits: use add_classified")
        with torch.enable_grad(), self._taps.recording(rows) as uses:
            value = loss(self._model)
            if value.dim() > 1 or (value.dim() == 1 and len(value) != rows):
                raise ValueError(f"a loss of shape {list(value.shape)}: one value a row ({rows}) or their sum")
            total = value.sum()
        self._writer.append(rows, self._encode(uses, output_gradients(total, uses), None))

    def add_classified(self, labels: Sequence[int], logits: Callable[[nn.Module], torch.Tensor]) -> None:
        """Appends a row for each of `labels` [rows], measured by cross-entropy or margin; writes `own` = 1 - p too.

        `logits(model)` runs the model on these rows and returns [rows, classes].
        """
        rows = len(labels)
        self._check_batch(rows)
        with torch.enable_grad(), self._taps.recording(rows) as uses:
            values = logits(self._model)
            if values.dim() != 2 or len(values) != rows or values.shape[1] < 2:
                raise ValueError(f"logits of shape {list(values.shape)} for {rows} rows: [rows, classes] is wanted")
            bad = first_not_finite([values.detach()])
            if bad is not None:
                raise ValueError(f"the logits of row {self._writer.rows + bad} are not finite")
            target = checked_labels(labels, rows, values.shape[1])
            if self._labels == "sampled":
                target = self._sampler.draw(values)
            margin, own = margin_and_own(values, target)
            total = margin.sum()
        tensors = self._jacobians(uses, values)
        # The loss's own gradient at the label's logit would have lost what is left of it, see margin_and_own.
        scale = -own if self._measurement == "loss" else -torch.ones_like(own)
        tensors.update(self._encode(uses, output_gradients(total, uses), scale))
        if self._labels == "true":
            tensors["own"] = (own.to(torch.float32).numpy(), "F32")
        self._writer.append(rows, tensors)

    def finish(
        self,
        keys: Iterable[str],
        metadata: Optional[Sequence[Mapping[str, object]]] = None,
        trajectory: Optional[TrajectoryLog] = None,
    ) -> Report:
        """Writes the sketch file and its keys, one a row, and says what was collected."""
        self._check_open()
        remarks = list(self._remarks)
        extra: Dict[str, np.ndarray] = {}
        if trajectory is not None:
            if trajectory.n_rows != self._writer.rows:
                raise ValueError(f"a trajectory of {trajectory.n_rows} rows for {self._writer.rows} rows")
            extra = trajectory.tensors()
            if trajectory.missed:
                remarks.append(f"trajectory: {trajectory.missed} times a row missed an epoch and took a neighbour's")
        names = [layer.name for layer in self._layers]
        remarks += [f"{name}: never used, its gradients are zero" for name in names if name not in self._used]
        schema = {
            "loss": self._loss,
            "labels": self._labels,
            "modules": [encoder.schema(encoder.layer.name in self._shared) for encoder in self._encoders],
        }
        row_shapes = {
            f"{encoder.layer.name}.{ending}": shape
            for encoder in self._encoders
            for ending, shape in encoder.row_shapes().items()
        }
        size = self._writer.finish(row_shapes, self._dtype, schema, keys, metadata, extra)
        reports = [_layer_report(encoder, encoder.layer.name in self._used) for encoder in self._encoders]
        self.close()
        return Report(self._writer.rows, len(self._writer.checkpoints), size, reports, remarks)

    def _encode(
        self, uses: Sequence[Use], gradients: Sequence[Optional[torch.Tensor]], scale: Optional[torch.Tensor]
    ) -> Tensors:
        """The tensors of a batch by their names without the member. A layer that was not called has none."""
        tensors: Tensors = {}
        for index, encoder in enumerate(self._encoders):
            name = encoder.layer.name
            of_layer = [(use, gradient) for use, gradient in zip(uses, gradients) if use.layer == index]
            if not of_layer:
                continue
            called = [use for use, _ in of_layer]
            # A call that the loss does not depend on has no gradient, but its input still says what v is.
            returned = [torch.zeros_like(use.probe) if gradient is None else gradient for use, gradient in of_layer]
            self._check_finite(name, called, returned)
            encoded = encoder.encode(called, returned, scale)
            if name in self._shared and encoder.sequence:
                raise ValueError(f"{name} has a sequence: a shared input is for layers without one")
            if any(gradient is not None for _, gradient in of_layer):
                self._used.add(name)
            for ending, tensor in encoded.items():
                tensors[f"{name}.{ending}"] = (tensor.to("cpu", torch.float32).numpy(), self._dtype)
        return tensors

    def _check_finite(self, name: str, uses: Sequence[Use], gradients: Sequence[torch.Tensor]) -> None:
        for what, values in (("gradient", gradients), ("input", [use.inputs for use in uses])):
            bad = first_not_finite(values)
            if bad is not None:
                raise ValueError(f"{name}: the {what} of row {self._writer.rows + bad} is not finite")

    def _jacobians(self, uses: Sequence[Use], logits: torch.Tensor) -> Tensors:
        encoders: List[LayerEncoder] = []
        chosen: List[Use] = []
        for index, encoder in enumerate(self._encoders):
            name = encoder.layer.name
            of_layer = [use for use in uses if use.layer == index]
            if name not in self._jacobian or not of_layer:
                continue
            if has_one_output(of_layer):
                encoders.append(encoder)
                chosen.append(of_layer[0])
            elif self._jacobian_is_named:
                raise ValueError(f"{name}: a jacobian is for layers with one output a row, this one has several")
            else:
                self._jacobian.discard(name)
                self._remarks.append(f"{name}: no jacobian, it has several outputs a row")
        tensors: Tensors = {}
        for name, values in jacobians(encoders, chosen, logits).items():
            bad = first_not_finite([values])
            if bad is not None:
                raise ValueError(f"{name}: the jacobian of row {self._writer.rows + bad} is not finite")
            tensors[f"{name}.jacobian"] = (values.numpy(), "F32")
        return tensors

    def _check_open(self) -> None:
        if self._writer.closed:
            raise ValueError("this collector is closed")

    def _check_batch(self, rows: int) -> None:
        self._check_open()
        if not self._writer.checkpoints:
            raise ValueError("call member(run=..., epoch=...) before the first batch")
        if rows < 1:
            raise ValueError("a batch needs at least one row")

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


def _encoder(layer: Layer, encoding: str, rank: Rank, projection: Optional[Projection]) -> LayerEncoder:
    by_name = isinstance(rank, Mapping)
    value = rank.get(layer.name, 1) if by_name else rank
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"rank {value!r} of {layer.name} is not a whole number from 1 on")
    return LayerEncoder(layer, encoding, value, by_name and layer.name in rank, projection)


def _layer_report(encoder: LayerEncoder, used: bool) -> LayerReport:
    shapes = encoder.row_shapes()
    return LayerReport(
        name=encoder.layer.name,
        encoding=encoder.encoding,
        rank=shapes["u"][0] if "u" in shapes else 0,
        values_a_row=sum(int(np.prod(shape)) for shape in shapes.values()),
        lost_share=encoder.lost_sum / max(encoder.lost_rows, 1),
        used=used,
    )


def _one_of(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}, but has to be one of {', '.join(allowed)}")
