"""The sketch file under way: members, rows, and what has to hold between them."""

from __future__ import annotations

import json
import pathlib
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from .keys_file import keys_path, write_keys
from .safetensors_file import Entry, decode, encode, write
from .spool import Spool

# Values [rows, ...] and the dtype they are written in, by a tensor's name without its member.
Batch = Mapping[str, Tuple[np.ndarray, str]]
# Endings of the tensors of tables, which have as many columns as the row with the most tokens.
IDS, RAGGED = "ids", ("ids", "v")


class SketchWriter:
    """Takes rows batch by batch and keeps them on disk; `finish` joins them to one safetensors file.

    `shared_inputs` are names of layers: their `.v` is kept for the first member only, and has to be equal in others.
    `tables` are names of layers too: they have `.ids`, which are those of the first member for all, and their `.v` and
    `.ids` may have another number of columns in each batch.

    With `resume` what was committed outlives the process; members that were begun before are begun again, in order.
    """

    def __init__(
        self,
        path: Union[str, pathlib.Path],
        shared_inputs: Iterable[str] = (),
        tables: Iterable[str] = (),
        resume: bool = False,
    ):
        self.path = pathlib.Path(path)
        self._resume = resume
        self._shared = {f"{name}.v" for name in shared_inputs}
        self._ragged = {f"{name}.{ending}" for name in tables for ending in RAGGED}
        self._ids = {f"{name}.{IDS}" for name in tables}
        self._spool: Optional[Spool] = Spool(self.path, keep=resume)
        state = self._spool.state
        self.checkpoints: List[Dict[str, int]] = list(state.get("checkpoints", ()))
        self._first_rows: Optional[int] = state.get("first_rows")
        # Rows of the last member that was begun; earlier ones have them all.
        self._last_rows: int = state.get("rows", 0)
        self.member = -1
        self.rows = 0
        self._is_restored = False
        self._is_whole = True

    @property
    def closed(self) -> bool:
        return self._spool is None

    @property
    def restored(self) -> Tuple[Dict[str, object], Dict[str, np.ndarray]]:
        """What was given to the last commit of an earlier process; empty if there was none."""
        return self._spool.state.get("more", {}), self._spool.arrays

    @property
    def is_restored_member(self) -> bool:
        """Whether this member was the one under way in an earlier process."""
        return self._is_restored

    @property
    def folder(self) -> pathlib.Path:
        return self._spool.folder

    def close(self) -> None:
        """Deletes what is not finished; with `resume` what was committed stays."""
        if self._spool is not None:
            if self._resume:
                self._spool.release()
            else:
                self._spool.remove()
            self._spool = None

    def begin_member(self, run: int, epoch: int) -> int:
        """The rows that follow are those of another checkpoint; returns how many of them are there already."""
        if run < 0 or epoch < 0:
            raise ValueError(f"run {run}, epoch {epoch}: both are counted from 0")
        self.end_member()
        checkpoint = {"run": int(run), "epoch": int(epoch)}
        number = self.member + 1
        self._is_restored = number == len(self.checkpoints) - 1
        if number < len(self.checkpoints):
            if self.checkpoints[number] != checkpoint:
                raise ValueError(
                    f"member {number} was begun as {self.checkpoints[number]}, not as {checkpoint}: go on with the "
                    f"same members, or delete {self.folder} to collect anew"
                )
            self.rows = self._last_rows if self._is_restored else self._first_rows
        else:
            self.checkpoints.append(checkpoint)
            self.rows = 0
        self.member = number
        return self.rows

    def append(self, rows: int, batch: Batch) -> None:
        """Appends a batch, all of it or, where something is wrong with it, nothing."""
        if self._first_rows is not None and self.rows + rows > self._first_rows:
            raise ValueError(f"member {self.member} has more rows than the first member, which has {self._first_rows}")
        own = f"m{self.member}.own"
        if self._spool.rows(own) != (self.rows if "own" in batch else 0):
            raise ValueError("some batches of this member have `own` and others have not: use add_classified for all")
        stored = {}
        for ending, (values, dtype) in batch.items():
            if self.member and ending in self._ids:
                continue
            self._check_fits(ending, values, dtype)
            if self.member and ending in self._shared:
                self._check_shared(ending, values, dtype)
                continue
            name = f"m{self.member}.{ending}"
            self._spool.check(name, values.shape[1:], dtype)
            stored[name] = (values, dtype, ending in self._ragged)
        self._is_whole = False
        for name, (values, dtype, ragged) in stored.items():
            # A layer that earlier batches did not use has zeros for them.
            self._spool.extend_with_zeros(name, values.shape[1:], dtype, self.rows, ragged)
            self._spool.append(name, values, dtype, ragged)
        self.rows += rows
        self._is_whole = True

    def put(self, ending: str, values: np.ndarray) -> None:
        """A tensor of this member that has no rows."""
        self._spool.put(f"m{self.member}.{ending}", values)

    def commit(self, more: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
        """Makes the rows so far safe, with what the caller wants to find again; nothing if a batch was cut off."""
        if self._is_whole and self.member == len(self.checkpoints) - 1:
            state = {"checkpoints": self.checkpoints, "first_rows": self._first_rows, "rows": self.rows}
            self._spool.commit({**state, "more": more}, arrays)

    def first_ids(self, name: str, rows: int) -> Optional[np.ndarray]:
        """int64 [rows, s]: the ids that a table's next rows have in the first member; None while that is under way."""
        if self.member < 1:
            return None
        if not self._spool.rows(f"m0.{name}.{IDS}"):
            return np.full((rows, 0), -1)
        found = self._spool.read(f"m0.{name}.{IDS}", self.rows, rows).astype(np.int64)
        # The first member's last batches may not have called the table.
        missing = np.full((rows - len(found), found.shape[1]), -1)
        return np.concatenate([found, missing])

    def finish(
        self,
        row_shapes: Mapping[str, Tuple[int, ...]],
        dtype: str,
        schema: Mapping[str, object],
        keys: Iterable[str],
        metadata: Optional[Sequence[Mapping[str, object]]],
        tensors: Mapping[str, np.ndarray],
        more: Mapping[str, str],
    ) -> int:
        """Writes both files and returns the sketch file's size in bytes.

        `row_shapes`: what every member has to have; missing rows are zero. `tensors`: further ones, written as F32.
        `more`: further entries of the file's metadata.
        """
        self.end_member()
        if not self.checkpoints:
            raise ValueError("nothing was collected")
        if self.member < len(self.checkpoints) - 1:
            raise ValueError(f"{len(self.checkpoints)} members were begun before, but only {self.member + 1} now")
        keys = list(keys)
        if len(keys) != self.rows:
            raise ValueError(f"{len(keys)} keys for {self.rows} rows")
        with_own = [self._spool.rows(f"m{member}.own") > 0 for member in range(len(self.checkpoints))]
        if any(with_own) and not all(with_own):
            raise ValueError("some members have `own` and others have not: use add_classified for all")
        entries = self._entries(row_shapes, dtype)
        entries += [Entry(name, "F32", values.shape, encode(values, "F32")) for name, values in tensors.items()]
        write_keys(keys_path(self.path), keys, metadata)
        full = {"members": len(self.checkpoints), "checkpoints": self.checkpoints, **schema}
        text = json.dumps(full, ensure_ascii=False)
        write(self.path, entries, {"ascribe.sketch": "1", "schema": text, **more})
        self._spool.remove()
        self._spool = None
        return self.path.stat().st_size

    def _entries(self, row_shapes: Mapping[str, Tuple[int, ...]], dtype: str) -> List[Entry]:
        """The tensors of all rows; what a layer that was not called lacks is zero."""
        entries, named = [], set()
        for member in range(len(self.checkpoints)):
            for ending, row_shape in row_shapes.items():
                if member and ending in self._shared:
                    continue
                alias, is_ids, is_ragged = f"m{member}.{ending}", ending in self._ids, ending in self._ragged
                name = f"m0.{ending}" if is_ids else alias
                written = "I64" if is_ids else dtype
                self._spool.extend_with_zeros(name, row_shape, written, self.rows, is_ragged)
                entries.append(self._spool.entry(name, row_shape[-1], alias))
                named.add(name)
        self._spool.fill(self.rows)
        return entries + [self._spool.entry(name) for name in self._spool.names() if name not in named]

    def end_member(self) -> None:
        """A ValueError if the member under way has fewer rows than it has to have."""
        if self.member < 0:
            return
        if self.rows == 0:
            raise ValueError(f"member {self.member} has no rows")
        if self._first_rows is None:
            self._first_rows = self.rows
        elif self.rows != self._first_rows:
            raise ValueError(f"member {self.member} has {self.rows} rows, the first member {self._first_rows}")

    def _check_fits(self, ending: str, values: np.ndarray, dtype: str) -> None:
        """A row must not vanish or become infinite in the dtype it is written in."""
        if dtype == "I64":
            return
        stored = decode(encode(values, dtype), dtype).reshape(len(values), -1)
        given = values.reshape(len(values), -1)
        wrong = ~np.isfinite(stored).all(axis=1) | (given.any(axis=1) & ~stored.any(axis=1))
        if wrong.any():
            row = self.rows + int(wrong.argmax())
            raise ValueError(f"{ending}: row {row} does not fit {dtype}, it would be zero or infinite: use F32 or BF16")

    def _check_shared(self, ending: str, values: np.ndarray, dtype: str) -> None:
        first = self._spool.read(f"m0.{ending}", self.rows, len(values))
        again = decode(encode(values, dtype), dtype).reshape(values.shape)
        different = (first != again).reshape(len(again), -1).any(axis=1)
        if different.any():
            raise ValueError(
                f"{ending[:-2]}: row {self.rows + int(different.argmax())} has another input than for the first "
                "member: the rows are in another order, or the input is not shared by all members"
            )
