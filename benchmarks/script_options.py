"""What the scripts in ``benchmarks`` and ``examples`` share: ``--help`` that only helps, and where records go.

Without ``--record`` a script writes below ``out/bench/``, which git ignores. With ``--record`` it replaces the
committed record, unless that one was made by a fuller run: with more rows, or for more photos, or by a run that was not
shortened.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SCRATCH = ROOT / "out" / "bench"
RECORDS = ROOT / "benchmarks" / "results"


def script_parser(doc: str | None, *, records: bool = False) -> argparse.ArgumentParser:
    """A parser whose ``--help`` shows the script's docstring.

    Args:
        doc: the script's ``__doc__``.
        records: whether the script writes a committed record or picture; then it takes ``--record``.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if records:
        parser.add_argument(
            "--record",
            action="store_true",
            help="replace the committed record and pictures; without this option they are written below out/bench/",
        )
    return parser


def output_path(committed: Path, *, record: bool) -> Path:
    """Where a picture or an array goes: to ``committed``, or below ``out/bench/`` under the same name."""
    path = committed if record else SCRATCH / committed.name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_record(name: str, document: dict[str, Any], *, record: bool, indent: int = 2) -> Path:
    """Write ``NAME.json``: the committed record, or the one below ``out/bench/``.

    Args:
        name: of the record, without the ending.
        document: what was measured.
        record: whether the committed record is meant.
        indent: of the JSON.

    Raises:
        SystemExit: the committed record is fuller than ``document``. Then nothing committed is changed, and the
        document
            is below ``out/bench/``.
    """
    text = json.dumps(document, indent=indent) + "\n"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    scratch = SCRATCH / f"{name}.json"
    if not record:
        scratch.write_text(text, encoding="utf-8")
        print(f"written: {scratch.relative_to(ROOT)} (--record replaces the committed record)", flush=True)
        return scratch
    committed = RECORDS / f"{name}.json"
    if committed.is_file():
        fuller = missing_measurements(json.loads(committed.read_text(encoding="utf-8")), document)
        if fuller:
            scratch.write_text(text, encoding="utf-8")
            raise SystemExit(
                f"{committed.name} was not replaced, since it is fuller: {fuller}. This run is in "
                f"{scratch.relative_to(ROOT)}; run the script in full, or remove {committed.relative_to(ROOT)} first"
            )
    committed.write_text(text, encoding="utf-8")
    print(f"written: {committed.relative_to(ROOT)}", flush=True)
    return committed


def missing_measurements(old: Any, new: Any, where: str = "record") -> str:
    """In words, what ``old`` has and ``new`` lacks: a list that is longer, or a key of a dictionary; empty for nothing.

    The machine may differ, and so may every number.
    """
    if isinstance(old, list) and isinstance(new, list):
        if len(new) < len(old):
            return f"{where} has {len(old)} entries, this run {len(new)}"
        pairs = [(a, b, where) for a, b in zip(old, new, strict=False)]
    elif isinstance(old, dict) and isinstance(new, dict):
        lacking = [key for key in old if key not in new and key != "machine"]
        if lacking:
            return f"{where} has {lacking[0]!r}, this run does not"
        pairs = [(old[key], new[key], f"{where}.{key}") for key in old if key != "machine"]
    else:
        return ""
    return next((text for a, b, place in pairs if (text := missing_measurements(a, b, place))), "")
