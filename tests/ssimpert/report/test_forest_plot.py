"""The forest plot draws the rows of the table of paired differences: points, intervals, p-values, effect sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from ssimpert.analysis import paired_differences
from ssimpert.errors import InputError
from ssimpert.report import forest_plot
from tests.ssimpert.report.shown import check_texts, texts

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def differences() -> pd.DataFrame:
    """Two maps against two controls in two metrics; the first map differs clearly, one control is never defined."""
    generator = np.random.default_rng(0)
    shift = {"rms": 1.0, "ssim": 0.02}
    rows = []
    for image in range(20):
        for method, kind in (("ours", "rms"), ("ours", "ssim"), ("l2 control", "rms"), ("local std", "local_std")):
            for metric in ("pearson", "kl_divergence"):
                value = 0.1 * generator.normal() + (shift[kind] if method == "ours" else 0)
                nothing = method == "local std" and metric == "kl_divergence"
                rows.append((image, method, kind, metric, np.nan if nothing else value, "map is constant" * nothing))
    table = pd.DataFrame(rows, columns=["image", "method", "map", "metric", "value", "reason"])
    return paired_differences(table, ["l2 control", "local std"], permutations=2000, resamples=500)


def points(figure: Figure, panel: int) -> dict[float, tuple[float, bool]]:
    """Line -> (difference, filled)."""
    return {
        float(line.get_ydata()[0]): (float(line.get_xdata()[0]), line.get_markerfacecolor() != "white")
        for line in figure.axes[panel].lines
        if line.get_marker() == "o"
    }


def bars(figure: Figure, panel: int) -> dict[float, list[float]]:
    return {
        float(line.get_ydata()[0]): [float(x) for x in line.get_xdata()]
        for line in figure.axes[panel].lines
        if line.get_linestyle() == "-" and line.get_marker() in ("None", "", None) and line.get_color() != "black"
    }


def test_points_bars_and_marks_are_the_rows(differences: pd.DataFrame) -> None:
    figure = forest_plot(differences)
    assert len(figure.axes) == 2
    for panel, metric in enumerate(("pearson", "kl_divergence")):
        rows = differences[differences["metric"] == metric]
        drawn, intervals, line = points(figure, panel), bars(figure, panel), 0
        for _, group in rows.groupby(["method", "map"], sort=False):
            for row in group.itertuples(index=False):
                line += 1
                if row.n == 0:
                    assert line not in drawn
                    continue
                assert drawn[line] == (pytest.approx(row.difference), bool(row.p_holm < 0.05))
                assert intervals[line] == pytest.approx([row.low, row.high])
            line += 1
        assert len(drawn) == len(intervals) == int((rows["n"] > 0).sum())
    assert {filled for _, filled in points(figure, 0).values()} == {True, False}


def test_numbers_stand_beside_the_points(differences: pd.DataFrame) -> None:
    said = texts(forest_plot(differences, metrics=["pearson"]))
    assert "Pearson correlation (higher is closer)" in said
    for label in ("ours, rms of d", f"{MINUS} l2 control", f"{MINUS} local std of the photo", "p (Holm)", "$d_z$", "n"):
        assert label in said
    row = differences[(differences["metric"] == "pearson") & (differences["map"] == "rms")].iloc[0]
    assert f"{row['difference']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in said
    assert f"{row['cohens_dz']:.2f}" in said
    assert (f"{row['p_holm']:.3f}" if row["p_holm"] >= 0.001 else "< 0.001") in said
    assert said.count("20") == 4


def test_undefined_differences_are_said_so(differences: pd.DataFrame) -> None:
    said = texts(forest_plot(differences, metrics=["kl_divergence"]))
    assert said.count("n/a") == 2 * 3  # difference, p-value and effect size, for both maps
    assert said.count("0") >= 2
    assert "KL divergence (lower is closer)" in said


def test_the_level_decides_what_is_filled(differences: pd.DataFrame) -> None:
    none = forest_plot(differences, level=1e-9)
    assert not any(filled for _, filled in points(none, 0).values())


def test_no_text_lies_over_another(differences: pd.DataFrame) -> None:
    named = differences.assign(method="GlobalSSIM e = 0.005, re-centred")
    check_texts(forest_plot(named))


def test_errors_name_the_value(differences: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="the table lacks p_holm; forest_plot takes what paired_differences returns"):
        forest_plot(differences.drop(columns="p_holm"))
    with pytest.raises(InputError, match="unknown metric 'spearman'"):
        forest_plot(differences, metrics=["spearman"])
    with pytest.raises(InputError, match="no differences to draw"):
        forest_plot(differences.iloc[:0])
    with pytest.raises(InputError, match="level must lie strictly between 0 and 1, got 5"):
        forest_plot(differences, level=5)
