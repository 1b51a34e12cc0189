"""The report of a study, from plain values: a table, and how many of its units are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssimpert.errors import InputError
from ssimpert.report.html.numbers_in_words import counted, finite, set_and_steps
from ssimpert.report.html.view import Column, Fact, PhotoView, Plot, ReportView, Table, Value

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class UnitCounts:
    """How far a study is.

    Attributes:
        declared: the units that the study asks for.
        finished: the units with a result.
        failed: the units that ended with an error.
    """

    declared: int
    finished: int
    failed: int = 0

    @property
    def missing(self) -> int:
        """The units that were not run yet."""
        return self.declared - self.finished - self.failed


def study_report(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    counts: UnitCounts,
    *,
    conditions: str,
    units: Mapping[str, str] | None = None,
    plots: Sequence[Plot] = (),
    photos: Sequence[PhotoView] = (),
    origin: Mapping[str, str] | None = None,
) -> ReportView:
    """What a study shows.

    Args:
        name: the study's name.
        tables: plain tables by their headings, each with at least one column; the index is left out.
        counts: how many units are declared, finished and failed.
        conditions: the sets with their thresholds, windows and borders, and the steps.
        units: the units of columns, by the names of the columns; default none.
        plots: plots of the whole study; default none.
        photos: photos to show; default none.
        origin: where the numbers come from, by name, and how pictures are compressed; default nothing.

    Raises:
        InputError: counts that contradict one another, or a table without a column.
    """
    if min(counts.declared, counts.finished, counts.failed, counts.missing) < 0:
        raise InputError(
            f"a study of {counts.declared} units can't have {counts.finished} finished and {counts.failed} failed units"
        )
    partial = counts.finished < counts.declared
    words = (
        f"{counts.finished} of {counted(counts.declared, 'unit')} are finished, {counts.failed} failed, and "
        f"{counts.missing} are missing"
    )
    return ReportView(
        title=f"Study {name}",
        summary=() if partial else (f"All {counted(counts.declared, 'unit')} are finished.",),
        conditions=conditions,
        warnings=(f"This report is partial: {words}.",) if partial else (),
        tables=tuple(
            frame_table(f"study-{number}", heading, frame, f"{words}. {set_and_steps(conditions)}", units or {})
            for number, (heading, frame) in enumerate(tables.items(), start=1)
        ),
        plots=tuple(plots),
        photos=tuple(photos),
        origin=tuple(Fact(key, value) for key, value in (origin or {}).items()),
    )


def frame_table(name: str, title: str, frame: pd.DataFrame, caption: str, units: Mapping[str, str]) -> Table:
    """A data frame as a table that sorts and filters; the index is left out.

    Args:
        name: letters, digits and hyphens.
        title: the heading.
        frame: the values; columns of numbers are shown and filtered as numbers, all others as texts.
        caption: the text above the table.
        units: the units of columns, by the names of the columns.

    Raises:
        InputError: a table without a column.
    """
    import pandas as pd

    if not len(frame.columns):
        raise InputError(f"the table {title!r} has no column")
    is_number = [
        pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in frame.dtypes
    ]
    columns = tuple(
        Column(str(heading).replace("_", " "), "number" if number else "text", str(units.get(heading, "")))
        for heading, number in zip(frame.columns, is_number, strict=True)
    )
    values = [
        [_number(value) if number else _text(value) for value in frame.iloc[:, k].tolist()]
        for k, number in enumerate(is_number)
    ]
    rows: list[list[Value]] = [list(row) for row in zip(*values, strict=True)]
    return Table(name, title, caption, columns, rows)


def _number(value: Any) -> Value:
    number = finite(value)
    return int(number) if number is not None and isinstance(value, int) else number


def _text(value: Any) -> Value:
    import pandas as pd

    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value)
