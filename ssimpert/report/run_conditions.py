"""In words, for the captions of figures of tables: which runs a table is of, from its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssimpert.analysis.statistics.table import run_columns_of

if TYPE_CHECKING:
    import pandas as pd

# What stands before and after the values of a column. The level is the threshold's other form, or an axis.
_WORDS = {
    "constraint": ("", ""),
    "level": ("level ", ""),
    "threshold": ("threshold ", ""),
    "window": ("window ", ""),
    "border": ("border ", ""),
    "luminance": ("luminance ", ""),
    "layers": ("layers ", ""),
    "steps": ("at most ", " steps"),
    "engine": ("by ", ""),
    "model": ("on ", ""),
}
# So many values are listed; of more numbers the range is given, of more names their number.
_MOST_LISTED = 3


def run_conditions(table: pd.DataFrame) -> str:
    """The runs that ``table`` is of, as one sentence; empty where no column of ``RUN_COLUMNS`` says anything.

    For instance: "WindowSSIM, threshold 0.9 to 0.99, window 8x8, stride 8, border full, luminance 0.001, at most 20
    steps, by projected_gradient, on efficientnet-lite0."

    Args:
        table: a per-image table, or a table of :func:`ssimpert.analysis.summarize` or
            :func:`ssimpert.analysis.paired_differences`.
    """
    import pandas as pd

    present = run_columns_of(table)
    has_threshold = "threshold" in present and bool(_values(table["threshold"]))
    parts = []
    for name, (before, after) in _WORDS.items():
        values = _values(table[name]) if name in present else []
        if not values or (name == "level" and has_threshold):
            continue
        if len(values) <= _MOST_LISTED:
            words = " or ".join(_text(value) for value in values)
        elif pd.api.types.is_numeric_dtype(table[name]):
            words = f"{_text(values[0])} to {_text(values[-1])}"
        else:
            words = f"{len(values)} of them"
        parts.append(f"{before}{words}{after}")
    return f"{', '.join(parts)}." if parts else ""


def _values(column: pd.Series) -> list[float | str]:
    """The values that say something, each once, numbers in order."""
    values: list[float | str] = [value for value in column.dropna().unique().tolist() if value != ""]
    return values if any(isinstance(value, str) for value in values) else sorted(values)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
