"""``cells.json``: what a study asks for, known without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError

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
