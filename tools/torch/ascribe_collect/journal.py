"""What of a collection under way is safe on disk: one small file, replaced as a whole."""

from __future__ import annotations

import json
import os
import pathlib
import zlib
from typing import Dict, Optional

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes apart there.
    fcntl = None

NAME = "journal.json"
BLOCK_BYTES = 1 << 20


class Lock:
    """Held while one process collects into a folder; the operating system lets it go when that process ends."""

    def __init__(self, folder: pathlib.Path):
        self._file = open(folder / "lock", "a", encoding="utf-8")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise ValueError(f"another process collects into {folder}: wait for it, or end it") from None

    def release(self) -> None:
        self._file.close()


def save(folder: pathlib.Path, content: Dict[str, object]) -> None:
    """Replaces the journal. What it speaks of has to be on disk already (`sync`): it is never ahead of its data."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    unfinished = folder / f"{NAME}.unfinished"
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(f"{zlib.crc32(text.encode('utf-8')):08x} {text}")
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, folder / NAME)
    sync_folder(folder)


def load(folder: pathlib.Path) -> Optional[Dict[str, object]]:
    """What was saved last, None if nothing was; a ValueError if the file is damaged."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    checksum, _, body = text.partition(" ")
    if checksum != f"{zlib.crc32(body.encode('utf-8')):08x}":
        raise ValueError(f"{folder / NAME} is damaged: delete {folder} to collect anew")
    return json.loads(body)


def sync(path: pathlib.Path) -> None:
    """Returns when the file's values are on disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: pathlib.Path) -> None:
    """Returns when the folder's names are on disk; some systems do that without being asked and cannot be asked."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum_of(path: pathlib.Path, size: int) -> int:
    """CRC-32 of the first `size` bytes of a file; a ValueError if there are fewer."""
    checksum, left = 0, size
    with open(path, "rb") as file:
        while left:
            block = file.read(min(left, BLOCK_BYTES))
            if not block:
                raise ValueError(f"{path} lacks {left} of {size} bytes: delete {path.parent} to collect anew")
            checksum, left = zlib.crc32(block, checksum), left - len(block)
    return checksum
