"""``provenance/``: a file for each writer and each worker, with versions, machine, device, weights and times."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssimpert.atomic_files import write_atomically

PROVENANCE_FOLDER = "provenance"


def write_provenance(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    """Write what is known of a writer or a worker.

    Args:
        folder: of the study.
        name: of the writer or the worker; other letters than those of names of hosts become ``_``.
        document: plain values.
    """
    target = folder / PROVENANCE_FOLDER
    target.mkdir(exist_ok=True)
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
    content = json.dumps(dict(document), indent=1, sort_keys=True, default=str).encode()
    write_atomically(target / f"{safe}.json", content)


def read_provenance(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents by their names; files that can't be read are left out."""
    found = {}
    for path in sorted((folder / PROVENANCE_FOLDER).glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return found
