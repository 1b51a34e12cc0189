"""Results read back from their records, as tables and figures take them. So a table is the same after a restart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# The entries of a row that say "none" by null; every other null was NaN.
_TEXTS = ("certified",)


@dataclass(frozen=True)
class RecordedResults:
    """The rows of perturbed photos, one record each.

    Attributes:
        entries: a row for each photo, as :meth:`ssimpert.perturbation.PerturbResult.rows` has it, read from JSON.
        constraint: the set that the perturbations keep to, or what stands in its place; None for no set.
        settings: how the perturbations were made.
        conditions: the set and the steps in words; see :func:`ssimpert.report.conditions.conditions`.
        pictures: what each PNG does; see :func:`ssimpert.cli.outputs.write_images`.
    """

    entries: Sequence[dict[str, Any]]
    constraint: object
    settings: dict[str, Any]
    conditions: str
    pictures: Sequence[dict[str, Any]] = ()

    @property
    def name(self) -> str:
        """What tables call the perturbation."""
        return str(self.entries[0]["perturbation"])

    def rows(self) -> list[dict[str, Any]]:
        """The rows, with NaN where JSON has null."""
        return [
            {key: math.nan if value is None and key not in _TEXTS else value for key, value in entry.items()}
            for entry in self.entries
        ]


def recorded_results(records: Sequence[dict[str, Any]], constraint: object, key: str = "result") -> RecordedResults:
    """The rows under ``key`` of each record: "result", or "l2_control"."""
    prefix = "" if key == "result" else f"{key}_"
    first = records[0]
    return RecordedResults(
        [record[key] for record in records],
        constraint,
        first[f"{prefix}settings"],
        first[f"{prefix}conditions"],
        [record["file"] for record in records] if key == "result" else (),
    )
