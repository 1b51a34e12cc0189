"""Statistics over images against loops over the rows, and what a reader of the tables relies on."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pandas.testing
import pytest

from ssimpert.analysis.statistics.bootstrap import bootstrap_interval
from ssimpert.analysis.statistics.paired_tests import cohens_dz, holm, rank_biserial, sign_flip_test
from ssimpert.analysis.statistics.summaries import paired_differences, summarize
from ssimpert.errors import InputError

SERIES = [("ours", "rms"), ("ours", "ssim"), ("l2", "rms"), ("l2", "ssim"), ("photo", "local_std")]


def example(images: int = 12, metrics: tuple[str, ...] = ("pearson", "kl_divergence")) -> pd.DataFrame:
    """Two images of each object; the methods differ a little; image 3 of ours/rms/pearson is undefined."""
    generator = np.random.default_rng(0)
    base = generator.normal(size=images)
    rows = [
        {
            "image": f"i{image}",
            "method": method,
            "map": kind,
            "metric": metric,
            "value": base[image] + 0.2 * (method == "ours") + 0.3 * generator.normal(),
            "reason": "",
            "object": f"o{image // 2}",
        }
        for image in range(images)
        for method, kind in SERIES
        for metric in metrics
    ]
    table = pd.DataFrame(rows)
    return undefine(table, "i3", "ours", "rms", "pearson", "map is constant")


def undefine(table: pd.DataFrame, image: str, method: str, kind: str, metric: str, reason: str) -> pd.DataFrame:
    table = table.copy()
    row = (table["image"] == image) & (table["method"] == method) & (table["map"] == kind) & (table["metric"] == metric)
    table.loc[row, "value"] = math.nan
    table.loc[row, "reason"] = reason
    return table


def values(table: pd.DataFrame, method: str, kind: str, metric: str) -> dict[str, float]:
    return {
        row["image"]: row["value"]
        for row in table.to_dict("records")
        if (row["method"], row["map"], row["metric"]) == (method, kind, metric) and not math.isnan(row["value"])
    }


def test_a_summary_has_mean_median_interval_and_reasons_of_each_group() -> None:
    table = example()
    table = undefine(table, "i5", "ours", "rms", "pearson", "map is constant")
    table = undefine(table, "i6", "ours", "rms", "pearson", "CAM is constant")
    summary = summarize(table, resamples=500, seed=4)
    assert len(summary) == 10
    for row in summary.to_dict("records"):
        here = list(values(table, row["method"], row["map"], row["metric"]).values())
        bounds = bootstrap_interval(here, resamples=500, seed=4)
        assert row["n"] == len(here)
        assert row["mean"] == pytest.approx(statistics.mean(here))
        assert row["median"] == pytest.approx(statistics.median(here))
        # the order of images decides which of them a draw takes, so a list in another order comes only near
        assert (row["low"], row["high"]) == pytest.approx((bounds.low, bounds.high), abs=0.15)
        assert (row["seed"], row["resamples"], row["confidence"], row["interval"]) == (4, 500, 0.95, "percentile")
    first = summary.iloc[0]
    assert (first["n"], first["undefined"], first["units"]) == (9, 3, 9)
    assert first["reasons"] == "map is constant (2); CAM is constant (1)"
    assert summary.iloc[1]["reasons"] == ""


def test_the_order_of_rows_and_other_groups_change_nothing() -> None:
    table = example()
    shuffled = table.sample(frac=1, random_state=1)
    keys = ["method", "map", "metric"]
    expected = summarize(table, resamples=200).sort_values(keys, ignore_index=True)
    again = summarize(shuffled, resamples=200).sort_values(keys, ignore_index=True)
    pandas.testing.assert_frame_equal(again, expected, check_exact=True)
    alone = summarize(table[table["method"] == "l2"], resamples=200).sort_values(keys, ignore_index=True)
    pandas.testing.assert_frame_equal(
        alone, expected[expected["method"] == "l2"].reset_index(drop=True), check_exact=True
    )
    keys = ["map", "control", "control_map", "metric"]
    pairs = paired_differences(table, ["l2", "photo"], resamples=200).set_index(keys)
    moved = paired_differences(shuffled, ["l2", "photo"], resamples=200).set_index(keys)
    pandas.testing.assert_frame_equal(moved.loc[pairs.index], pairs, check_exact=True)


def test_a_group_without_a_defined_value_has_no_numbers() -> None:
    table = example(2, ("pearson",))
    for image in ("i0", "i1"):
        table = undefine(table, image, "l2", "rms", "pearson", "map is constant")
    row = summarize(table, resamples=50).set_index(["method", "map"]).loc[("l2", "rms")]
    assert (row["n"], row["undefined"], row["reasons"]) == (0, 2, "map is constant (2)")
    assert row[["mean", "median", "low", "high"]].isna().all()
    paired = paired_differences(table, ["l2"], methods=["ours"], resamples=50).set_index("map").loc["rms"]
    assert (paired["n"], paired["undefined"], paired["comparisons"]) == (0, 2, 1)
    assert paired[["difference", "median", "low", "high", "p_value", "p_holm"]].isna().all()


def test_pairs_are_taken_on_images_where_both_are_defined() -> None:
    table = example()
    table = undefine(table, "i7", "l2", "rms", "pearson", "CAM is constant")
    gone = (table["image"] == "i9") & (table["method"] == "l2")
    table = table[~gone]
    found = paired_differences(table, ["l2", "photo"], resamples=300, seed=2)
    assert len(found) == 8
    for row in found.to_dict("records"):
        ours = values(table, row["method"], row["map"], row["metric"])
        control = values(table, row["control"], row["control_map"], row["metric"])
        differences = [ours[image] - control[image] for image in sorted(ours.keys() & control.keys())]
        test = sign_flip_test(differences)
        assert row["n"] == len(differences)
        assert row["difference"] == pytest.approx(statistics.mean(differences))
        assert row["median"] == pytest.approx(statistics.median(differences))
        assert row["p_value"] == test.p_value
        assert (row["test"], row["permutations"]) == ("exact", 2 ** len(differences))
        assert row["cohens_dz"] == pytest.approx(cohens_dz(differences))
        assert row["rank_biserial"] == pytest.approx(rank_biserial(differences))
        bounds = bootstrap_interval(differences, resamples=300, seed=2)
        assert (row["low"], row["high"]) == (bounds.low, bounds.high)
        assert row["better"] == ("lower" if row["metric"] == "kl_divergence" else "higher")
    first = found.iloc[0]
    assert tuple(first[["map", "control", "control_map", "metric"]]) == ("rms", "l2", "rms", "pearson")
    assert (first["n"], first["undefined"], first["unpaired"]) == (9, 2, 1)


def test_like_maps_are_compared_and_a_control_of_another_kind_with_all() -> None:
    found = paired_differences(example(4, ("pearson",)), ["l2", "photo"], resamples=50)
    pairs = set(found[["map", "control", "control_map"]].itertuples(index=False, name=None))
    assert pairs == {
        ("rms", "l2", "rms"),
        ("ssim", "l2", "ssim"),
        ("rms", "photo", "local_std"),
        ("ssim", "photo", "local_std"),
    }


def test_methods_are_all_that_are_no_controls_or_those_named() -> None:
    table = example(4, ("pearson",))
    assert set(paired_differences(table, ["l2"], resamples=50)["method"]) == {"ours", "photo"}
    assert set(paired_differences(table, ["l2"], methods=["photo"], resamples=50)["method"]) == {"photo"}


def test_the_family_of_holms_correction_is_the_whole_table() -> None:
    table = example()
    found = paired_differences(table, ["l2", "photo"], resamples=50)
    assert found["p_holm"].tolist() == holm(found["p_value"]).tolist()
    assert (found["comparisons"] == 8).all()
    assert (found["p_holm"] > found["p_value"]).any()
    one = paired_differences(table[table["metric"] == "pearson"], ["l2"], methods=["ours"], resamples=50)
    assert (one["comparisons"] == 2).all()


def test_clusters_are_resampled_and_flipped_whole() -> None:
    table = example()
    found = paired_differences(table, ["l2"], cluster="object", resamples=300)
    for row in found.to_dict("records"):
        ours = values(table, row["method"], row["map"], row["metric"])
        control = values(table, row["control"], row["control_map"], row["metric"])
        images = sorted(ours.keys() & control.keys())
        differences, objects = [ours[i] - control[i] for i in images], [f"o{int(i[1:]) // 2}" for i in images]
        assert row["units"] == 6
        assert row["p_value"] == sign_flip_test(differences, clusters=objects).p_value
        bounds = bootstrap_interval(differences, clusters=objects, resamples=300)
        assert (row["low"], row["high"]) == (bounds.low, bounds.high)
    summary = summarize(table, cluster="object", resamples=300)
    assert (summary["units"] == 6).all()
    plain = summarize(table, resamples=300)
    assert (plain["high"] != summary["high"]).all()


def test_metrics_of_ones_own_are_taken_and_have_no_side() -> None:
    found = paired_differences(example(4, ("p_value of shifts",)), ["l2"], resamples=50)
    assert set(found["better"]) == {""}


def test_errors_name_the_value() -> None:
    table = example(4)
    for controls, message in (
        ("l2", "controls must be a list of names in column 'method', at least one, got 'l2'"),
        ([], r"controls must be a list of names in column 'method', at least one, got \[\]"),
        (["l1"], "unknown control 'l1'; did you mean l2"),
        (["ours", "l2", "photo"], "every method is a control: ours, l2, photo"),
    ):
        with pytest.raises(InputError, match=message):
            paired_differences(table, controls)
    with pytest.raises(InputError, match="unknown method 'our'; did you mean ours"):
        paired_differences(table, ["l2"], methods=["our"])
    with pytest.raises(InputError, match="'l2' is given as a method and as a control"):
        paired_differences(table, ["l2"], methods=["l2"])
    with pytest.raises(InputError, match="unknown cluster column 'objct'; did you mean object"):
        summarize(table, cluster="objct")
    with pytest.raises(InputError, match="image 'i0' lies in more than one cluster of 'method'"):
        summarize(table, cluster="method")
    missing = table.assign(object=[None, *table["object"].tolist()[1:]])
    with pytest.raises(InputError, match="column 'object' has missing values"):
        summarize(missing, cluster="object")
    with pytest.raises(InputError, match="the table lacks reason"):
        summarize(table.drop(columns="reason"))
    apart = table[(table["method"] != "l2") | (table["metric"] == "pearson")]
    apart = apart[(apart["method"] == "l2") | (apart["metric"] != "pearson")]
    with pytest.raises(InputError, match="no method shares a metric with a control"):
        paired_differences(apart, ["l2"])
