"""Tables of several runs, joined by pandas: taken apart by a column, or refused with the name of the column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pandas.testing
import pytest

from ssimpert.analysis import check_table, holm, paired_differences, summarize
from ssimpert.errors import InputError
from ssimpert.report import agreement_against_level_figure

QUICK: dict[str, Any] = {"resamples": 50}
RUN = {
    "model": "one",
    "constraint": "l2",
    "level": 0.5,
    "level_unit": "radius",
    "threshold": np.nan,
    "window": "",
    "border": "",
    "luminance": "",
    "layers": "",
    "engine": "projected_gradient",
    "seed": 0,
}
WINDOWS = {
    "constraint": "WindowSSIM",
    "level_unit": "1 - SSIM of the least window",
    "threshold": 0.5,
    "window": "8x8, stride 8",
    "border": "full",
    "luminance": "0.001",
}


def run(draw: int = 0, images: tuple[str, ...] = ("a", "b", "c"), **columns: Any) -> pd.DataFrame:
    generator = np.random.default_rng(draw)
    rows = [
        {"image": image, "method": method, "map": kind, "metric": "pearson", "value": generator.normal(), "reason": ""}
        for image in images
        for method, kind in (("ours", "rms"), ("l2 control", "rms"), ("local std", "local_std"))
    ]
    return pd.DataFrame(rows).assign(**RUN | columns)


def joined(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def test_a_joined_table_is_summarised_part_by_part() -> None:
    one, other = run(), run(1, model="two")
    both = summarize(joined(one, other), by="model", **QUICK)
    expected = joined(
        summarize(one, **QUICK).assign(model="one"),
        summarize(other, **QUICK).assign(model="two"),
    )
    assert both.columns[0] == "model"
    pd.testing.assert_frame_equal(both, expected[both.columns])


def test_several_columns_and_missing_numbers_split_a_table() -> None:
    tables = (run(), run(1, model="two"), run(2, **WINDOWS), run(3, model="two", **WINDOWS))
    found = summarize(joined(*tables), by=("model", "threshold"), **QUICK)
    assert len(found) == 4 * 3
    assert found["threshold"].isna().sum() == 6
    seeds = summarize(joined(run(), run(1, seed=5)), by="seed", seed=3, **QUICK)
    assert (set(seeds["seed"]), set(seeds["bootstrap_seed"])) == ({0, 5}, {3})


def test_differences_are_paired_within_a_part_and_corrected_over_all() -> None:
    one, other = run(), run(1, model="two")
    both = paired_differences(joined(one, other), ["l2 control"], by="model", **QUICK)
    alone = [paired_differences(table, ["l2 control"], **QUICK) for table in (one, other)]
    assert both["difference"].tolist() == [value for table in alone for value in table["difference"]]
    assert both["p_holm"].tolist() == holm(both["p_value"].to_numpy()).tolist()
    assert set(both["comparisons"]) == {4}
    assert set(alone[0]["comparisons"]) == {2}


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ({"model": "two"}, r"differ in column 'model' \(one, two\): split the table by 'model'"),
        ({"level": 1.0}, r"differ in column 'level' \(0.5, 1.0\): split the table by 'level'"),
        ({"engine": "frank_wolfe"}, "split the table by 'engine'"),
        ({"seed": 1}, "split the table by 'seed'"),
        (WINDOWS, "split the table by 'constraint'"),
    ],
)
def test_runs_that_share_images_are_refused_with_the_column_to_split_by(columns: dict[str, Any], hint: str) -> None:
    table = joined(run(), run(1, **columns))
    for function in (summarize, check_table, lambda table: paired_differences(table, ["l2 control"])):
        with pytest.raises(InputError, match="two rows for image 'a'.*" + hint):
            function(table)


def test_runs_of_other_images_are_not_averaged_either() -> None:
    table = joined(run(), run(1, images=("d", "e"), **WINDOWS))
    with pytest.raises(InputError, match=r"mixes several runs in method 'ours'.*split the table by 'constraint'"):
        summarize(table)
    # Levels may differ from image to image: least levels do.
    summarize(joined(run(), run(1, images=("d", "e"), level=0.7)), **QUICK)
    # Two sets that only the border tells apart, read from a file where empty text is missing.
    halves = [run(**WINDOWS), run(1, images=("d",), **WINDOWS | {"border": "valid"})]
    with pytest.raises(InputError, match=r"differ in column 'border' \(full, valid\)"):
        summarize(joined(*halves).replace("", np.nan).fillna({"reason": ""}))


def test_a_column_that_is_not_there_or_is_a_key_is_refused() -> None:
    for name in ("modle", "method"):
        with pytest.raises(InputError, match=f"unknown column to split the table by '{name}'"):
            summarize(run(), by=name)
    with pytest.raises(InputError, match="by must be the name of a column or a list"):
        summarize(run(), by=3)  # type: ignore[arg-type]


def test_levels_of_different_families_share_no_axis() -> None:
    radii = joined(run(), run(1, level=1.0))
    figure = agreement_against_level_figure(radii, metrics=["pearson"], **QUICK)
    assert figure.axes[0].get_xlabel() == "radius"
    for columns, hint in (
        (WINDOWS, r"'constraint' \(l2, WindowSSIM\)"),
        ({"constraint": "linf"}, r"'constraint' \(l2, linf\)"),
        ({"level_unit": "other"}, "'level_unit'"),
    ):
        with pytest.raises(InputError, match="levels of different families of sets have no axis in common.*" + hint):
            agreement_against_level_figure(joined(run(), run(1, level=0.7, **columns)), **QUICK)
    with pytest.raises(InputError, match="split the table by 'model'"):
        agreement_against_level_figure(joined(run(), run(1, model="two")), metrics=["pearson"], **QUICK)
    # A bound on the luminance that grows with the level keeps the family.
    sweep = joined(run(**WINDOWS), run(1, **WINDOWS | {"level": 0.25, "threshold": 0.75, "luminance": "0.0005"}))
    agreement_against_level_figure(sweep, metrics=["pearson"], **QUICK)


def test_a_common_measure_of_ones_own_is_an_axis_for_all() -> None:
    one, other = run(), run(1, **WINDOWS)
    ours = [table[table["method"] == "ours"].assign(method=name) for table, name in ((one, "l2"), (other, "windows"))]
    table = joined(ours[0].assign(mean_ssim=0.99), ours[1].assign(mean_ssim=0.98))
    figure = agreement_against_level_figure(table, level="mean_ssim", metrics=["pearson"], **QUICK)
    assert figure.axes[0].get_xlabel() == "mean_ssim"
