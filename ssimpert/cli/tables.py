"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

import solvers
from ssimpert.analysis import Comparison
from ssimpert.perturbation import PerturbResult

LabelName = Callable[[int], str]


def perturbation_table(names: list[str], results: list[PerturbResult], label_name: LabelName) -> Table:
    """Label and margin before and after, and the distances, one row per image and perturbation."""
    table = Table(title="Perturbation", title_justify="left")
    for heading in ("image", "perturbation", "label: before → after"):
        table.add_column(heading)
    for heading in ("margin", "SSIM", "d2"):
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
                f"{row['contrast_distance']:.5f}",
            )
    return table


def _remark(row: dict[str, Any]) -> str:
    """Why the image stopped early, and what quantisation could not keep."""
    return "; ".join(word for word in (row["message"], row.get("note", "")) if word)


def outcome(before: str, after: str, success: bool, message: str) -> str:
    """The label before and after, in markup, and why it is so."""
    arrow = f"{before} → [bold]{after}[/bold]" if success else f"{after}: goal not reached"
    return f"{arrow} ({message})" if message else arrow


def agreement_table(names: list[str], comparison: Comparison) -> Table:
    """Agreement with Grad-CAM of every map, the controls beside the perturbation."""
    table = Table(title=f"Agreement with Grad-CAM ({comparison.cam_layer})", title_justify="left")
    for heading in ("image", "map of", "map"):
        table.add_column(heading)
    for heading in ("Pearson", "Spearman", "IoU top 20%"):
        table.add_column(heading, justify="right")
    for row in comparison.records:
        kind = "" if row["map"] in ("gradient_magnitude", "local_std") else row["map"]
        values = (row["pearson"], row["spearman"], row["top20_iou"])
        cells = ["n/a" if math.isnan(value) else f"{value:+.3f}" for value in values]
        table.add_row(Path(names[row["image"]]).name, row["perturbation"], kind, *cells)
    return table


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
