"""A table's runs in words, and in the captions of the figures that are drawn of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from ssimpert.analysis import paired_differences, summarize
from ssimpert.report import agreement_against_level_figure, forest_plot
from ssimpert.report.run_conditions import run_conditions
from tests.ssimpert.report.shown import check_texts, texts

RUN: dict[str, Any] = {
    "model": "efficientnet-lite0",
    "constraint": "WindowSSIM",
    "level": 0.05,
    "level_unit": "1 - SSIM of the least window",
    "threshold": 0.95,
    "window": "8x8, stride 8",
    "border": "full",
    "luminance": "0.001",
    "layers": "",
    "engine": "projected_gradient",
    "steps": 20.0,
    "seed": 7,
}
WORDS = (
    "WindowSSIM, threshold 0.95, window 8x8, stride 8, border full, luminance 0.001, at most 20 steps, by "
    "projected_gradient, on efficientnet-lite0."
)


def table(**changes: Any) -> pd.DataFrame:
    """A method and a control on six images."""
    generator = np.random.default_rng(0)
    rows = [
        {"image": image, "method": method, "map": "rms", "metric": "pearson", "value": generator.normal(), "reason": ""}
        for image in range(6)
        for method in ("ours", "l2 control")
    ]
    return pd.DataFrame(rows).assign(**RUN | changes)


def joined() -> pd.DataFrame:
    """Four thresholds."""
    thresholds = (0.9, 0.95, 0.98, 0.99)
    return pd.concat([table(threshold=value, level=1 - value) for value in thresholds], ignore_index=True)


def caption(figure: Figure) -> str:
    return " ".join(" ".join(texts(figure)).split())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, WORDS),
        ({"steps": np.nan}, WORDS.replace("at most 20 steps, ", "")),
        (
            {"constraint": "l2", "level": 0.5, "threshold": np.nan, "window": "", "border": "", "luminance": ""},
            "l2, level 0.5, at most 20 steps, by projected_gradient, on efficientnet-lite0.",
        ),
        ({"window": ["8x8, stride 8", "7x7, stride 1"] * 6}, WORDS.replace("stride 8", "stride 8 or 7x7, stride 1", 1)),
        ({"model": [f"model {k}" for k in range(12)]}, WORDS.replace("efficientnet-lite0", "12 of them")),
    ],
)
def test_the_columns_in_words(changes: dict[str, Any], words: str) -> None:
    assert run_conditions(table(**changes)) == words


def test_a_range_of_numbers_and_a_table_without_runs() -> None:
    assert "threshold 0.9 to 0.99, window" in run_conditions(joined())
    assert run_conditions(table()[["image", "method", "map", "metric", "value", "reason"]]) == ""


def test_statistics_keep_the_columns_in_which_all_rows_agree() -> None:
    for found in (summarize(table()), paired_differences(table(), ["l2 control"], permutations=99)):
        assert run_conditions(found) == WORDS
        assert set(found["seed"]) == {0}  # of the bootstrap
    by_level = summarize(joined(), by="threshold")
    assert list(by_level.columns[:1]) == ["threshold"]
    assert by_level.columns.is_unique
    assert set(by_level["window"]) == {"8x8, stride 8"}
    assert sorted(by_level["level"].unique()) == pytest.approx([0.01, 0.02, 0.05, 0.1])


def test_the_figures_of_tables_name_threshold_window_border_and_steps() -> None:
    forest = forest_plot(paired_differences(table(), ["l2 control"], permutations=99, resamples=99))
    assert WORDS in caption(forest)
    check_texts(forest)
    levels = agreement_against_level_figure(joined(), metrics=["pearson"], resamples=99)
    assert WORDS.replace("threshold 0.95", "threshold 0.9 to 0.99") in caption(levels)
    check_texts(levels)
