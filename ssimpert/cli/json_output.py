"""What ``--json`` prints."""

from __future__ import annotations

from typing import Any


def print_json(document: Any) -> None:
    """Print ``document`` as strict JSON."""
    from ssimpert.records import json_text

    print(json_text(document))
