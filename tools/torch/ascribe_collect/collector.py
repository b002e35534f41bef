"""Collects compressed per-example gradients of a model's layers into a sketch file."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import nn

from .encoding import LayerEncoder, first_not_finite
from .factors import FACTOR_COUNTS, FactorSums, no_factors
from .jacobian import has_one_output, jacobians
from .layers import select_layers
from .measuring import Batch, Measuring
from .pairs import Calls
from .report import Report, layer_report
from .scaling import ADAM, Divisors, adam_divisors, layer_divisor
from .settings import ByName, Encoder, check_names, make_encoder, one_of
from .shards import SHARD, shard_of
from .sides import Projection
from .sketch_file import IDS, SketchWriter
from .table import RowError
from .taps import Use
from .trajectory import TrajectoryLog

State = Union[nn.Module, Mapping[str, torch.Tensor]]
Tensors = Dict[str, Tuple[np.ndarray, str]]


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
      different ones); without a sequence one pair a call is exact and is what is kept, unless it is named.
    - terms: the largest number of different tokens that a row keeps of a table (those with the largest gradients);
      without it all are kept.
    - projection: a `Projection`, or None. The vocabulary's side of a table is never projected.
      These four may be mappings from layers' names; layers that are not named have the default then. `plan_encodings`
      chooses them for a number of bytes a row.
    - dtype: "F32", "BF16" or "F16" of the u, v and g written.
    - measurement, of `add_classified`: "loss", or "margin" for queries: the gradient of -(log p - log(1 - p)), so that
      a positive score still means that the training row helps.
    - labels, of `add_classified` and `add_tokens`: "true", or "sampled" from the model with `seed`.
    - loss: the text that the schema gives for what is measured.
    - loss_scale: the loss is multiplied by it before the backward pass and gradients are divided by it afterwards, in
      float32: for models in half precision, whose small gradients would vanish.
    - scaling: "adam" divides gradients by the root of what Adam divides by; `member` then wants `scaling`.
    - shared_input: layers whose input is the same for all members (those fed by data): their v is written once.
    - jacobian: names of layers without a sequence, or True for all: d logits / d output is written, [classes, out].
    - factors: True writes the K-FAC factors A and B of each layer and member (see `FactorSums`).
    - shard: (index, count) where the rows are those of one of several runs, see `shard_rows` and `merge_shards`.
    - resume: what was collected outlives the process and is taken up again, see `member` and `skip`; it is made safe
      every `commit_every_s` seconds.

    Gradients and inputs are converted to float32 before they are multiplied or added up, whatever the model's own
    precision. While collecting, the model is in evaluation mode (dropout and batch statistics would tie rows to each
    other), on the device where it is.
    """

    def __init__(
        self,
        model: nn.Module,
        path: Union[str, pathlib.Path],
        *,
        layers: Optional[Sequence[str]] = None,
        lookups: Sequence[str] = (),
        encoding: ByName[str] = "factored",
        rank: ByName[int] = 1,
        terms: ByName[Optional[int]] = None,
        projection: ByName[Optional[Projection]] = None,
        dtype: str = "F32",
        measurement: str = "loss",
        labels: str = "true",
        seed: int = 0,
        loss: Optional[str] = None,
        loss_scale: float = 1.0,
        scaling: Optional[str] = None,
        shared_input: Sequence[str] = (),
        jacobian: Union[bool, Sequence[str]] = False,
        factors: bool = False,
        shard: Optional[Tuple[int, int]] = None,
        resume: bool = False,
        commit_every_s: float = 10.0,
    ):
        if not isinstance(encoding, Mapping):
            one_of("encoding", encoding, ("factored", "dense"))
        one_of("dtype", dtype, ("F32", "BF16", "F16"))
        one_of("measurement", measurement, ("loss", "margin"))
        one_of("labels", labels, ("true", "sampled"))
        one_of("scaling", scaling, (None, "adam"))
        self._names, self._lookups, self._dtype = layers, lookups, dtype
        self._loss = loss or ("cross-entropy, summed" if measurement == "loss" else "margin, negated")
        self._shard = shard_of(shard)
        found, self._remarks = select_layers(model, layers, lookups)
        super().__init__(found, measurement, labels, seed, self._shard[0] << 32, loss_scale)
        wanted = [] if isinstance(jacobian, bool) else list(jacobian)
        check_names(self._layers, encoding, rank, terms, projection, list(shared_input), wanted)
        self._encoders = [make_encoder(layer, encoding, rank, terms, projection) for layer in self._layers]
        self._scaling = scaling
        self._shared = set(shared_input)
        self._jacobian = set(wanted)
        self._jacobian_is_named = bool(wanted)
        self._choose_inputs(jacobian is True)
        self._used: set = set()
        self._pending: Tensors = {}
        self._factors: Optional[Dict[str, FactorSums]] = {} if factors else None
        self._factor_counts: Dict[str, int] = {}
        self._choose_factors()
        self._done = self._passed = 0
        # Of labels that were drawn those of rows that are written, and rows that had none.
        self._drawn = self._without_labels = 0
        self._commit_every_s = commit_every_s if resume else float("inf")
        self._committed_at = time.monotonic()
        tables = [layer.name for layer in self._layers if layer.is_table]
        self._writer = SketchWriter(path, shared_input, tables, resume)
        try:
            self._restore()
        except BaseException:
            self._writer.close()
            raise
        self._attach(model)

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hooks off the model and deletes what is not finished; may be called twice.

        With `resume` what is not finished is made safe instead.
        """
        self._detach()
        if not self._writer.closed and self._commit_every_s != float("inf") and self._writer.checkpoints:
            self._commit()
        self._writer.close()

    @property
    def rows_done(self) -> int:
        """Rows of this member that an earlier process has collected, with `resume`."""
        return self._done

    def member(
        self,
        state: Optional[State] = None,
        *,
        run: int,
        epoch: int,
        scaling: Union[None, torch.optim.Optimizer, Divisors] = None,
    ) -> int:
        """Begins a member of the store: the model as it is, another model, or a state dict to load into it.

        Every member has to get the same rows in the same order. `run` and `epoch` go into the schema. `scaling`, where
        the collector has it: the optimiser of this checkpoint, or what `adam_divisors` made of it.

        Returns how many rows of this member an earlier process has collected, with `resume`: begin the same members
        in the same order, and pass over these rows with `skip`.
        """
        self._check_open()
        if (scaling is None) != (self._scaling is None):
            raise ValueError('scaling="adam" of the collector and scaling=... of each member go together')
        self._end_member()
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
        if scaling is not None:
            if isinstance(scaling, torch.optim.Optimizer):
                scaling = adam_divisors(self._model, scaling)
            for layer, encoder in zip(self._layers, self._encoders):
                encoder.divisor = layer_divisor(self._model, layer, scaling)
        self._done, self._passed = self._writer.begin_member(run, epoch), 0
        restored, arrays = self._writer.restored
        is_restored = bool(restored) and self._writer.is_restored_member
        self._drawn = restored["drawn"] if is_restored else 0
        self._begin(self._writer.member, self._drawn)
        for name, sums in (self._factors or {}).items():
            sums.restore(**_factor_state(name, restored, arrays) if is_restored else {"count": 0, "sums": None})
        return self._done

    def skip(self, rows: int) -> bool:
        """Whether the next `rows` rows of this member are there already: then they need not be added.

        >>> for x, y in batches:                                                                 # doctest: +SKIP
        ...     if not collector.skip(len(x)):
        ...         collector.add_classified(y, lambda model: model(x))
        """
        if self._passed >= self._done:
            return False
        if self._passed + rows > self._done:
            raise ValueError(
                f"{self._done} rows of this member are there already, which is in the middle of this batch: use "
                "batches as before, or begin with the next row"
            )
        self._passed += rows
        return True

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
        schema: Dict[str, object] = {
            "loss": self._loss,
            "labels": self._labels,
            "modules": [encoder.schema(encoder.layer.name in self._shared) for encoder in self._encoders],
        }
        if self._scaling:
            schema["scaling"] = ADAM
        row_shapes = {
            f"{encoder.layer.name}.{ending}": shape
            for encoder in self._encoders
            for ending, shape in encoder.row_shapes().items()
        }
        self._end_member()
        more = {SHARD: "{}/{}".format(*self._shard)} if self._shard[1] > 1 else {}
        if self._factor_counts:
            more[FACTOR_COUNTS] = json.dumps(self._factor_counts)
        size = self._writer.finish(row_shapes, self._dtype, schema, keys, metadata, extra, more)
        reports = [layer_report(encoder, encoder.layer.name in self._used) for encoder in self._encoders]
        self.close()
        return Report(self._writer.rows, len(self._writer.checkpoints), size, reports, remarks)

    def _choose_inputs(self, all_jacobians: bool) -> None:
        """Which layers have a jacobian, and whether they and shared inputs can be."""
        forms = {encoder.layer.name: encoder.encoding for encoder in self._encoders}
        for name in sorted(self._shared | self._jacobian):
            if forms[name] == "sparse":
                raise ValueError(f"{name} is a table: shared_input and jacobian go with factored layers")
            if forms[name] == "dense":
                raise ValueError(
                    f'shared_input and jacobian go with encoding="factored": {name} is "dense" and has no input '
                    "of its own"
                )
        if self._scaling and (self._shared or self._jacobian or all_jacobians):
            raise ValueError("scaling mixes inputs and outputs: it does not go with shared_input or jacobian")
        if all_jacobians:
            self._jacobian = {name for name, form in forms.items() if form == "factored"}

    def _choose_factors(self) -> None:
        if self._factors is None:
            return
        if self._scaling:
            raise ValueError("factors are of gradients as they are: they do not go with scaling")
        for encoder in self._encoders:
            reason = no_factors(encoder.layer, encoder.widths)
            if reason is None:
                self._factors[encoder.layer.name] = FactorSums()
            else:
                self._remarks.append(f"{encoder.layer.name}: no K-FAC factors, {reason}")

    def _end_member(self) -> None:
        """Writes what a member has once."""
        self._writer.end_member()
        for name, sums in (self._factors or {}).items():
            for side, values in sums.means().items():
                self._writer.put(f"{name}.{side}", values.to(torch.float32).numpy())
                self._factor_counts[f"m{self._writer.member}.{name}"] = sums.count

    def _commit(self) -> None:
        """Makes the rows so far safe, with what another process needs to go on as this one would."""
        more = {
            "settings": self._settings(),
            "encoders": {encoder.layer.name: encoder.state() for encoder in self._encoders},
            "used": sorted(self._used),
            "remarks": self._remarks,
            "jacobian": sorted(self._jacobian),
            "without_labels": self._without_labels,
            "drawn": self._drawn,
            "factor_counts": self._factor_counts,
            "counts": {name: sums.count for name, sums in (self._factors or {}).items()},
        }
        arrays = {}
        for name, sums in (self._factors or {}).items():
            for side, values in sums.sums().items():
                arrays[f"{name}.{side}"] = values.numpy()
        self._writer.commit(more, arrays)
        self._committed_at = time.monotonic()

    def _restore(self) -> None:
        """Takes up what an earlier process committed."""
        more, _ = self._writer.restored
        if not more:
            return
        if more["settings"] != self._settings():
            raise ValueError(
                f"{self._writer.folder} was begun with other settings or another model: go on as before, or delete it"
            )
        for encoder in self._encoders:
            encoder.restore(more["encoders"][encoder.layer.name])
        self._used, self._jacobian = set(more["used"]), set(more["jacobian"])
        self._remarks, self._without_labels = list(more["remarks"]), more["without_labels"]
        self._factor_counts = dict(more["factor_counts"])

    def _settings(self) -> str:
        """What has to be the same when a collection is taken up again."""
        return repr(
            (
                [(encoder.layer.shape, encoder.settings()) for encoder in self._encoders],
                (self._dtype, self._measurement, self._labels, self._seed, self._loss, self._loss_scale),
                (self._scaling, sorted(self._shared), self._jacobian_is_named, self._shard, self._factors is None),
            )
        )

    def _take(self, batch: Batch) -> None:
        tensors, self._pending = self._pending, {}
        of_factors = {}
        for index, calls, is_used in batch.calls(self._layers):
            encoder = self._encoders[index]
            name = encoder.layer.name
            self._check_finite(name, calls)
            encoded = self._encode(encoder, calls)
            if name in (self._factors or ()):
                of_factors[name] = (*encoder.projected(*calls.pairs()), calls.real_tokens())
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
        self._drawn = self._sampler.drawn
        self._without_labels += batch.unlabelled
        for name, (left, right, real) in of_factors.items():
            self._factors[name].add(left, right, real)
        if time.monotonic() - self._committed_at >= self._commit_every_s:
            self._commit()

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
        if self._passed < self._done:
            raise ValueError(
                f"{self._done} rows of this member are there already: pass over them with skip(rows), "
                f"{self._passed} are"
            )


def _factor_state(
    name: str, restored: Mapping[str, Dict[str, int]], arrays: Mapping[str, np.ndarray]
) -> Dict[str, object]:
    """What `FactorSums.restore` takes, from what was committed."""
    sums = {side: torch.from_numpy(arrays[f"{name}.{side}"]) for side in "AB" if f"{name}.{side}" in arrays}
    return {"count": restored["counts"].get(name, 0), "sums": sums or None}
