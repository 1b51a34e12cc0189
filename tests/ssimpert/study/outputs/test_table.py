"""Tables of studies against pandas and scipy."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, permutation_test

from ssimpert.analysis import paired_differences, summarize
from ssimpert.errors import InputError
from ssimpert.study import paired_columns, pivot, score_frame, unit_frame
from ssimpert.study.outputs.values import unit_values, value_names
from tests.ssimpert.study.outputs.synthetic_results import attack, cell, results_of, score, unit

COLUMNS = (cell("windows", 0.95), cell("windows", 0.99), cell("ball", 0.5, "radius"), attack("ddn", 200))
IMAGES = 8
NUMBERS = np.random.default_rng(3).normal(size=(2, len(COLUMNS), IMAGES))


def records(*, undefined: int | None = None) -> list[dict[str, object]]:
    """Two models, four columns, eight images of four objects; ``undefined`` is the image without Pearson's r."""
    made = []
    for m, model in enumerate(("a", "b")):
        for c, names in enumerate(COLUMNS):
            for i in range(IMAGES):
                value = NUMBERS[m, c, i]
                pearson = math.nan if i == undefined else value / 2
                scores = [score("rms", "pearson", pearson, p_value=0.5), score("rms", "auc", value / 3),
                          score("local_std", "pearson", -value, method="local std")]  # fmt: skip
                made.append(unit(names, f"photo{i}", model=model, l2_norm=value, success=value > 0, scores=scores,
                                 seed=i, labels={"object": f"object{i // 2}"}))  # fmt: skip
    return made


def test_a_pivot_has_the_means_and_medians_of_a_groupby_by_hand() -> None:
    made = records()
    table = pivot(results_of(made), "l2_norm", rows=("formulation", "level"), columns=("model",))
    by_hand = pd.DataFrame(made)
    by_hand["formulation"] = [row["formulation"] or "ddn (200 passes)" for row in made]
    by_hand["level"] = by_hand["level"].fillna(-1)
    expected = by_hand.groupby(["formulation", "level", "model"])["l2_norm"].agg(["size", "mean", "median"])
    assert len(table) == len(expected) == 8
    for row in table.to_dict("records"):
        found = expected.loc[(row["formulation"], -1 if math.isnan(row["level"]) else row["level"], row["model"])]
        assert row["n"] == found["size"]
        assert [row["mean"], row["median"]] == pytest.approx([found["mean"], found["median"]], abs=1e-15)
        assert row["low"] < row["mean"] < row["high"]


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_the_interval_is_of_resampled_clusters(statistic: str) -> None:
    """An oracle draws clusters of two photos and takes the statistic of all photos drawn."""
    made = [unit(COLUMNS[0], f"photo{i}", l2_norm=float(i**2), labels={"object": f"o{i // 2}"}) for i in range(IMAGES)]
    (row,) = pivot(results_of(made), "l2_norm", cluster="object", statistic=statistic).to_dict("records")  # type: ignore[arg-type]
    generator = np.random.default_rng(11)
    values = np.arange(IMAGES, dtype=float).reshape(4, 2) ** 2
    statistics = [getattr(np, statistic)(values[generator.integers(4, size=4)]) for _ in range(20_000)]
    low, high = np.quantile(statistics, [0.025, 0.975])
    assert row["low"] == pytest.approx(low, abs=1.5)
    assert row["high"] == pytest.approx(high, abs=1.5)


def test_p_values_are_scipys_with_holms_correction() -> None:
    table = paired_columns(results_of(records()), "l2_norm")
    assert len(table) == 12  # six pairs for each model
    p_values = []
    pairs = [(m, first, second) for m in (0, 1) for first, second in combinations(range(4), 2)]
    for row, (m, first, second) in zip(table.to_dict("records"), pairs, strict=True):
        differences = NUMBERS[m, first] - NUMBERS[m, second]
        assert row["difference"] == pytest.approx(differences.mean())
        tested = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert row["p_value"] == pytest.approx(tested.pvalue)
        p_values.append(tested.pvalue)
    by_hand, largest = np.empty(12), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, (12 - rank) * p_values[place]))
        by_hand[place] = largest
    assert table["p_holm"].to_numpy() == pytest.approx(by_hand)
    assert (table["p_holm"] >= false_discovery_control(p_values) - 1e-12).all()  # Holm is stricter than Benjamini's


def test_a_baseline_is_compared_with_all_other_columns() -> None:
    table = paired_columns(results_of(records()), "l2_norm", baseline="windows")
    assert set(table["second"]) == {"windows, threshold 0.95", "windows, threshold 0.99"}  # what is subtracted
    assert set(table["first"]) == {"ball, radius 0.5", "ddn (200 passes)"}
    with pytest.raises(InputError, match=r"one of windows, ball, ddn \(200 passes\), got 'window'"):
        paired_columns(results_of(records()), "l2_norm", baseline="window")


def test_images_of_one_column_alone_are_unpaired_and_counted() -> None:
    made = [row for row in records() if not (row["formulation"] == "ball" and row["item"] in ("photo0", "photo5"))]
    table = paired_columns(results_of(made), "l2_norm", baseline="ball")
    assert (table["n"] == IMAGES - 2).all()
    assert (table["unpaired"] == 2).all()


def test_levels_that_agree_in_six_digits_stay_apart() -> None:
    near = [cell("windows", 0.99999991), cell("windows", 0.99999992)]
    made = [unit(names, f"photo{i}", l2_norm=float(k)) for k, names in enumerate(near) for i in range(3)]
    (row,) = paired_columns(results_of(made), "l2_norm").to_dict("records")
    assert (row["first"], row["second"]) == ("windows, threshold 0.99999991", "windows, threshold 0.99999992")
    assert row["difference"] == -1


def test_undefined_and_infinite_numbers_are_counted_and_in_no_mean() -> None:
    made = records(undefined=2)
    made[0]["rel_gap"] = math.inf
    table = pivot(results_of(made), "rms.pearson")
    assert (table["n"] == IMAGES - 1).all()
    assert (table["undefined"] == 1).all()
    assert table["mean"][0] == pytest.approx(np.delete(NUMBERS[0, 0], 2).mean() / 2)
    gaps = pivot(results_of(made), "rel_gap")
    assert (gaps["n"] == 0).all()
    assert gaps[["mean", "median", "low", "high"]].isna().all(axis=None)


def test_one_image_has_a_mean_without_an_interval() -> None:
    (row,) = pivot(results_of([unit(COLUMNS[0], "photo", ssim=0.5)]), "ssim").to_dict("records")
    assert row["mean"] == 0.5
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


def test_repeats_of_an_image_are_one_cluster() -> None:
    made = [unit(COLUMNS[0], "photo", ssim=repeat / 4, repeat=repeat) for repeat in range(4)]
    (row,) = pivot(results_of(made), "ssim").to_dict("records")
    assert row["n"] == 4
    assert math.isnan(row["low"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "l2_nrom"}, "unknown value 'l2_nrom'; did you mean l2_norm"),
        ({"value": "rms.person"}, "unknown value 'rms.person'; did you mean rms.pearson"),
        ({"rows": ("formulatoin",)}, "unknown column 'formulatoin'; did you mean formulation"),
        ({"cluster": "objekt"}, "unknown column 'objekt'; did you mean object"),
        ({"rows": ("model",)}, "must be all different"),
        ({"statistic": "mode"}, "unknown statistic 'mode'"),
        ({"confidence": 95}, "confidence must lie strictly between 0 and 1"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pivot(results_of(records()), **({"value": "l2_norm"} | options))  # type: ignore[arg-type]


def test_a_study_without_records_is_refused() -> None:
    with pytest.raises(InputError, match="study 'synthetic' has no records yet"):
        pivot(results_of([], missing=3), "ssim")


def test_an_image_without_a_cluster_is_refused() -> None:
    made = records()
    made[5]["labels"] = {}
    with pytest.raises(InputError, match="composites/photo5 has no 'object', as 1 of 64 units"):
        pivot(results_of(made), "l2_norm", cluster="object")


def test_every_score_is_a_row_of_the_agreement_table() -> None:
    made = records(undefined=1)
    table = score_frame(results_of(made).records)
    expected = [
        (row["item"], row["model"], entry["method"], entry["map"], entry["metric"], entry["value"], entry["reason"])
        for row in made
        for entry in row["scores"]  # type: ignore[attr-defined]
    ]
    found = table[["image", "model", "method", "map", "metric", "value", "reason"]]
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected, columns=found.columns), check_dtype=False)
    assert table["object"].iloc[-1] == "object3"
    assert table["constraint"].iloc[-1] == "ddn"


def test_the_agreement_table_feeds_the_statistics_of_comparisons() -> None:
    table = score_frame(results_of(records(undefined=1)).records)
    by = ("model", "constraint", "level", "passes")
    means = summarize(table, by=by, resamples=50)
    row = means[(means["model"] == "b") & (means["constraint"] == "ball") & (means["map"] == "rms")].iloc[0]
    assert row["mean"] == pytest.approx(np.delete(NUMBERS[1, 2], 1).mean() / 2)
    assert row["reasons"] == "the map is constant (1)"
    against = paired_differences(table, ["local std"], by=by, resamples=50)
    assert len(against) == 8
    with pytest.raises(InputError, match="split the table by 'model'"):
        summarize(table)


def test_a_unit_without_scores_is_undefined_and_shifts_no_other() -> None:
    made = records()
    made[1]["scores"], made[2]["scores"] = [], None
    values = unit_values(results_of(made), "rms.pearson").frame["value"].to_numpy()
    assert np.isnan(values[[1, 2]]).all()
    assert np.delete(values, [1, 2]) == pytest.approx(np.delete(NUMBERS.ravel(), [1, 2]) / 2)
    assert len(score_frame(results_of(made).records)) == 3 * (64 - 2)


def test_a_control_with_one_map_needs_no_name_of_the_map() -> None:
    results = results_of(records())
    assert "local std.local_std.pearson" in value_names(results)
    short = unit_values(results, "local std.pearson")
    assert short.name == "local std.local_std.pearson"
    assert short.frame["value"].to_numpy() == pytest.approx(-NUMBERS.ravel())


def test_labels_of_records_become_columns() -> None:
    made = [unit(COLUMNS[0], "x", labels={"object": "cat"}), unit(COLUMNS[0], "y", labels={"scene": "sea"})]
    frame = unit_frame(results_of(made).records)
    assert frame["object"].tolist() == ["cat", ""]
    assert frame["scene"].tolist() == ["", "sea"]
