"""The plot of the margins that levels buy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.lines import Line2D
from PIL import Image

from ssimpert.errors import InputError
from ssimpert.report import margin_figure, save_figure

LEVELS, MARGINS = [0.1, 0.2, 0.4], [-1.0, 0.5, 2.0]


def lines(least: float | None) -> list[Line2D]:
    (axes,) = margin_figure(LEVELS, MARGINS, unit="radius", least=least).axes
    return list(axes.lines)


def test_points_are_where_the_numbers_are_and_levels_are_logarithmic() -> None:
    figure = margin_figure(LEVELS, MARGINS, unit="radius", least=0.15)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "radius"
    assert axes.get_ylabel() == "margin (logits)"
    curve, zero, dashed = axes.lines
    assert np.array_equal(curve.get_xydata(), np.stack([LEVELS, MARGINS], axis=1))
    assert list(zero.get_ydata()) == [0, 0]
    assert list(dashed.get_xdata()) == [0.15, 0.15]
    (entry,) = axes.get_legend().get_texts()
    assert entry.get_text() == "least level found: 0.15"


@pytest.mark.parametrize("least", [None, math.nan, 0.0])
def test_without_a_least_level_no_line_is_drawn(least: float | None) -> None:
    assert len(lines(least)) == 2
    assert len(lines(0.3)) == 3


@pytest.mark.parametrize("levels", [[], [0.0, 0.1], [0.2, 0.1], [0.1, 0.1], [0.1, math.inf], [0.1, math.nan]])
def test_levels_that_can_not_be_drawn_are_refused(levels: list[float]) -> None:
    with pytest.raises(InputError, match="levels must be positive, finite and rise"):
        margin_figure(levels, [0.0] * len(levels))


def test_margins_go_with_levels() -> None:
    with pytest.raises(InputError, match="3 levels need as many margins, got 2"):
        margin_figure(LEVELS, MARGINS[:2])


def test_a_margin_that_is_nan_leaves_a_gap(tmp_path: Path) -> None:
    save_figure(margin_figure(LEVELS, [-1.0, math.nan, 2.0]), tmp_path / "gap.png")
    with Image.open(tmp_path / "gap.png") as picture:
        assert picture.size == (800, 480)
