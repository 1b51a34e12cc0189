"""What decides a record, as a key: the same key, the same record.

A unit's key is a hash of its cell and its item. A cell is everything that can change a record beside the item: the
model with its weights and its preparation of images, every option of formulation and analysis, the level, the passes,
the study's seed, the repeat and the version of results. What only names something is no part of a key: a formulation
may be renamed, and its records hold. Neither are the library's version, the device and the batch, which are provenance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssimpert.study.grid import Cell
    from ssimpert.study.study import Study

RESULT_VERSION = 1
"""Raised by hand when a numerical change alters records. Every unit of every study is then missing again."""

KEY_LENGTH = 32
"""Hexadecimal digits of a unit's key."""


def cell_digest(study: Study, cell: Cell, model_identity: str) -> bytes:
    """The SHA-256 of everything that decides the records of ``cell``, beside the item.

    Args:
        study: the study.
        cell: one of its cells.
        model_identity: of the cell's model, with its weights (:attr:`ssimpert.study.LoadedModel.identity`).
    """
    return hashlib.sha256(canonical_json(cell_options(study, cell, model_identity)).encode()).digest()


def unit_key(digest: bytes, identity: str) -> str:
    """The key of the unit of a cell, by its digest, and of an item, by its identity: 32 hexadecimal digits."""
    return hashlib.sha256(digest + identity.encode()).hexdigest()[:KEY_LENGTH]


def unit_seed(study_seed: int, key: str) -> int:
    """The seed of everything random in a unit, from 0 to 2**63 - 1. No other unit and no batch plays a part."""
    from ssimpert.validation import check_seed  # loads torch, which nobody needs who only looks at keys

    digest = hashlib.sha256(f"{check_seed(study_seed)}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def cell_options(study: Study, cell: Cell, model_identity: str) -> dict[str, Any]:
    """Everything that decides the records of ``cell``, beside the item, as values for JSON.

    Defaults are filled in: an option that is given with its default value changes nothing.
    """
    options: dict[str, Any] = {
        "result_version": RESULT_VERSION,
        "model": model_identity,
        "level": cell.level,
        "seed": study.seed,
        "repeat": cell.repeat,
        "analysis": study.analysis.deciding_options(),
        "arrays": study.out.arrays,
    }
    if cell.formulation is not None:
        options["formulation"] = study.formulations[cell.formulation].deciding_options(cell.level)
    else:
        assert cell.attack is not None
        assert cell.passes is not None
        options["attack"] = study.attacks[cell.attack].deciding_options(cell.passes, cell.level)
    return options


def changed_options(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """The names of the options in which two cells differ, such as ``"formulation.steps"``, in order.

    Args:
        before, after: from :func:`cell_options`.
        prefix: what is put before each name.
    """
    changed: list[str] = []
    for key in dict.fromkeys((*before, *after)):
        first, second = before.get(key), after.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            changed += changed_options(first, second, f"{prefix}{key}.")
        elif first != second:
            changed.append(f"{prefix}{key}")
    return tuple(changed)


def canonical_json(value: Any) -> str:
    """``value`` as JSON with sorted keys and without spaces. Floats are exact; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
