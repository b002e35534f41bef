"""Chooses each layer's encoding for a number of bytes a row, and says on a sample what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from .factorise import factorise
from .layers import Layer, select_layers
from .measuring import Batch, Measuring
from .safetensors_file import ITEM_BYTES
from .sides import Matrices, Projection
from .table import sum_by_token

RANKS = (1, 2, 4, 8, 16, 32, 64)
# Widths of both sides after a projection.
WIDTHS = (4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Choice:
    """One way to write a layer. `rank` is None where the matrix is written, `width` where nothing is projected."""

    encoding: str
    rank: Optional[int]
    width: Optional[int]
    bytes_a_row: int

    def __str__(self) -> str:
        rank = f" rank {self.rank}" if self.rank else ""
        return f"{self.encoding}{rank}" + (f" projected to {self.width}" if self.width else "")


@dataclass
class Agreement:
    """How the inner products of different rows agree with the exact ones: over pairs of rows of the same batch."""

    exact: torch.Tensor
    kept: torch.Tensor

    @property
    def squared_error(self) -> float:
        return float((self.kept - self.exact).square().sum())

    @property
    def relative_error(self) -> float:
        """Root of the squared error's share of the exact inner products' squares."""
        scale = float(self.exact.square().sum())
        return (self.squared_error / scale) ** 0.5 if scale > 0 else 0.0

    @property
    def correlation(self) -> float:
        """Pearson's, 1 where all are equal."""
        exact, kept = self.exact - self.exact.mean(), self.kept - self.kept.mean()
        scale = float(exact.norm() * kept.norm())
        return float(exact @ kept) / scale if scale > 0 else 1.0


@dataclass
class PlannedLayer:
    name: str
    choice: Choice
    agreement: Agreement


@dataclass
class Plan:
    """What `plan_encodings` chose: `Collector(model, path, **plan.settings)`; `print(plan)` shows it."""

    bytes_a_row: int
    budget: int
    layers: List[PlannedLayer]
    settings: Dict[str, object] = field(repr=False)

    @property
    def agreement(self) -> Agreement:
        """Over all layers together."""
        parts = [layer.agreement for layer in self.layers]
        return Agreement(sum(part.exact for part in parts), sum(part.kept for part in parts))

    def __str__(self) -> str:
        lines = [
            f"{self.bytes_a_row} of {self.budget} bytes a row and member; inner products of "
            f"{len(self.agreement.exact)} pairs of rows: {_said(self.agreement)}"
        ]
        for layer in self.layers:
            lines.append(f"  {layer.name}: {layer.choice}, {layer.choice.bytes_a_row} bytes, {_said(layer.agreement)}")
        return "\n".join(lines)


def plan_encodings(
    model: nn.Module,
    sample: Callable[[Measuring], object],
    *,
    bytes_a_row: int,
    dtype: str = "F32",
    projection_seed: int = 0,
    layers: Optional[Sequence[str]] = None,
    lookups: Sequence[str] = (),
    labels: str = "true",
    seed: int = 0,
    loss_scale: float = 1.0,
) -> Plan:
    """The encodings whose inner products agree best with the exact ones, at most `bytes_a_row` a row and member.

    `sample(rows)` adds batches of a few rows each to `rows`, as to a `Collector`: `rows.add_classified(y, ...)`. The
    inner products of all pairs of different rows of a batch are compared, so batches have to have two rows or more; 8
    batches of 8 rows give 224 pairs. Candidates of a layer are pairs of rank 1, 2, 4 ... 64, without a projection and
    with both sides projected to 4, 8 ... 256, and the whole matrix projected; of a table, ranks. Chosen is what lowers
    the sum over layers of the squared errors most for its bytes, beginning with the smallest candidate of each layer.
    Bytes are those in the sketch file. Tables keep as many different tokens as the sample's rows have at most.

    >>> plan = plan_encodings(model, lambda rows: rows.add_classified(y, forward), bytes_a_row=2000)  # doctest: +SKIP
    >>> print(plan)                                                                                  # doctest: +SKIP
    >>> collector = Collector(model, "train.safetensors", **plan.settings)                           # doctest: +SKIP
    """
    found, _ = select_layers(model, layers, lookups)
    rows = _Sample(model, found, ITEM_BYTES[dtype], projection_seed, labels, seed, loss_scale)
    try:
        sample(rows)
    finally:
        rows.close()
    if rows.pairs == 0:
        raise ValueError("the sample has no batch of two rows or more: there is nothing to compare")
    candidates = rows.candidates()
    chosen = _chosen(candidates, bytes_a_row)
    planned = [
        PlannedLayer(layer.name, choice, candidates[layer.name][choice])
        for layer, choice in zip(found, (chosen[layer.name] for layer in found))
    ]
    settings: Dict[str, object] = {"dtype": dtype, "encoding": {}, "rank": {}, "projection": {}, "terms": {}}
    settings.update(layers=layers, lookups=lookups, labels=labels, seed=seed, loss_scale=loss_scale)
    for layer, choice in zip(found, (each.choice for each in planned)):
        settings["encoding"][layer.name] = choice.encoding
        if choice.rank:
            settings["rank"][layer.name] = choice.rank
        if choice.width:
            settings["projection"][layer.name] = _projection(layer, projection_seed, choice.width)
        if layer.is_table:
            settings["terms"][layer.name] = rows.terms[layer.name]
    return Plan(sum(each.choice.bytes_a_row for each in planned), bytes_a_row, planned, settings)


class _Sample(Measuring):
    """Takes batches, and keeps the inner products of their rows under every candidate of every layer."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        item_bytes: int,
        projection_seed: int,
        labels: str,
        seed: int,
        loss_scale: float,
    ):
        super().__init__(layers, "loss", labels, seed, 0, loss_scale)
        self._item_bytes, self._projection_seed = item_bytes, projection_seed
        self._matrices: Dict[Tuple[str, Optional[int]], Matrices] = {}
        self._exact: Dict[str, List[torch.Tensor]] = {layer.name: [] for layer in layers}
        # By layer, then by encoding, rank and width.
        self._kept: Dict[str, Dict[Tuple[str, Optional[int], Optional[int]], List[torch.Tensor]]] = {}
        self._kept.update({layer.name: {} for layer in layers})
        self._most: Dict[str, int] = {layer.name: 1 for layer in layers}
        self.terms: Dict[str, int] = {layer.name: 1 for layer in layers if layer.is_table}
        self.pairs = self._rows = 0
        self._attach(model)

    def close(self) -> None:
        self._detach()

    def candidates(self) -> Dict[str, Dict[Choice, Agreement]]:
        """For each layer its candidates and how they agree."""
        found = {}
        for layer in self._layers:
            exact, kept = torch.cat(self._exact[layer.name]), self._kept[layer.name]
            found[layer.name] = {}
            for encoding, rank, width in kept or {("sparse" if layer.is_table else "factored", 1, None): []}:
                # From the largest number of pairs that a row has on, more are of no use.
                if rank is not None and rank >= 2 * self._most[layer.name]:
                    continue
                choice = Choice(encoding, rank, width, self._bytes(layer, rank, width))
                values = kept.get((encoding, rank, width))
                found[layer.name][choice] = Agreement(exact, torch.cat(values) if values else torch.zeros_like(exact))
        return found

    def _bytes(self, layer: Layer, rank: Optional[int], width: Optional[int]) -> int:
        if layer.is_table:
            terms = self.terms[layer.name]
            return rank * (layer.out + terms) * self._item_bytes + terms * ITEM_BYTES["I64"]
        out, inputs = self._of(layer, width).widths
        return (out * inputs if rank is None else rank * (out + inputs)) * self._item_bytes

    def _of(self, layer: Layer, width: Optional[int]) -> Matrices:
        key = (layer.name, width)
        if key not in self._matrices:
            projection = None if width is None else _projection(layer, self._projection_seed, width)
            self._matrices[key] = Matrices(layer, projection)
        return self._matrices[key]

    def _check_batch(self, rows: int) -> None:
        if rows < 1:
            raise ValueError("a batch needs at least one row")

    def _first_row(self) -> int:
        return self._rows

    def _take(self, batch: Batch) -> None:
        self._rows += batch.rows
        pairs = batch.rows * (batch.rows - 1) // 2
        called = set()
        for index, calls, _ in batch.calls(self._layers):
            layer = self._layers[index]
            called.add(layer.name)
            if layer.is_table:
                ids, sums = sum_by_token(*calls.lookups())
                self.terms[layer.name] = max(self.terms[layer.name], ids.shape[1])
                self._note_table(layer, ids, sums)
            else:
                self._note(layer, *calls.pairs(), calls.sequence)
        for layer in self._layers:
            if layer.name not in called:
                self._exact[layer.name].append(torch.zeros(pairs))
            for values in self._kept[layer.name].values():
                missing = sum(map(len, self._exact[layer.name])) - sum(map(len, values))
                if missing:
                    values.append(torch.zeros(missing))
        self.pairs += pairs

    def _note(self, layer: Layer, left: torch.Tensor, right: torch.Tensor, sequence: bool) -> None:
        self._exact[layer.name].append(_products(left, right))
        self._most[layer.name] = max(self._most[layer.name], min(left.shape[1], layer.out, layer.inputs))
        for width in (None, *WIDTHS):
            matrices = self._of(layer, width)
            if width is not None and matrices.schema() is None:
                continue
            some_left, some_right = matrices.project(left, "out"), matrices.project(right, "in")
            projected = _products(some_left, some_right)
            if width is not None and matrices.widths[0] * matrices.widths[1] <= max(WIDTHS) ** 2:
                self._keep(layer, "dense", None, width, projected)
            if not sequence:
                # One pair a call, which is exact.
                self._keep(layer, "factored", left.shape[1], width, projected)
                continue
            # All ranks for every batch: beyond the rows' own rank the pairs are zero.
            u, v, _ = factorise(some_left, some_right, max(RANKS))
            for rank in RANKS:
                self._keep(layer, "factored", rank, width, _products(u[:, :rank], v[:, :rank]))

    def _note_table(self, layer: Layer, ids: torch.Tensor, sums: torch.Tensor) -> None:
        terms = ids.shape[1]
        self._most[layer.name] = max(self._most[layer.name], min(terms, layer.out))
        unit = torch.eye(terms, device=sums.device).expand(len(ids), -1, -1)
        u, v, _ = factorise(sums, unit, max(RANKS))
        self._exact[layer.name].append(_products_by_token(ids, sums))
        for rank in RANKS:
            columns = torch.einsum("nro,nrs->nso", u[:, :rank], v[:, :rank])
            self._keep(layer, "sparse", rank, None, _products_by_token(ids, columns))

    def _keep(
        self, layer: Layer, encoding: str, rank: Optional[int], width: Optional[int], values: torch.Tensor
    ) -> None:
        kept = self._kept[layer.name]
        if (encoding, rank, width) not in kept:
            # Rows before had no gradient here.
            missing = sum(map(len, self._exact[layer.name])) - len(values)
            kept[encoding, rank, width] = [torch.zeros(missing)]
        kept[encoding, rank, width].append(values)


def _projection(layer: Layer, seed: int, width: int) -> Projection:
    # The side of a vocabulary is never projected.
    return Projection(seed, None if layer.holds_table else width, width)


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Inner products of sum_t left_t right_t^T of all pairs of different rows, in order; float32."""
    found = []
    for row in range(len(left) - 1):
        outer = torch.einsum("to,nso->nts", left[row].double(), left[row + 1 :].double())
        inner = torch.einsum("ti,nsi->nts", right[row].double(), right[row + 1 :].double())
        found.append((outer * inner).sum(dim=(1, 2)))
    return torch.cat(found).cpu().float() if found else torch.zeros(0)


def _products_by_token(ids: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The same of tables: ids [rows, s], -1 for none, and the gradients' columns [rows, s, out]."""
    found = []
    for row in range(len(ids) - 1):
        inner = torch.einsum("so,nto->nst", columns[row].double(), columns[row + 1 :].double())
        same = (ids[row][None, :, None] == ids[row + 1 :][:, None, :]) & (ids[row] >= 0)[None, :, None]
        found.append((inner * same).sum(dim=(1, 2)))
    return torch.cat(found).cpu().float() if found else torch.zeros(0)


def _chosen(candidates: Mapping[str, Mapping[Choice, Agreement]], budget: int) -> Dict[str, Choice]:
    """For each layer a candidate; at most `budget` bytes together."""
    chosen = {name: min(of_layer, key=lambda choice: choice.bytes_a_row) for name, of_layer in candidates.items()}
    spent = sum(choice.bytes_a_row for choice in chosen.values())
    if spent > budget:
        largest = max(chosen, key=lambda name: chosen[name].bytes_a_row)
        raise ValueError(
            f"{budget} bytes a row are too few: the smallest encodings of {len(chosen)} layers take {spent}, of these "
            f"{largest} {chosen[largest].bytes_a_row}: allow more, take fewer layers (layers=[...]), or only the "
            "looking up of tables that share their weight (lookups=[...])"
        )

    def steps() -> Iterator[Tuple[float, str, Choice]]:
        for name, of_layer in candidates.items():
            now = chosen[name]
            error = of_layer[now].squared_error
            for choice, agreement in of_layer.items():
                more, gain = choice.bytes_a_row - now.bytes_a_row, error - agreement.squared_error
                if gain > 0 and spent + more <= budget:
                    yield (gain / more if more > 0 else float("inf")), name, choice

    while True:
        best = max(steps(), key=lambda step: step[0], default=None)
        if best is None:
            return chosen
        _, name, choice = best
        spent += choice.bytes_a_row - chosen[name].bytes_a_row
        chosen[name] = choice


def _said(agreement: Agreement) -> str:
    return f"relative error {agreement.relative_error:.2%}, correlation {agreement.correlation:.4f}"
