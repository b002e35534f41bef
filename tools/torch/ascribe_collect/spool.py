"""Rows of many tensors, collected on disk batch by batch, so that memory does not grow with their number."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from dataclasses import dataclass
from typing import Dict, List, Tuple, Union

import numpy as np

from .safetensors_file import ITEM_BYTES, Entry, decode, encode


@dataclass
class _Part:
    path: pathlib.Path
    dtype: str
    row_shape: Tuple[int, ...]
    rows: int = 0

    @property
    def row_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * int(np.prod(self.row_shape, dtype=np.int64))


class Spool:
    """One file a tensor in a temporary folder beside the file that is to be.

    >>> spool = Spool("train.safetensors")                                        # doctest: +SKIP
    >>> spool.append("m0.net.0.u", np.zeros((8, 1, 64)), "F32")                   # doctest: +SKIP
    """

    def __init__(self, beside: Union[str, pathlib.Path]):
        beside = pathlib.Path(beside)
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))
        self._parts: Dict[str, _Part] = {}

    def append(self, name: str, array: np.ndarray, dtype: str) -> None:
        """Adds `array` [rows, ...] to the tensor; every call has to bring rows of the same shape and dtype."""
        part = self._part(name, tuple(array.shape[1:]), dtype)
        # Opened anew for each batch: a large model has more tensors than a process may have open files.
        with open(part.path, "ab") as file:
            file.write(encode(array, dtype))
        part.rows += len(array)

    def extend_with_zeros(self, name: str, row_shape: Tuple[int, ...], dtype: str, rows: int) -> None:
        """Makes the tensor at least `rows` long; the rows that are missing are zero."""
        part = self._part(name, tuple(row_shape), dtype)
        if part.rows < rows:
            with open(part.path, "ab") as file:
                file.truncate(rows * part.row_bytes)
            part.rows = rows

    def fill(self, rows: int) -> None:
        """Makes every tensor `rows` long with zeros."""
        for name, part in self._parts.items():
            self.extend_with_zeros(name, part.row_shape, part.dtype, rows)

    def check(self, name: str, row_shape: Tuple[int, ...], dtype: str) -> None:
        """A ValueError if the tensor has rows of another shape or dtype."""
        part = self._parts.get(name)
        if part is not None and (part.row_shape, part.dtype) != (tuple(row_shape), dtype):
            raise ValueError(
                f"{name}: rows of {dtype} {list(row_shape)} after rows of {part.dtype} {list(part.row_shape)}: "
                "all batches have to have one schema"
            )

    def read(self, name: str, start: int, count: int) -> np.ndarray:
        """Rows `start` to `start + count` of a tensor, as float32."""
        part = self._parts[name]
        with open(part.path, "rb") as file:
            file.seek(start * part.row_bytes)
            values = file.read(count * part.row_bytes)
        return decode(values, part.dtype).reshape((-1, *part.row_shape))

    def rows(self, name: str) -> int:
        return self._parts[name].rows if name in self._parts else 0

    def entries(self) -> List[Entry]:
        return [
            Entry(name, part.dtype, (part.rows, *part.row_shape), part.path) for name, part in self._parts.items()
        ]

    def remove(self) -> None:
        """Deletes the folder; may be called twice."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _part(self, name: str, row_shape: Tuple[int, ...], dtype: str) -> _Part:
        if name not in self._parts:
            path = self._folder / f"{len(self._parts)}.part"
            path.touch()
            self._parts[name] = _Part(path, dtype, row_shape)
        self.check(name, row_shape, dtype)
        return self._parts[name]
