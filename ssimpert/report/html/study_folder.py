"""The report of a study's folder: means with intervals, and every unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ssimpert.report.html.report_of_study import UnitCounts, study_report
from ssimpert.report.html.view import ReportView
from ssimpert.study.declared import CELLS
from ssimpert.study.joining import STUDY_FILE
from ssimpert.study.outputs.results import load_results, unit_frame
from ssimpert.study.outputs.table import pivot
from ssimpert.study.outputs.values import NUMBERS
from ssimpert.study.study_file import read_study

if TYPE_CHECKING:
    import pandas as pd

MEANS = ("success", "margin_gain", "l2_norm", "one_minus_ssim")
UNIT_COLUMNS = (
    "item", "model", "formulation", "attack", "level", "level_unit", "passes", "repeat", "success", "label_before",
    "label_after", "margin_before", "margin_after", "l2_norm", "linf_norm", "ssim", "min_window_ssim", "steps",
    "message",
)  # fmt: skip
UNITS = {"margin_before": "logits", "margin_after": "logits", "margin_gain": "logits"}


def is_study_folder(folder: Path) -> bool:
    """Whether ``folder`` is one that ``ssimpert study run`` wrote."""
    return (folder / CELLS).is_file() and (folder / STUDY_FILE).is_file()


def study_folder_report(folder: Path) -> ReportView:
    """What the study in ``folder`` shows: the means of its columns, and all its units.

    Raises:
        InputError: the folder has no study that was run, or its study has no record yet.
    """
    results = load_results(folder)
    frame = unit_frame(results.records)
    means = {f"{NUMBERS[name]}: means with 95% intervals": _means(pivot(results, name)) for name in MEANS}
    counts = UnitCounts(results.counts.declared, results.counts.done, results.counts.failed)
    units = frame[[name for name in UNIT_COLUMNS if name in frame.columns]]
    conditions = "; ".join(_sets(folder))
    return study_report(results.name, {**means, "units": units}, counts, conditions=conditions, units=UNITS)


def _means(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["median"])


def _sets(folder: Path) -> list[str]:
    """Every formulation and attack of the study in words."""
    study = read_study(folder / STUDY_FILE)
    found = []
    for section in study.formulations:
        options = section.deciding_options(section.grid_levels[0])
        shown = ", ".join(
            f"{name} {_text(options[name])}" for name in ("window", "luminance", "engine", "steps") if options.get(name)
        )
        levels = ", ".join("found" if level is None else f"{level:g}" for level in section.grid_levels)
        found.append(f"{section.name}: {section.constraint}, {section.level_unit} {levels}, {shown}".rstrip(", "))
    found += [
        f"{attack.label}: {attack.name}, {', '.join(str(n) for n in attack.grid_passes)} passes"
        for attack in study.attacks
    ]
    return found


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_text(entry)}" for name, entry in value.items() if entry is not None)
    return f"{value:g}" if isinstance(value, float) else str(value)
