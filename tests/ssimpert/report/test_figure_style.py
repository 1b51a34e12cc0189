"""Every figure can be as wide as a column or a page of a paper: nothing is cut off, and no letter is too small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import solvers
from ssimpert import report
from ssimpert.analysis import paired_differences
from ssimpert.errors import InputError
from ssimpert.report.drawing import LINE_COLOURS, MARKERS, line_style
from ssimpert.report.figure_style import figure_style
from tests.ssimpert.report import test_agreement_against_level, test_figure, test_insertion_deletion_figure
from tests.ssimpert.report.shown import check_texts

SMALLEST = 7.0
Draw = Callable[[Any], Figure]


def differences() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [
        (image, method, kind, "pearson", generator.normal(), "")
        for image in range(8)
        for method, kind in (("GlobalSSIM re-centred", "rms"), ("l2 control", "rms"), ("local std", "local_std"))
    ]
    table = pd.DataFrame(rows, columns=["image", "method", "map", "metric", "value", "reason"])
    return paired_differences(table, ["l2 control", "local std"], permutations=50, resamples=50)


def histories() -> dict[str, solvers.History]:
    def history(pace: float) -> solvers.History:
        gaps = [pace**k for k in range(1, 6)]
        return solvers.History(
            solvers.HistoryRow(10 * k, 0.1 * 2**k, (1 - gap,), (1 + gap,), (gap,)) for k, gap in enumerate(gaps)
        )

    return {"dual": history(0.1), "admm": history(0.5)}


def curves(width: Any) -> Figure:
    found = test_insertion_deletion_figure.example()
    return report.insertion_deletion_figure(found, controls=["centred Gaussian"], resamples=20, width=width)


def levels(width: Any) -> Figure:
    table = test_agreement_against_level.example()
    return report.agreement_against_level_figure(table, resamples=20, metrics=["pearson", "kl_divergence"], width=width)


def margins(width: Any) -> Figure:
    return report.margin_figure([0.1, 0.2, 0.4], [-1, 0.5, 2], unit="l2 norm", note="l2 norm, 20 steps.", width=width)


@pytest.fixture(scope="module")
def case() -> Any:
    return test_figure.make_case()


FIGURES: dict[str, Draw] = {
    "agreement against level": levels,
    "convergence": lambda width: report.convergence_figure(histories(), note="A problem.", width=width),
    "forest plot": lambda width: report.forest_plot(differences(), width=width),
    "insertion and deletion": curves,
    "margins": margins,
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(("width", "inches"), [("column", 3.5), ("page", 7.16)])
def test_a_figure_fits_a_paper(name: str, width: str, inches: float) -> None:
    figure = FIGURES[name](width)
    assert figure.get_figwidth() == inches
    assert figure.get_figheight() < 9  # a page
    check_texts(figure, SMALLEST)


@pytest.mark.parametrize(("width", "inches"), [("column", 3.5), ("page", 7.16)])
def test_pictures_fit_a_paper(width: Any, inches: float, case: Any) -> None:
    image, result, comparison = case
    maps = [("l2 control", "ssim"), ("local std", "local_std"), ("gradient magnitude", "gradient_magnitude")]
    for figure in (
        report.comparison_figure(image, result, comparison, width=width),
        report.map_grid(image, comparison, maps=maps, width=width),
    ):
        assert figure.get_figwidth() == inches
        check_texts(figure, SMALLEST)


def test_a_width_may_be_in_inches_of_any_kind_and_is_named_otherwise() -> None:
    assert figure_style(np.float32(5.0), 12.0).width == 5.0
    assert figure_style(None, 12.0).small == 9.5
    for width in ("wide", 2.9, float("nan"), float("inf"), [3.5], True):
        with pytest.raises(InputError, match=r"width must be 'column', 'page', or inches from 3 on, got"):
            figure_style(width, 12.0)  # type: ignore[arg-type]


def test_twenty_one_lines_differ_without_colour() -> None:
    """In grey the markers and dashes are left."""
    count = len(LINE_COLOURS) * 3
    plain = [line_style(index, control=False) for index in range(count)]
    assert len({(style["marker"], str(style["linestyle"])) for style in plain}) == count
    assert len(MARKERS) == len(LINE_COLOURS)
    controls = [line_style(index, control=True) for index in range(count)]
    assert not {str(style["linestyle"]) for style in plain} & {str(style["linestyle"]) for style in controls}


def test_correlations_share_their_axis() -> None:
    table = test_agreement_against_level.example()
    spearman = table[table["metric"] == "pearson"].assign(metric="spearman", value=lambda rows: 3 * rows["value"])
    figure = report.agreement_against_level_figure(pd.concat([table, spearman]), resamples=20)
    pearson_axes, spearman_axes = figure.axes
    assert pearson_axes.get_ylim() == spearman_axes.get_ylim()


def test_convergence_draws_objective_bound_and_gap_of_every_check() -> None:
    found = histories()
    values, gaps = report.convergence_figure(found).axes
    assert [line.get_label() for line in gaps.lines] == ["dual", "admm"]
    for number, history in enumerate(found.values()):
        time = [row.time for row in history]
        objective, bound = values.lines[2 * number : 2 * number + 2]
        assert np.array_equal(objective.get_xydata(), np.stack([time, [row.objective[0] for row in history]], axis=1))
        assert np.array_equal(bound.get_xydata(), np.stack([time, [row.bound[0] for row in history]], axis=1))
        assert bound.get_linestyle() != objective.get_linestyle()
        assert np.array_equal(gaps.lines[number].get_ydata(), [row.rel_gap[0] for row in history])
    assert values.get_shared_x_axes().joined(values, gaps)
    assert gaps.get_xlabel() == "time (s)"


def test_convergence_that_can_not_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="histories must be a dictionary of at least one history"):
        report.convergence_figure({})
    with pytest.raises(InputError, match="'closed form' has no check to draw"):
        report.convergence_figure({"closed form": solvers.History()})
    with pytest.raises(InputError, match="image 1 is not in 'dual', which has images 0 to 0"):
        report.convergence_figure(histories(), image=1)


def test_a_gap_of_zero_is_drawn() -> None:
    rows = [solvers.HistoryRow(0, 0.1, (1.0,), (2.0,), (0.5,)), solvers.HistoryRow(1, 0.2, (2.0,), (2.0,), (0.0,))]
    figure = report.convergence_figure({"tiles": solvers.History(rows)})
    figure.canvas.draw()
    assert figure.axes[1].get_yscale() == "symlog"
