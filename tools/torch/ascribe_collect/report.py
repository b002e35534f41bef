"""What a collection did, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List

import numpy as np

from .settings import Encoder


@dataclass
class LayerReport:
    """One layer: values a row and member, and the mean share of a row's squared norm that the rank left out."""

    name: str
    encoding: str
    rank: int
    values_a_row: int
    lost_share: float
    used: bool


@dataclass
class Report:
    """Returned by `Collector.finish`; `print(report)` shows it."""

    rows: int
    members: int
    size_bytes: int
    layers: List[LayerReport] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)

    def __str__(self) -> str:
        values = sum(layer.values_a_row for layer in self.layers)
        lines = [
            f"{self.rows} rows, {self.members} member(s), {len(self.layers)} layers, {values} values a row and member, "
            f"{self.size_bytes} bytes"
        ]
        for layer in self.layers:
            shape = layer.encoding if layer.encoding != "factored" else ""
            shape = ", ".join(part for part in (shape, f"rank {layer.rank}" if layer.rank else "") if part)
            lost = f", {layer.lost_share:.2%} of the squared norm left out" if layer.lost_share > 0 else ""
            lines.append(f"  {layer.name}: {shape}, {layer.values_a_row} values{lost}")
        return "\n".join(lines + [f"  {remark}" for remark in self.remarks])


def layer_report(encoder: Encoder, used: bool) -> LayerReport:
    """What an encoder has to say of its layer."""
    shapes = encoder.row_shapes()
    return LayerReport(
        name=encoder.layer.name,
        encoding=encoder.encoding,
        rank=shapes["u"][0] if "u" in shapes else 0,
        values_a_row=sum(int(np.prod(shape)) for shape in shapes.values()),
        lost_share=encoder.lost_sum / max(encoder.lost_rows, 1),
        used=used,
    )
