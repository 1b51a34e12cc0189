"""Keys of many units as one array of bytes, in which a key is found without a text of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ssimpert.study.keys import KEY_LENGTH

KeyArray = NDArray[np.bytes_]
"""Keys as bytes: (units,) of ``S32``."""


def unit_keys(digest: str, identities: Sequence[str]) -> KeyArray:
    """The keys of a cell's units, as :func:`ssimpert.study.unit_key` makes them: (items,), in their order."""
    started = hashlib.sha256(bytes.fromhex(digest))
    digests = []
    for identity in identities:
        hashed = started.copy()
        hashed.update(identity.encode())
        digests.append(hashed.digest()[: KEY_LENGTH // 2])
    return np.frombuffer(b"".join(digests).hex().encode(), dtype=f"S{KEY_LENGTH}")


def key_array(keys: Iterable[str]) -> KeyArray:
    """Keys that are texts, in the same order."""
    return bytes_array([key.encode() for key in keys])


def bytes_array(keys: Sequence[bytes]) -> KeyArray:
    """Keys that are bytes, in the same order."""
    return np.array(keys, dtype=bytes) if keys else np.array([], dtype=f"S{KEY_LENGTH}")


def arrow_keys(column: pa.ChunkedArray) -> KeyArray:
    """The keys of a column ``key`` of records, in the same order."""
    return bytes_array(column.cast(pa.binary()).to_pylist())


def key_texts(keys: KeyArray) -> list[str]:
    """Keys as texts, in the same order."""
    return [key.decode() for key in keys.tolist()]


def is_among(keys: KeyArray, sorted_keys: KeyArray) -> NDArray[np.bool_]:
    """Which of ``keys`` are in ``sorted_keys``: (units,)."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.asarray(sorted_keys[places] == keys)
