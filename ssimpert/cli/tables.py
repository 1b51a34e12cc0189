"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

import solvers
from ssimpert.analysis import Comparison
from ssimpert.perturbation import MinimalBudgetResult, PerturbResult
from ssimpert.report.names import CAM_NAMES

LabelName = Callable[[int], str]
_OUTSIDE = (
    "SSIM: mean; least: of all windows at stride 1, so for tiles also of those across their borders, of which they "
    "promise nothing. outside: excess over the set itself; empty where it moved along."
)


def perturbation_table(names: list[str], results: list[PerturbResult], label_name: LabelName) -> Table:
    """Label and margin before and after, the distances, and by how much the perturbation is outside of its own set, one
    row per image and perturbation."""
    table = Table(title="Perturbation", title_justify="left", caption=_OUTSIDE, caption_justify="left")
    for heading in ("image", "perturbation", "label: before → after"):
        table.add_column(heading)
    # The distance of global SSIM balls, for them alone: a terminal is narrow.
    globally = any(isinstance(result.constraint, solvers.GlobalSSIM) for result in results)
    for heading in ("margin", "SSIM", "least", *(["d2"] if globally else []), "outside"):
        table.add_column(heading, justify="right")
    for k, name in enumerate(names):
        for result in results:
            row = result.rows()[k]
            before, after = label_name(row["label_before"]), label_name(row["label_after"])
            table.add_row(
                Path(name).name,
                row["perturbation"],
                outcome(before, after, row["success"], _remark(row)),
                f"{row['margin_before']:+.2f} → {row['margin_after']:+.2f}",
                f"{row['ssim']:.4f}",
                f"{row['min_window_ssim']:.3f}",
                *([f"{row['contrast_distance']:.5f}"] if globally else []),
                f"{row['violation']:.0e}" if row["violation"] > 0 else "" if math.isnan(row["violation"]) else "0",
            )
    return table


def _remark(row: dict[str, Any]) -> str:
    """Why the image stopped early, and what quantisation could not keep."""
    return "; ".join(word for word in (row["message"], row.get("note", "")) if word)


def outcome(before: str, after: str, success: bool, message: str) -> str:
    """The label before and after, in markup, and why it is so."""
    arrow = f"{before} → [bold]{after}[/bold]" if success else f"{after}: goal not reached"
    return f"{arrow} ({message})" if message else arrow


def minimal_table(names: list[str], result: MinimalBudgetResult, label_name: LabelName) -> Table:
    """The least level that changes the label, and what that costs, one row per image."""
    table = Table(title=f"Least level ({result.settings['level']})", title_justify="left")
    for heading in ("image", "label: before → after"):
        table.add_column(heading)
    for heading in ("level", "l2 norm", "SSIM", "least window", "rounds"):
        table.add_column(heading, justify="right")
    for name, row in zip(names, result.rows(), strict=True):
        before, after = label_name(row["label_before"]), label_name(row["label_after"])
        table.add_row(
            Path(name).name,
            outcome(before, after, row["success"], row["message"]),
            "none" if math.isnan(row["level"]) else f"{row['level']:.4g}",
            f"{row['l2_norm']:.4g}",
            f"{row['ssim']:.6f}",
            f"{row['min_window_ssim']:.6f}",
            str(row["rounds"]),
        )
    return table


def agreement_table(names: list[str], comparison: Comparison) -> Table:
    """Agreement of every map with the class activation map, the controls beside the perturbation."""
    cam = CAM_NAMES[comparison.cam_name]
    shifts = comparison.settings["shifts"]
    note = f"p: of Pearson, by {shifts} circular shifts. All metrics: agreement.parquet." if shifts else None
    table = Table(
        title=f"Agreement with {cam} ({comparison.cam_layer})",
        title_justify="left",
        caption=note,
        caption_justify="left",
    )
    table.add_column("image")
    table.add_column("map of")
    table.add_column("map", no_wrap=True)
    for heading in ("Pearson", "p", "Spearman", "IoU 20%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in comparison.records:
        method = row["perturbation"]
        kind = "" if method.replace(" ", "_").lower() == row["map"] else row["map"]
        table.add_row(
            Path(names[row["image"]]).name,
            method,
            kind,
            _signed(row["pearson"]),
            _p_value(row["p_values"].get("pearson")),
            _signed(row["spearman"]),
            _signed(row["top20_iou"]),
        )
    return table


def _signed(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.3f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def methods_table() -> Table:
    """The solver methods and what each can take."""
    table = Table(title="Solver methods", title_justify="left", show_lines=True)
    for heading in ("method", "kind", "constraint sets", "what it is"):
        table.add_column(heading)
    for info in solvers.methods():
        sets = " or ".join(sorted(info.required or info.any_of))
        optional = f" (with {', '.join(sorted(info.optional))})" if info.optional else ""
        missing = info.unavailable()
        table.add_row(
            info.name,
            "exact" if info.exact else "iterative",
            sets + optional,
            info.description + (f" [bold]Not here: {missing}.[/bold]" if missing else ""),
        )
    return table
