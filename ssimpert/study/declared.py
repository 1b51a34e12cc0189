"""``cells.json`` and the keys of all declared units: what a study asks for, known without a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError
from ssimpert.study.keys import KEY_LENGTH

CELLS = "cells.json"


@dataclass(frozen=True)
class DeclaredCell:
    """A cell with what decides its records.

    Attributes:
        digest: the hexadecimal SHA-256 of the cell's options (:func:`ssimpert.study.cell_digest`).
        names: the cell's columns, such as model, formulation and level.
        options: what the digest is of (:func:`ssimpert.study.keys.cell_options`).
    """

    digest: str
    names: Mapping[str, Any]
    options: Mapping[str, Any]


def unit_keys(digest: str, identities: Sequence[str]) -> np.ndarray:
    """The keys of a cell's units, as :func:`ssimpert.study.unit_key` makes them: (items,) of text."""
    started = hashlib.sha256(bytes.fromhex(digest))
    keys = []
    for identity in identities:
        hashed = started.copy()
        hashed.update(identity.encode())
        keys.append(hashed.hexdigest()[:KEY_LENGTH])
    return np.array(keys, dtype=f"U{KEY_LENGTH}")


def read_cells(folder: Path) -> tuple[DeclaredCell, ...] | None:
    """The cells of the last run in a study's folder; ``None`` before the first run.

    Raises:
        InputError: the file can't be read.
    """
    try:
        document = json.loads((folder / CELLS).read_text(encoding="utf-8"))
        return tuple(DeclaredCell(**cell) for cell in document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / CELLS} can't be read ({error}); `ssimpert study run` writes it anew") from error


def write_cells(folder: Path, cells: Sequence[DeclaredCell]) -> None:
    """Write the cells into a study's folder.

    Raises:
        OSError: the file can't be written.
    """
    content = [{"digest": cell.digest, "names": dict(cell.names), "options": dict(cell.options)} for cell in cells]
    write_atomically(folder / CELLS, json.dumps(content, indent=1, default=str).encode())
