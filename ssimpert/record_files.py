"""Files of records that commands left: read and looked at without following links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file ``path``; ``None`` where there is no such regular file, or no object in it."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def is_filled(path: Path) -> bool:
    """Whether ``path`` is a regular file, no link, with something in it."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0
