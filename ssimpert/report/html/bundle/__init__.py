"""The report's script and style sheet, made by ``npm run build`` in the folder ``report_assets``; users need no npm."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def script() -> str:
    """The script, with the packages that it needs."""
    return (files(__name__) / "report.js").read_text(encoding="utf-8")


@cache
def style_sheet() -> str:
    """The style sheet."""
    return (files(__name__) / "report.css").read_text(encoding="utf-8")
