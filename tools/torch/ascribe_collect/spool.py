"""Rows of many tensors, collected on disk batch by batch, so that memory does not grow with their number."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
import zlib
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple, Union

import numpy as np

from . import journal
from .safetensors_file import COPY_BYTES, ITEM_BYTES, Entry, decode, encode, padded


@dataclass
class _Part:
    """A tensor's rows on disk, `size` bytes of one file with their CRC-32.

    A ragged one has a last dimension of its own for each run of rows, [count, width]. A whole one has no rows to come.
    """

    file: str
    dtype: str
    row_shape: Tuple[int, ...]
    ragged: bool = False
    whole: bool = False
    rows: int = 0
    size: int = 0
    checksum: int = 0
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
    """One file a tensor in a folder beside the file that is to be.

    >>> spool = Spool("train.safetensors")                                        # doctest: +SKIP
    >>> spool.append("m0.net.0.u", np.zeros((8, 1, 64)), "F32")                   # doctest: +SKIP

    With `keep` the folder has a fixed name and outlives the process: `commit` makes what was appended safe, and another
    process that opens the spool finds the rows of the last commit, and `state` as it was given to it.
    """

    def __init__(self, beside: Union[str, pathlib.Path], keep: bool = False):
        beside = pathlib.Path(beside)
        self._parts: Dict[str, _Part] = {}
        self._changed: Set[str] = set()
        self._lock: Optional[journal.Lock] = None
        self.state: Dict[str, object] = {}
        self.arrays: Dict[str, np.ndarray] = {}
        self._arrays_file: Optional[str] = None
        self._commits = 0
        if keep:
            self._folder = beside.with_name(f".{beside.name}.spool")
            self._folder.mkdir(exist_ok=True)
            self._lock = journal.Lock(self._folder)
            try:
                self._reopen()
            except BaseException:
                self._lock.release()
                raise
        else:
            self._folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.parent))

    @property
    def folder(self) -> pathlib.Path:
        return self._folder

    def append(self, name: str, array: np.ndarray, dtype: str, ragged: bool = False) -> None:
        """Adds `array` [rows, ...] to the tensor; every call has to bring rows of the same shape and dtype.

        The last dimension of a `ragged` tensor may differ from call to call.
        """
        part = self._part(name, tuple(array.shape[1:]), dtype, ragged)
        self._write(name, part, encode(array, dtype))
        part.rows += len(array)
        if ragged:
            part.add_run(len(array), array.shape[-1])

    def put(self, name: str, array: np.ndarray) -> None:
        """A tensor of its own, F32, that has no rows to come; in place of what it was before."""
        part = self._part(name, tuple(array.shape[1:]), "F32", False)
        os.truncate(self._folder / part.file, 0)
        part.whole, part.size, part.checksum = True, 0, 0
        self._write(name, part, encode(array, "F32"))
        part.rows = len(array)

    def extend_with_zeros(self, name: str, row_shape: Tuple[int, ...], dtype: str, rows: int, ragged: bool) -> None:
        """Makes the tensor at least `rows` long; the rows that are missing are zero, of a ragged one empty."""
        part = self._part(name, tuple(row_shape), dtype, ragged)
        missing = rows - part.rows
        if missing <= 0 or part.whole:
            return
        if ragged:
            part.add_run(missing, 0)
        else:
            left = missing * part.row_bytes()
            while left:
                self._write(name, part, bytes(min(left, COPY_BYTES)))
                left -= min(left, COPY_BYTES)
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
        with open(self._folder / part.file, "rb") as file:
            file.seek(start * part.row_bytes())
            values = file.read(count * part.row_bytes())
        return decode(values, part.dtype).reshape((-1, *part.row_shape))

    def rows(self, name: str) -> int:
        return self._parts[name].rows if name in self._parts else 0

    def entry(self, name: str, width: Optional[int] = None, alias: Optional[str] = None) -> Entry:
        """A tensor to write, under its own name or an `alias`; a ragged one with its last dimension `width` wide."""
        part = self._parts[name]
        if not part.ragged:
            return Entry(alias or name, part.dtype, (part.rows, *part.row_shape), self._folder / part.file)

        def blocks() -> Iterator[bytes]:
            for values in self._runs(part, 0, part.rows):
                yield encode(padded(values, width), part.dtype)

        return Entry(alias or name, part.dtype, (part.rows, *part.row_shape[:-1], width), blocks)

    def names(self) -> List[str]:
        return list(self._parts)

    def commit(self, state: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
        """Makes everything appended so far safe, together with the caller's `state` (JSON) and `arrays`.

        The values are on disk before the journal says so: whenever the process ends, the last commit is whole.
        """
        for name in sorted(self._changed):
            journal.sync(self._folder / self._parts[name].file)
        self._changed.clear()
        before, self._commits = self._arrays_file, self._commits + 1
        self._arrays_file = f"{self._commits}.npz" if arrays else None
        if arrays:
            path = self._folder / self._arrays_file
            np.savez(path, **arrays)
            journal.sync(path)
        journal.sync_folder(self._folder)
        parts = {name: dataclasses.asdict(part) for name, part in self._parts.items()}
        content = {"parts": parts, "state": state, "arrays": self._arrays_file, "commits": self._commits}
        journal.save(self._folder, content)
        if before is not None:
            (self._folder / before).unlink(missing_ok=True)

    def remove(self) -> None:
        """Deletes the folder; may be called twice."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Leaves the folder, of a kept spool, to others; may be called twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _reopen(self) -> None:
        """Takes up the last commit; what was appended after it is cut off."""
        content = journal.load(self._folder) or {"parts": {}, "state": {}, "arrays": None, "commits": 0}
        for name, fields in content["parts"].items():
            part = _Part(**{**fields, "row_shape": tuple(fields["row_shape"])})
            path = self._folder / part.file
            if not path.exists() or journal.checksum_of(path, part.size) != part.checksum:
                raise ValueError(f"{path} is not as it was left: delete {self._folder} to collect anew")
            os.truncate(path, part.size)
            self._parts[name] = part
        self._commits, self._arrays_file = content["commits"], content["arrays"]
        self.state = content["state"]
        if self._arrays_file is not None:
            with np.load(self._folder / self._arrays_file, allow_pickle=False) as arrays:
                self.arrays = {name: arrays[name] for name in arrays.files}
        known = {"lock", journal.NAME, self._arrays_file, *(part.file for part in self._parts.values())}
        for path in self._folder.iterdir():
            if path.name not in known:
                path.unlink()

    def _write(self, name: str, part: _Part, values: bytes) -> None:
        # Opened anew for each batch: a large model has more tensors than a process may have open files.
        with open(self._folder / part.file, "ab") as file:
            file.write(values)
        part.size += len(values)
        if self._lock is not None:
            part.checksum = zlib.crc32(values, part.checksum)
            self._changed.add(name)

    def _runs(self, part: _Part, start: int, count: int) -> Iterator[np.ndarray]:
        """Rows of a ragged part, block by block, each with its own last dimension."""
        first, offset = 0, 0
        with open(self._folder / part.file, "rb") as file:
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
            file = f"{len(self._parts)}.part"
            (self._folder / file).touch()
            self._parts[name] = _Part(file, dtype, row_shape, ragged)
            self._changed.add(name)
        self.check(name, row_shape, dtype)
        return self._parts[name]
