"""Agreement against the level: means and intervals of the rows given, a line for each map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssimpert.analysis import bootstrap_interval
from ssimpert.errors import InputError
from ssimpert.report import agreement_against_level_figure
from tests.ssimpert.report.shown import check_texts, texts

LEVELS = [0.9, 0.95, 0.99]


def example() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    keys = [
        ("ours", "rms"),
        ("ours", "ssim"),
        ("l2 control", "rms"),
        ("l2 control", "ssim"),
        ("local std", "local_std"),
    ]
    rows = [
        {
            "level": level,
            "image": image,
            "method": method,
            "map": kind,
            "metric": metric,
            "value": generator.normal(),
            "reason": "",
        }
        for level in LEVELS
        for image in range(5)
        for method, kind in keys
        for metric in ("pearson", "kl_divergence")
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=1, ignore_index=True)


def values(table: pd.DataFrame, level: float, method: str, kind: str, metric: str) -> np.ndarray:
    rows = table[(table[["level", "method", "map", "metric"]] == [level, method, kind, metric]).all(axis=1)]
    return rows.sort_values("image")["value"].dropna().to_numpy()


def test_lines_are_means_with_their_intervals_at_each_level() -> None:
    table = example()
    figure = agreement_against_level_figure(table, metrics=["pearson", "kl_divergence"], maps=["rms"], resamples=400)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    keys = {"ours, rms of d": ("ours", "rms"), "l2 control, rms of d": ("l2 control", "rms")}
    keys["local std of the photo"] = ("local std", "local_std")
    assert set(names) == set(keys)
    for axes, metric in zip(figure.axes, ("pearson", "kl_divergence"), strict=True):
        assert len(axes.lines) == len(axes.collections) == 3
        for name, line, bars in zip(names, axes.lines, axes.collections, strict=True):
            for place, level in enumerate(LEVELS):
                sample = values(table, level, *keys[name], metric)
                assert line.get_ydata()[place] == pytest.approx(sample.mean())
                assert abs(line.get_xdata()[place] - level) < 0.005
                interval = bootstrap_interval(sample, resamples=400)
                (x, low), (_, high) = bars.get_segments()[place]
                assert x == line.get_xdata()[place]
                assert (low, high) == pytest.approx((interval.low, interval.high))
    assert figure.axes[0].get_ylabel() == "mean (higher is closer)"
    assert figure.axes[1].get_ylabel() == "mean (lower is closer)"


def test_controls_are_dashed_and_points_of_a_level_stand_apart() -> None:
    figure = agreement_against_level_figure(example(), metrics=["pearson"], controls=["l2 control", "local std"])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    lines = dict(zip(names, figure.axes[0].lines, strict=True))
    assert len(lines) == 5
    assert {line.get_linestyle() == "-" for name, line in lines.items() if name.startswith("ours")} == {True}
    assert {line.get_linestyle() == "-" for name, line in lines.items() if not name.startswith("ours")} == {False}
    for place in range(3):
        assert len({line.get_xdata()[place] for line in lines.values()}) == 5


def test_undefined_images_are_left_out_and_an_empty_mean_is_a_gap() -> None:
    table = example()
    lost = (table["method"] == "ours") & (table["map"] == "rms") & (table["metric"] == "pearson")
    lost &= (table["level"] == 0.95) | ((table["level"] == 0.9) & (table["image"] > 1))
    table.loc[lost, ["value", "reason"]] = [float("nan"), "map is constant"]
    figure = agreement_against_level_figure(table, metrics=["pearson"])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    drawn = figure.axes[0].lines[names.index("ours, rms of d")].get_ydata()
    assert np.isnan(drawn[1])
    assert drawn[0] == pytest.approx(values(table, 0.9, "ours", "rms", "pearson").mean())


@pytest.mark.parametrize("metrics", [["pearson"], ["pearson", "kl_divergence"]])
def test_no_text_lies_over_another(metrics: list[str]) -> None:
    table = example()
    more = table[table["method"] == "ours"].assign(method="MeanSSIM t = 0.99, held, by the dual method")
    figure = agreement_against_level_figure(
        pd.concat([table, more], ignore_index=True), metrics=metrics, controls=["l2 control"], level_name="mean SSIM"
    )
    check_texts(figure)
    said = texts(figure)
    assert "mean SSIM" in said
    assert any(text.startswith("Means over 5 images with 95% bootstrap intervals") for text in said)


def test_errors_name_the_value() -> None:
    table = example()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"level": "lvl"}, "unknown level column 'lvl'; did you mean level"),
        ({"level": "method"}, "column 'method' must hold finite numbers, got "),
        ({"metrics": ["spearman"]}, "unknown metric 'spearman'"),
        ({"metrics": []}, "metrics must be a list of names, at least one, got"),
        ({"maps": ["mrs"]}, "unknown map 'mrs'; did you mean rms"),
        ({"controls": ["l2 contrl"]}, "unknown control 'l2 contrl'"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            agreement_against_level_figure(table, **({"metrics": ["pearson"], "resamples": 10} | options))
    with pytest.raises(InputError, match="got no rows"):
        agreement_against_level_figure(table.iloc[:0])
