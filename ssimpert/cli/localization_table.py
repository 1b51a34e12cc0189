"""The table of ``compare --boxes`` and ``--masks``: does a map find the object?"""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table

from ssimpert.analysis import Comparison
from ssimpert.cli.terminal import cell, table

_CAPTION = (
    "energy: the share of the map's sum on the object, over the object's share of the area; 1 is what a map reaches "
    "that has nothing to do with the object. hit: the map's highest pixel lies within 15 pixels of the object. box: "
    "the best overlap (IoU) of a box around the map, cut at any level, with a box of the object."
)


def localization_table(names: list[str], comparison: Comparison) -> Table:
    """A row for each image and map: energy over area, pointing hit, and best box, of the objects that were given."""
    shown = table("The object", _CAPTION)
    for heading in ("image", "map of", "map"):
        shown.add_column(heading)
    for heading in ("energy", "hit", "box"):
        shown.add_column(heading, justify="right")
    for row in comparison.records:
        method = row["perturbation"]
        kind = "" if method.replace(" ", "_").lower() == row["map"] else row["map"]
        hit = row["pointing_hit"]
        shown.add_row(
            cell(Path(names[row["image"]]).name),
            cell(method),
            cell(kind),
            _number(row["energy_over_area"]),
            "n/a" if math.isnan(hit) else "yes" if hit else "no",
            _number(row["best_box_iou"]),
        )
    return shown


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}"
