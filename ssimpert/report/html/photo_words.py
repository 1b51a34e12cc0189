"""What happened to one photo, in words."""

from __future__ import annotations

from typing import Any

from ssimpert.report.html.numbers_in_words import number

NOT_RECORDED = "the set and the steps were not recorded"


def conditions_of(record: dict[str, Any]) -> str:
    """The set with its threshold, windows and border, and the steps."""
    return str(record.get("conditions") or NOT_RECORDED)


def label_text(result: dict[str, Any], when: str) -> str:
    """The name of the label "before" or "after", or its number."""
    return str(result.get(f"label_{when}_name") or f"class {result[f'label_{when}']}")


def outcome(record: dict[str, Any]) -> str:
    """What happened to a photo, in a sentence."""
    result = record["result"]
    before, after = label_text(result, "before"), label_text(result, "after")
    margin = number(result["margin_after"], "logits")
    if not result["success"]:
        return f"The goal was not reached: {before} became {after}, with margin {margin}."
    level = result.get("level")
    found = f" at level {number(level)} ({result.get('level_unit', 'level')})" if level is not None else ""
    return f"{before} became {after}{found}, with margin {margin}."
