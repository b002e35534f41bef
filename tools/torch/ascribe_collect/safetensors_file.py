"""Safetensors files, written in a stream and read back, with numpy alone.

The `safetensors` package wants all tensors in memory at once and is not packaged everywhere PyTorch is (Debian has
the one and not the other). The format is small: eight bytes with the header's length, a JSON header, then the values.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, Mapping, Tuple, Union

import numpy as np

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
HEADER_BYTES_MAX = 100_000_000
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One tensor to write: its values are bytes, a file that holds them and nothing else, or blocks of bytes."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    values: Union[bytes, pathlib.Path, Callable[[], Iterator[bytes]]]

    @property
    def size_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * int(np.prod(self.shape, dtype=np.int64))


def encode(array: np.ndarray, dtype: str) -> bytes:
    """The little-endian bytes of `array` as "F32", "F16" or "BF16" (rounded to nearest, ties to even), or "I64"."""
    if dtype == "I64":
        return np.ascontiguousarray(array, dtype="<i8").tobytes()
    array = np.ascontiguousarray(array, dtype=np.float32)
    if dtype == "F32":
        return array.astype("<f4", copy=False).tobytes()
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return array.astype("<f2").tobytes()
    if dtype == "BF16":
        bits = array.view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return ((bits + (np.uint32(0x7FFF) + odd)) >> np.uint32(16)).astype("<u2").tobytes()
    raise ValueError(f'dtype {dtype!r} is not one of "F32", "F16", "BF16", "I64"')


def padded(array: np.ndarray, width: int) -> np.ndarray:
    """The last dimension made `width` wide, with 0 or, where the numbers are whole (ids), -1.

    >>> padded(np.array([[3, 5]]), 4)
    array([[ 3,  5, -1, -1]])
    """
    missing = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return np.pad(array, missing, constant_values=-1 if array.dtype.kind == "i" else 0)


def decode(values: bytes, dtype: str) -> np.ndarray:
    """The values of `encode`, flat: float32 (int64 for "I64")."""
    if dtype == "F32":
        return np.frombuffer(values, dtype="<f4")
    if dtype == "F16":
        return np.frombuffer(values, dtype="<f2").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(values, dtype="<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "I64":
        return np.frombuffer(values, dtype="<i8")
    raise ValueError(f"dtype {dtype!r} is not known")


def write(path: Union[str, pathlib.Path], entries: Iterable[Entry], metadata: Mapping[str, str]) -> None:
    """Writes the file beside its place and renames it, so that an interrupted run leaves no half of it.

    Memory stays at one block whatever the size, as long as the entries' values are files.
    """
    path = pathlib.Path(path)
    # Larger items first keep every tensor aligned to its item; readers that map the file rely on it.
    entries = sorted(entries, key=lambda entry: (-ITEM_BYTES[entry.dtype], entry.name))
    header: Dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for entry in entries:
        if entry.name in header:
            raise ValueError(f"two tensors are named {entry.name!r}")
        end = offset + entry.size_bytes
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with open(unfinished, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for entry in entries:
                before = file.tell()
                if isinstance(entry.values, bytes):
                    file.write(entry.values)
                elif callable(entry.values):
                    file.writelines(entry.values())
                else:
                    with open(entry.values, "rb") as source:
                        shutil.copyfileobj(source, file, COPY_BYTES)
                if file.tell() - before != entry.size_bytes:
                    raise ValueError(f"{entry.name}: {file.tell() - before} bytes of values, not {entry.size_bytes}")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class TensorReader:
    """A safetensors file's tensors, read when they are asked for.

    `entries`: dtype and shape by name; `metadata`: the file's own texts.
    """

    def __init__(self, path: Union[str, pathlib.Path]):
        self.path = pathlib.Path(path)
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(HEADER_BYTES_MAX, size - 8):
                raise ValueError(f"{path} is no safetensors file: its header does not fit")
            text = file.read(length)
        self._offsets: Dict[str, int] = {}
        self.entries: Dict[str, Tuple[str, Tuple[int, ...]]] = {}
        try:
            header = json.loads(text)
            self.metadata: Dict[str, str] = header.pop("__metadata__", {})
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                dtype, shape = entry["dtype"], tuple(entry["shape"])
                fits = 0 <= begin <= end <= size - 8 - length
                if not fits or end - begin != ITEM_BYTES[dtype] * int(np.prod(shape, dtype=np.int64)):
                    raise ValueError(f"{name} has {end - begin} bytes for {dtype} {list(shape)}")
                self._offsets[name], self.entries[name] = 8 + length + begin, (dtype, shape)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no safetensors file that can be read: {error}") from error

    def read(self, name: str) -> np.ndarray:
        """A whole tensor, float32 (int64 for "I64")."""
        dtype, shape = self.entries[name]
        whole = next(self.blocks(name, 1 << 62), None)
        return decode(b"", dtype).reshape(shape) if whole is None else whole

    def blocks(self, name: str, block_bytes: int) -> Iterator[np.ndarray]:
        """A tensor's rows in order, in blocks of at most so many bytes, but at least one row."""
        dtype, shape = self.entries[name]
        row_bytes = ITEM_BYTES[dtype] * int(np.prod(shape[1:], dtype=np.int64))
        rows = max(1, block_bytes // max(row_bytes, 1))
        with open(self.path, "rb") as file:
            file.seek(self._offsets[name])
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                yield decode(file.read(count * row_bytes), dtype).reshape(count, *shape[1:])


def read(path: Union[str, pathlib.Path]) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """All tensors by name (float32, int64 for "I64") and the metadata, for tests and small files.

    >>> tensors, metadata = read("train.safetensors")       # doctest: +SKIP
    """
    reader = TensorReader(path)
    return {name: reader.read(name) for name in reader.entries}, reader.metadata
