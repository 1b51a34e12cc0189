"""Tables of studies as rows of text, for the terminal, LaTeX and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssimpert.study.outputs.number_text import estimate_text, name_text, number_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are text.

    Attributes:
        title: what the table is about.
        headings: of the columns.
        rows: the cells, as many as there are headings.
        names: how many columns, from the left, hold names; all others hold numbers.
        notes: lines below the table.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int
    notes: tuple[str, ...] = ()


def pivot_text(
    part: pd.DataFrame, title: str, *, rows: Sequence[str], columns: Sequence[str], statistic: str = "mean"
) -> TextTable:
    """What :func:`ssimpert.study.outputs.table.pivot` returned, with its columns side by side.

    Args:
        part: the pivot.
        title: of the table.
        rows, columns: as ``pivot`` got them.
        statistic: as ``pivot`` got it.
    """
    records = part.to_dict("records")
    across = list(dict.fromkeys(tuple(name_text(row[name]) for name in columns) for row in records))
    cells: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}
    for row in records:
        place = tuple(name_text(row[name]) for name in columns)
        down = tuple(name_text(row[name]) for name in rows)
        cells.setdefault(down, {})[place] = estimate_text(row[statistic], row["low"], row["high"])
    undefined, single = int(part["undefined"].sum()), bool((part["low"].isna() & part[statistic].notna()).any())
    notes = (
        f"{undefined} {_units(undefined)} without a finite number left out" if undefined else "",
        "a number without an interval is of one image or cluster" if single else "",
    )
    return TextTable(
        title,
        (*(name.replace("_", " ") for name in rows), *(", ".join(filter(None, key)) or statistic for key in across)),
        tuple((*down, *(found.get(key, "") for key in across)) for down, found in cells.items()),
        len(rows),
        tuple(filter(None, notes)),
    )


def paired_text(part: pd.DataFrame, title: str) -> TextTable:
    """What :func:`ssimpert.study.outputs.table.paired_columns` returned."""
    unpaired = int(part["unpaired"].sum())
    counted = int(part["p_value"].notna().sum())
    notes = (
        f"p after Holm's correction over {counted} comparisons; sign-flip tests over images",
        f"{unpaired} pairs in which one or both have no finite number left out" if unpaired else "",
    )
    return TextTable(
        title,
        ("model", "first", "second", "pairs", "difference", "p"),
        tuple(
            (row["model"], row["first"], row["second"], str(row["n"]),
             estimate_text(row["difference"], row["low"], row["high"]), number_text(row["p_holm"]))
            for row in part.to_dict("records")
        ),
        3,
        tuple(filter(None, notes)),
    )  # fmt: skip


def comparison_text(part: pd.DataFrame, title: str) -> TextTable:
    """The rows of one value in :attr:`ssimpert.study.outputs.comparison.StudyComparison.table`."""
    return TextTable(
        title,
        ("column", "images", "A", "B", "difference"),
        tuple(
            (f"{row['model']}, {row['column']}", str(row["n"]), number_text(row["first"]), number_text(row["second"]),
             estimate_text(row["difference"], row["low"], row["high"]))
            for row in part.to_dict("records")
        ),
        1,
    )  # fmt: skip


def _units(count: int) -> str:
    return "unit" if count == 1 else "units"
