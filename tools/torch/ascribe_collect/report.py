"""What a collection did, for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List


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
