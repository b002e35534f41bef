"""The keys file that stands beside a sketch file: one JSON object a row, in the order of the tensors' rows."""

from __future__ import annotations

import json
import pathlib
from typing import Iterable, Mapping, Optional, Sequence, Union


def keys_path(sketch_path: Union[str, pathlib.Path]) -> pathlib.Path:
    """`train.keys.jsonl` for `train.safetensors`."""
    path = pathlib.Path(sketch_path)
    stem = path.name[: -len(".safetensors")] if path.name.endswith(".safetensors") else path.name
    return path.with_name(stem + ".keys.jsonl")


def write_keys(
    path: Union[str, pathlib.Path], keys: Iterable[str], metadata: Optional[Sequence[Mapping[str, object]]] = None
) -> int:
    """Writes the keys, with further fields from `metadata` (one mapping a row), and returns how many there are.

    >>> write_keys("train.keys.jsonl", ["r0", "r1"], [{"label": 3}, {"label": 5}])       # doctest: +SKIP
    2
    """
    keys = list(keys)
    if metadata is not None and len(metadata) != len(keys):
        raise ValueError(f"metadata of {len(metadata)} rows for {len(keys)} keys")
    seen = set()
    for row, key in enumerate(keys):
        if not isinstance(key, str) or not key:
            raise ValueError(f"the key of row {row} is {key!r}: keys are texts that are not empty")
        if key in seen:
            raise ValueError(f"row {row} repeats the key {key!r}")
        seen.add(key)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row, key in enumerate(keys):
            fields = dict(metadata[row]) if metadata is not None else {}
            if fields.pop("key", key) != key:
                raise ValueError(f"row {row} has the key {key!r}, its metadata another one")
            try:
                line = json.dumps({"key": key, **fields}, ensure_ascii=False, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(f"metadata of row {row} (key {key!r}) cannot be written: {error}") from error
            file.write(line + "\n")
    return len(keys)
