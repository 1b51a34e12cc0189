"""Tables for the terminal: perturbations, least levels, agreement, and the solver methods."""

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
_PERTURBATION_CAPTION = (
    "SSIM: the mean. least: the least SSIM of all windows at stride 1. A set of tiles promises nothing for windows "
    "across the tiles' borders. outside: the excess over the set itself; empty where the set moved with the image."
)


def perturbation_table(names: list[str], results: list[PerturbResult], label_name: LabelName) -> Table:
    """A row for each image and perturbation: label and margin before and after, the distances, and the excess.

    The excess says by how much the perturbation lies outside of its own set.
    """
    caption = f"{_PERTURBATION_CAPTION} {_shrink_note(results[0])}".rstrip()
    table = Table(title="Perturbation", title_justify="left", caption=caption, caption_justify="left")
    for heading in ("image", "perturbation", "label: before → after"):
        table.add_column(heading)
    # The distance of global SSIM balls is shown for these sets only, since a terminal is narrow.
    with_distance = any(isinstance(result.constraint, solvers.GlobalSSIM) for result in results)
    for heading in ("margin", "SSIM", "least", *(["d2"] if with_distance else []), "outside"):
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
                *([f"{row['contrast_distance']:.5f}"] if with_distance else []),
                f"{row['violation']:.0e}" if row["violation"] > 0 else "" if math.isnan(row["violation"]) else "0",
            )
    return table


def _shrink_note(result: PerturbResult) -> str:
    """Whether successes were drawn back; nothing where all steps went into the margin."""
    if not result.settings.get("stop_at_success", False):
        return ""
    if result.settings.get("shrink", False):
        kept = "" if result.settings.get("quantized", False) else " The 8 bits of the PNG may undo them (--quantize)."
        return f"Successes are drawn back to the smallest share of the perturbation that reaches the goal.{kept}"
    return "Successes are shown as found, not drawn back to what the goal needs (--shrink)."


def _remark(row: dict[str, Any]) -> str:
    """Why the image stopped early, and what was lost in the quantisation."""
    return "; ".join(word for word in (row["message"], row.get("note", "")) if word)


def outcome(before: str, after: str, success: bool, message: str) -> str:
    """The label before and after, in rich's markup, with ``message`` as the reason."""
    arrow = f"{before} → [bold]{after}[/bold]" if success else f"{after}: goal not reached"
    return f"{arrow} ({message})" if message else arrow


def minimal_table(names: list[str], result: MinimalBudgetResult, label_name: LabelName) -> Table:
    """A row for each image: the least level that changes the label, and the distances at this level."""
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
    """A row for each image and map: its agreement with the class activation map. Controls are shown too."""
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
    """A row for each solver method: the constraint sets that it takes, and what it is."""
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
