"""Random projections whose entries follow from a seed and a name, the same bits in every language.

The definition, with test values, is in `storage-format/projection.md`: nothing here may change without it.
"""

from __future__ import annotations

import hashlib

import numpy as np

WORD_BITS = 64
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def projection_key(seed: int, module: str, side: str) -> int:
    """The 64-bit key of one module's matrix on one side ("in" or "out").

    >>> hex(projection_key(7, "net.0", "in"))
    '0xafe0562d64e393e8'
    """
    if side not in ("in", "out"):
        raise ValueError(f'side is {side!r}, but has to be "in" or "out"')
    if not 0 <= seed < 1 << WORD_BITS:
        raise ValueError(f"seed {seed} is not a 64-bit unsigned number")
    text = f"ascribe-projection-1/{seed}/{module}/{side}".encode("utf-8")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def sign_words(seed: int, module: str, side: str, rows: int, columns: int) -> np.ndarray:
    """The signs as bits: uint64 [rows, ceil(columns / 64)], bit 1 = plus, column 0 in the least significant bit."""
    words_a_row = -(-columns // WORD_BITS)
    # Arrays of one element, because numpy warns where a scalar overflows and is silent where an array does.
    key = np.array([projection_key(seed, module, side)], dtype=np.uint64)
    counter = np.arange(1, rows * words_a_row + 1, dtype=np.uint64)
    return _mix(key + GOLDEN * counter).reshape(rows, words_a_row)


def rademacher(seed: int, module: str, side: str, rows: int, columns: int) -> np.ndarray:
    """The projection matrix, float32 [rows, columns] with entries +-1/sqrt(rows).

    `columns` is the width before (a bias input counted where there is one), `rows` the width after. Entries of this
    size leave inner products as they are on average: E[(Pu).(Pv)] = u.v.

    >>> rademacher(7, "net.0", "in", 4, 785).shape
    (4, 785)
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"a projection needs at least one row and one column, not {rows} x {columns}")
    words = sign_words(seed, module, side, rows, columns).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), axis=1, count=columns, bitorder="little")
    return np.where(bits, np.float32(1), np.float32(-1)) / np.float32(np.sqrt(rows))


def _mix(z: np.ndarray) -> np.ndarray:
    """The SplitMix64 finaliser, modulo 2^64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
