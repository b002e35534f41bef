"""Rows of many tensors, collected on disk batch by batch, so that memory does not grow with their number."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Tuple, Union

import numpy as np

from .safetensors_file import COPY_BYTES, ITEM_BYTES, Entry, decode, encode, padded


@dataclass
class _Part:
    """A tensor's rows on disk. A ragged one has a last dimension of its own for each run of rows, [count, width]."""

    path: pathlib.Path
    dtype: str
    row_shape: Tuple[int, ...]
    ragged: bool = False
    rows: int = 0
    runs: List[List[int]] = field(default_factory=list)

    def row_bytes(self, width: Optional[int] = None) -> int:
        shape = self.row_shape if width is None else (*self.row_shape[:-1], width)
        return ITEM_BYTES[self.dtype] * int(np.prod(shape, dtype=np.int64))

    def add_run(self, count: int, width: int) -> None:
        if self.runs and self.runs[-1][1] == width:
            self.runs[-1][0] += count
        elif count:
            self.runs.append([count, width])


class Spool:
    """One file a tensor in a temporary folder beside the file that is to be.

    >>> spool = Spool("train.safetensors")                                        # doctest: +SKIP
    >>> spool.append("m0.net.0.u", np.zeros((8, 1, 64)), "F32")                   # doctest: +SKIP
    """

    def __init__(self, beside: Union[str, pathlib.Path]):
        beside = pathlib.Path(beside)
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))
        self._parts: Dict[str, _Part] = {}

    def append(self, name: str, array: np.ndarray, dtype: str, ragged: bool = False) -> None:
        """Adds `array` [rows, ...] to the tensor; every call has to bring rows of the same shape and dtype.

        The last dimension of a `ragged` tensor may differ from call to call.
        """
        part = self._part(name, tuple(array.shape[1:]), dtype, ragged)
        # Opened anew for each batch: a large model has more tensors than a process may have open files.
        with open(part.path, "ab") as file:
            file.write(encode(array, dtype))
        part.rows += len(array)
        if ragged:
            part.add_run(len(array), array.shape[-1])

    def extend_with_zeros(self, name: str, row_shape: Tuple[int, ...], dtype: str, rows: int, ragged: bool) -> None:
        """Makes the tensor at least `rows` long; the rows that are missing are zero, of a ragged one empty."""
        part = self._part(name, tuple(row_shape), dtype, ragged)
        if part.rows < rows:
            if ragged:
                part.add_run(rows - part.rows, 0)
            else:
                with open(part.path, "ab") as file:
                    file.truncate(rows * part.row_bytes())
            part.rows = rows

    def fill(self, rows: int) -> None:
        """Makes every tensor `rows` long with zeros."""
        for name, part in self._parts.items():
            self.extend_with_zeros(name, part.row_shape, part.dtype, rows, part.ragged)

    def check(self, name: str, row_shape: Tuple[int, ...], dtype: str) -> None:
        """A ValueError if the tensor has rows of another shape or dtype."""
        part = self._parts.get(name)
        if part is None:
            return
        fixed = len(part.row_shape) - part.ragged
        same = (part.row_shape[:fixed], part.dtype) == (tuple(row_shape)[:fixed], dtype)
        if not same or len(part.row_shape) != len(row_shape):
            raise ValueError(
                f"{name}: rows of {dtype} {list(row_shape)} after rows of {part.dtype} {list(part.row_shape)}: "
                "all batches have to have one schema"
            )

    def read(self, name: str, start: int, count: int) -> np.ndarray:
        """Rows `start` to `start + count` of a tensor, as float32 (int64 for "I64").

        Those of a ragged tensor are as wide as the widest of them, with -1 (int64) or 0 in what they do not have.
        """
        part = self._parts[name]
        count = max(0, min(count, part.rows - start))
        if part.ragged:
            runs = list(self._runs(part, start, count))
            width = max((values.shape[-1] for values in runs), default=0)
            return np.concatenate([padded(values, width) for values in runs] or [np.zeros((0, 0))])
        with open(part.path, "rb") as file:
            file.seek(start * part.row_bytes())
            values = file.read(count * part.row_bytes())
        return decode(values, part.dtype).reshape((-1, *part.row_shape))

    def rows(self, name: str) -> int:
        return self._parts[name].rows if name in self._parts else 0

    def entry(self, name: str, width: Optional[int] = None, alias: Optional[str] = None) -> Entry:
        """A tensor to write, under its own name or an `alias`; a ragged one with its last dimension `width` wide."""
        part = self._parts[name]
        if not part.ragged:
            return Entry(alias or name, part.dtype, (part.rows, *part.row_shape), part.path)

        def blocks() -> Iterator[bytes]:
            for values in self._runs(part, 0, part.rows):
                yield encode(padded(values, width), part.dtype)

        return Entry(alias or name, part.dtype, (part.rows, *part.row_shape[:-1], width), blocks)

    def names(self) -> List[str]:
        return list(self._parts)

    def remove(self) -> None:
        """Deletes the folder; may be called twice."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _runs(self, part: _Part, start: int, count: int) -> Iterator[np.ndarray]:
        """Rows of a ragged part, block by block, each with its own last dimension."""
        first, offset = 0, 0
        with open(part.path, "rb") as file:
            for rows, width in part.runs:
                row_bytes = part.row_bytes(width)
                at, end = max(start, first), min(start + count, first + rows)
                block = max(1, COPY_BYTES // max(row_bytes, 1))
                while at < end:
                    taken = min(block, end - at)
                    file.seek(offset + (at - first) * row_bytes)
                    values = decode(file.read(taken * row_bytes), part.dtype)
                    yield values.reshape((taken, *part.row_shape[:-1], width))
                    at += taken
                first, offset = first + rows, offset + rows * row_bytes

    def _part(self, name: str, row_shape: Tuple[int, ...], dtype: str, ragged: bool) -> _Part:
        if name not in self._parts:
            path = self._folder / f"{len(self._parts)}.part"
            path.touch()
            self._parts[name] = _Part(path, dtype, row_shape, ragged)
        self.check(name, row_shape, dtype)
        return self._parts[name]
