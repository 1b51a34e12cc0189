"""The terminal's table of ``ssimpert minimal``."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table

from ssimpert.cli.tables import LabelName, outcome
from ssimpert.perturbation import MinimalBudgetResult


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
