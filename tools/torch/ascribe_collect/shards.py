"""One data set in several runs, on several devices or machines, and their sketch files joined."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from .factors import FACTOR_COUNTS
from .keys_file import keys_path
from .safetensors_file import COPY_BYTES, Entry, TensorReader, encode, padded, write
from .sketch_file import IDS
from .trajectory import TrajectoryLog

# Entry of a sketch file's metadata: "index/count" of the run that wrote it.
SHARD = "ascribe.shard"
# What may differ between shards: how many pairs and terms their rows needed.
WIDENED = ("rank", "terms")


def shard_rows(rows: int, index: int, count: int) -> range:
    """The rows of one of `count` runs: consecutive ones, so that the files of all runs joined have them in order.

    >>> [list(shard_rows(5, index, 2)) for index in range(2)]
    [[0, 1, 2], [3, 4]]
    """
    index, count = shard_of((index, count))
    each, more = divmod(rows, count)
    start = index * each + min(index, more)
    return range(start, start + each + (index < more))


def shard_of(shard: Optional[Tuple[int, int]]) -> Tuple[int, int]:
    """(index, count), (0, 1) for None; a ValueError if it is none."""
    index, count = shard or (0, 1)
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count}: they are counted from 0")
    return int(index), int(count)


@dataclass
class _Shard:
    path: pathlib.Path
    tensors: TensorReader
    schema: Dict[str, object]
    counts: Dict[str, int]
    rows: int


def merge_shards(
    paths: Sequence[Union[str, pathlib.Path]],
    out: Union[str, pathlib.Path],
    trajectory: Optional[TrajectoryLog] = None,
) -> int:
    """Joins the sketch files of all shards, in order, to one, with their keys files; returns its number of rows.

    They have to be of one schema, apart from ranks and terms, which become the largest of all, and each key has to be
    there once. K-FAC factors become means over the tokens of all. `trajectory`, if any, is that of all rows. Memory
    stays at a block, beside the keys.

    >>> merge_shards([f"train.{index}.safetensors" for index in range(4)], "train.safetensors")  # doctest: +SKIP
    40000
    """
    if not paths:
        raise ValueError("there is nothing to join")
    shards = [_open(pathlib.Path(path)) for path in paths]
    for number, shard in enumerate(shards):
        text = shard.tensors.metadata.get(SHARD, "0/1" if len(shards) == 1 else None)
        if text is not None and text != f"{number}/{len(shards)}":
            raise ValueError(f"{shard.path} is shard {text}, not {number}/{len(shards)}: name all of them, in order")
    schema = _joined_schema(shards)
    widths = {module["name"]: module for module in schema["modules"]}
    names = list(shards[0].tensors.entries)
    for shard in shards[1:]:
        different = set(shard.tensors.entries) ^ set(names)
        if different:
            raise ValueError(f"{min(different)} is in one of {shards[0].path} and {shard.path}, and not in the other")
    rows = sum(shard.rows for shard in shards)
    entries, more = [], {}
    for name in names:
        if name.endswith((".A", ".B")):
            entries.append(_joined_factor(shards, name))
        elif name != "trajectory.weight":
            entries.append(_joined_rows(shards, name, widths, rows))
    entries += _trajectory(shards, trajectory, rows)
    if shards[0].counts:
        counts = {name: sum(shard.counts[name] for shard in shards) for name in shards[0].counts}
        more[FACTOR_COUNTS] = json.dumps(counts)
    _join_keys(shards, keys_path(out))
    write(out, entries, {"ascribe.sketch": "1", "schema": json.dumps(schema, ensure_ascii=False), **more})
    return rows


def _open(path: pathlib.Path) -> _Shard:
    tensors = TensorReader(path)
    try:
        schema = json.loads(tensors.metadata["schema"])
        counts = json.loads(tensors.metadata.get(FACTOR_COUNTS, "{}"))
        module = schema["modules"][0]
        _, shape = tensors.entries["m0.{}.{}".format(module["name"], "g" if module["encoding"] == "dense" else "u")]
        rows = shape[0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no sketch file: {error!r}") from error
    return _Shard(path, tensors, schema, counts, rows)


def _joined_schema(shards: Sequence[_Shard]) -> Dict[str, object]:
    def fixed(schema: Mapping[str, object]) -> Dict[str, object]:
        modules = [{key: value for key, value in module.items() if key not in WIDENED} for module in schema["modules"]]
        return {**schema, "modules": modules}

    first = shards[0].schema
    for shard in shards[1:]:
        if fixed(shard.schema) != fixed(first):
            raise ValueError(f"{shard.path} has another schema than {shards[0].path}")
    modules = []
    for number, module in enumerate(first["modules"]):
        alike = [shard.schema["modules"][number] for shard in shards]
        largest = {key: max(each[key] for each in alike) for key in WIDENED if key in module}
        modules.append({**module, **largest})
    return {**first, "modules": modules}


def _joined_rows(shards: Sequence[_Shard], name: str, widths: Mapping[str, Mapping[str, int]], rows: int) -> Entry:
    """A tensor with the rows of all shards, widened to the largest rank and number of terms."""
    dtype, shape = shards[0].tensors.entries[name]
    row_shape = list(shape[1:])
    layer, _, ending = name.partition(".")[2].rpartition(".")
    module = widths.get(layer, {})
    if ending in ("u", "v"):
        row_shape[0] = module["rank"]
    if ending in (IDS, "v") and "terms" in module:
        row_shape[-1] = module["terms"]
    for shard in shards:
        its_dtype, its_shape = shard.tensors.entries[name]
        if its_dtype != dtype or len(its_shape) != len(shape) or its_shape[0] != shard.rows:
            raise ValueError(f"{name} of {shard.path} is {its_dtype} {list(its_shape)}, which does not fit the others")

    def blocks() -> Iterator[bytes]:
        for shard in shards:
            for values in shard.tensors.blocks(name, COPY_BYTES):
                if values.ndim == 3 and values.shape[1] < row_shape[0]:
                    values = np.pad(values, [(0, 0), (0, row_shape[0] - values.shape[1]), (0, 0)])
                yield encode(padded(values, row_shape[-1]) if row_shape else values, dtype)

    return Entry(name, dtype, (rows, *row_shape), blocks)


def _joined_factor(shards: Sequence[_Shard], name: str) -> Entry:
    counted = name.rpartition(".")[0]
    total, values = sum(shard.counts[counted] for shard in shards), None
    for shard in shards:
        # F32 of each shard: the joined means are exact to single precision.
        own = shard.tensors.read(name).astype(np.float64) * (shard.counts[counted] / total)
        values = own if values is None else values + own
    return Entry(name, "F32", values.shape, encode(values, "F32"))


def _trajectory(shards: Sequence[_Shard], trajectory: Optional[TrajectoryLog], rows: int) -> List[Entry]:
    has_own = "trajectory.weight" in shards[0].tensors.entries
    if trajectory is not None:
        if has_own:
            raise ValueError(f"{shards[0].path} has a trajectory of its own")
        if trajectory.n_rows != rows:
            raise ValueError(f"a trajectory of {trajectory.n_rows} rows for {rows} rows")
        tensors = trajectory.tensors()
        return [Entry(name, "F32", values.shape, encode(values, "F32")) for name, values in tensors.items()]
    if not has_own:
        return []
    weights = [shard.tensors.read("trajectory.weight") for shard in shards]
    if any(not np.array_equal(weight, weights[0]) for weight in weights):
        raise ValueError("the shards' trajectories are of different epochs or learning rates")
    return [Entry("trajectory.weight", "F32", weights[0].shape, encode(weights[0], "F32"))]


def _join_keys(shards: Sequence[_Shard], out: pathlib.Path) -> None:
    seen: Dict[str, pathlib.Path] = {}
    unfinished = out.with_name(out.name + ".unfinished")
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as joined:
            for shard in shards:
                path, rows = keys_path(shard.path), 0
                with open(path, encoding="utf-8") as lines:
                    for line in lines:
                        key = json.loads(line)["key"]
                        if key in seen:
                            raise ValueError(f"the key {key!r} of {path} is in {seen[key]} too")
                        seen[key] = path
                        joined.write(line if line.endswith("\n") else line + "\n")
                        rows += 1
                if rows != shard.rows:
                    raise ValueError(f"{path} has {rows} keys for {shard.rows} rows")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
