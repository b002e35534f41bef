"""Collects compressed per-example gradients of a model's layers into a sketch file."""

from __future__ import annotations

import pathlib
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import nn

from .encoding import LayerEncoder, first_not_finite
from .jacobian import has_one_output, jacobians
from .layers import Layer, select_layers
from .measuring import Batch, Measuring
from .pairs import Calls
from .report import LayerReport, Report
from .sides import Projection
from .sketch_file import IDS, SketchWriter
from .table import RowError, TableEncoder
from .taps import Use
from .trajectory import TrajectoryLog

Rank = Union[int, Mapping[str, int]]
State = Union[nn.Module, Mapping[str, torch.Tensor]]
Tensors = Dict[str, Tuple[np.ndarray, str]]
Encoder = Union[LayerEncoder, TableEncoder]


class Collector(Measuring):
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

    A table (nn.Embedding) is sparse: a row's gradient sum_t e_(id_t) d_t^T has a column for each of its own tokens, and
    only they are kept. One that shares its weight with an nn.Linear is collected with it as one layer, whose `out` is
    the vocabulary.

    Settings:
    - layers: names of nn.Linear, nn.Embedding, nn.Conv2d and Hugging Face's Conv1D modules; by default all with a
      trainable weight.
    - lookups: tables that share their weight with a linear layer, but are to be sparse: what the linear layer adds to
      the weight's gradient is then not collected.
    - encoding: "factored" (pairs u, v) or "dense" (the matrix; meant for use with a projection); tables are sparse.
    - rank: pairs a row where the input has a sequence (exact from the number of tokens on, of a table from that of the
      different ones); without a sequence one pair a call is exact and is what is kept. A mapping from layers' names
      sets the rank of those layers, the others keep 1.
    - terms: the largest number of different tokens that a row keeps of a table (those with the largest gradients), for
      all or by name; without it all are kept.
    - projection: a `Projection`, or None. The vocabulary's side of a table is never projected.
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
        terms: Optional[Rank] = None,
        lookups: Sequence[str] = (),
        projection: Optional[Projection] = None,
        dtype: str = "F32",
        measurement: str = "loss",
        labels: str = "true",
        seed: int = 0,
        loss: Optional[str] = None,
        loss_scale: float = 1.0,
        shared_input: Sequence[str] = (),
        jacobian: Union[bool, Sequence[str]] = False,
    ):
        _one_of("encoding", encoding, ("factored", "dense"))
        _one_of("dtype", dtype, ("F32", "BF16", "F16"))
        _one_of("measurement", measurement, ("loss", "margin"))
        _one_of("labels", labels, ("true", "sampled"))
        self._names, self._dtype = layers, dtype
        self._loss = loss or ("cross-entropy, summed" if measurement == "loss" else "margin, negated")
        self._lookups = lookups
        found, self._remarks = select_layers(model, layers, lookups)
        super().__init__(found, measurement, labels, seed, 0, loss_scale)
        self._encoders = [_encoder(layer, encoding, rank, terms, projection) for layer in self._layers]
        known = [layer.name for layer in self._layers]
        tables = [layer.name for layer in self._layers if layer.is_table]
        wanted = [] if isinstance(jacobian, bool) else list(jacobian)
        by_name = [name for value in (rank, terms) if isinstance(value, Mapping) for name in value]
        for name in [*by_name, *shared_input, *wanted]:
            if name not in known:
                raise ValueError(f"{name!r} is not a collected layer; those are: {', '.join(known)}")
        if encoding == "dense" and (shared_input or jacobian):
            raise ValueError('shared_input and jacobian go with encoding="factored": "dense" has no input of its own')
        for name in [*shared_input, *wanted]:
            if name in tables:
                raise ValueError(f"{name} is a table: shared_input and jacobian go with factored layers")
        self._shared = set(shared_input)
        self._jacobian = set(known) - set(tables) if jacobian is True else set(wanted)
        self._jacobian_is_named = bool(wanted)
        self._used: set = set()
        self._pending: Tensors = {}
        self._writer = SketchWriter(path, shared_input, tables)
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
            layers, _ = select_layers(state, self._names, self._lookups)
            before, after = [layer.shape for layer in self._layers], [layer.shape for layer in layers]
            if before != after:
                raise ValueError(f"this model's layers differ from those of the first member: {after}, not {before}")
            self._detach()
            self._layers = layers
            self._attach(state)
        elif state is not None:
            self._model.load_state_dict(state)
        self._writer.begin_member(run, epoch)
        self._begin(len(self._writer.checkpoints) - 1)

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
        if self._without_labels:
            remarks.append(f"{self._without_labels} row(s) have no token with a label: their gradients are zero")
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

    def _take(self, batch: Batch) -> None:
        tensors, self._pending = self._pending, {}
        for index, calls, is_used in batch.calls(self._layers):
            encoder = self._encoders[index]
            name = encoder.layer.name
            self._check_finite(name, calls)
            encoded = self._encode(encoder, calls)
            if name in self._shared and encoder.sequence:
                raise ValueError(f"{name} has a sequence: a shared input is for layers without one")
            if is_used:
                self._used.add(name)
            for ending, tensor in encoded.items():
                if ending == IDS:
                    tensors[f"{name}.{ending}"] = (tensor.cpu().numpy(), "I64")
                else:
                    tensors[f"{name}.{ending}"] = (tensor.to("cpu", torch.float32).numpy(), self._dtype)
        if batch.own is not None:
            tensors["own"] = (batch.own.to(torch.float32).numpy(), "F32")
        self._writer.append(batch.rows, tensors)

    def _encode(self, encoder: Encoder, calls: Calls) -> Dict[str, torch.Tensor]:
        if isinstance(encoder, LayerEncoder):
            return encoder.encode(*calls.pairs(), calls.sequence)
        ids, gradients = calls.lookups()
        first = self._writer.first_ids(encoder.layer.name, len(ids))
        try:
            return encoder.encode(ids, gradients, calls.sequence, None if first is None else torch.from_numpy(first))
        except RowError as error:
            raise ValueError(error.text.format(self._writer.rows + error.row)) from None

    def _check_finite(self, name: str, calls: Calls) -> None:
        inputs = [use.inputs for use in calls.uses if use.inputs.is_floating_point()]
        for what, values in (("gradient", calls.gradients), ("input", inputs)):
            bad = first_not_finite(values)
            if bad is None:
                continue
            row = f"row {bad} of the packed batch" if calls.packing else f"row {self._writer.rows + bad}"
            remedy = ": lower loss_scale" if what == "gradient" and self._loss_scale > 1 else ""
            raise ValueError(f"{name}: the {what} of {row} is not finite{remedy}")

    def _wants_logits(self) -> bool:
        return bool(self._jacobian)

    def _take_logits(self, uses: Sequence[Use], logits: torch.Tensor) -> None:
        self._pending = self._jacobians(uses, logits)

    def _first_row(self) -> int:
        return self._writer.rows

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


def _encoder(
    layer: Layer, encoding: str, rank: Rank, terms: Optional[Rank], projection: Optional[Projection]
) -> Encoder:
    by_name = isinstance(rank, Mapping)
    value = rank.get(layer.name, 1) if by_name else rank
    of_table = terms.get(layer.name) if isinstance(terms, Mapping) else terms
    for what, number in (("rank", value), ("terms", 1 if of_table is None else of_table)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{what} {number!r} of {layer.name} is not a whole number from 1 on")
    if layer.is_table:
        return TableEncoder(layer, value, by_name and layer.name in rank, projection, of_table)
    return LayerEncoder(layer, encoding, value, by_name and layer.name in rank, projection)


def _layer_report(encoder: Encoder, used: bool) -> LayerReport:
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
