"""Two studies side by side, against differences by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ssimpert.errors import InputError
from ssimpert.study import compare_studies
from ssimpert.study.declared import DeclaredCell
from tests.ssimpert.study.outputs.synthetic_results import cell, results_of, score, unit

WINDOWS, BALL = cell("windows", 0.95), cell("ball", 0.5, "radius")


def study_of(shift: float, photos: range, *columns: dict[str, object], **outcome: object) -> list[dict[str, object]]:
    return [unit(names, f"photo{i}", ssim=i**2 / 100 + shift * (i + 1), **outcome)
            for names in columns or (WINDOWS,) for i in photos]  # fmt: skip


def test_differences_are_second_minus_first_over_the_images_of_both() -> None:
    found = compare_studies(results_of(study_of(0, range(6))), results_of(study_of(0.1, range(2, 9))), ["ssim"])
    (row,) = found.table.to_dict("records")
    differences = 0.1 * (np.arange(2, 6) + 1)
    assert (row["model"], row["column"], row["n"], found.images) == ("small", "windows, threshold 0.95", 4, 4)
    assert row["difference"] == pytest.approx(differences.mean())
    assert row["first"] == pytest.approx((np.arange(2, 6) ** 2).mean() / 100)
    generator = np.random.default_rng(8)
    means = differences[generator.integers(4, size=(20_000, 4))].mean(axis=1)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)


def test_columns_of_one_study_alone_are_listed() -> None:
    found = compare_studies(
        results_of(study_of(0, range(3), WINDOWS, BALL)),
        results_of(study_of(0, range(3), WINDOWS, cell("windows", 0.99))),
        ["ssim"],
    )
    assert found.only_first == ("small, ball, radius 0.5",)
    assert found.only_second == ("small, windows, threshold 0.99",)
    assert found.table["column"].tolist() == ["windows, threshold 0.95"]


def test_an_image_that_changed_is_named_and_in_no_difference() -> None:
    second = study_of(0.1, range(3))
    second[1]["identity"] = "0" * 64
    found = compare_studies(results_of(study_of(0, range(3))), results_of(second), ["ssim"])
    assert found.changed_images == ("composites/photo1",)
    assert found.table["n"].tolist() == [2]


def test_options_that_changed_under_one_name_are_told() -> None:
    def declared(steps: int) -> DeclaredCell:
        names = {"attack": "", "model": "small", "passes": None, "repeat": 0, **WINDOWS}
        return DeclaredCell(f"{steps:064x}", names, {"formulation": {"steps": steps, "engine": "e"}})

    first = results_of(study_of(0, range(2)), cells=[declared(10)])
    second = results_of(study_of(0, range(2)), cells=[declared(20)])
    found = compare_studies(first, second, ["ssim"])
    assert found.changed_options == (("small, windows, threshold 0.95", ("formulation.steps",)),)
    assert compare_studies(first, first, ["ssim"]).changed_options == ()


def test_a_value_that_one_study_lacks_is_told_and_the_others_are_compared() -> None:
    scores = [score("rms", "pearson", 0.5)]
    first, second = results_of(study_of(0, range(3), scores=scores)), results_of(study_of(0, range(3)))
    found = compare_studies(first, second, ["rms.pearson", "ssim"])
    assert found.not_compared == ("rms.pearson: only A has this value",)
    assert found.table["value"].tolist() == ["ssim"]
    assert compare_studies(second, first, ["rms.pearson"]).not_compared == ("rms.pearson: only B has this value",)
    with pytest.raises(InputError, match=r"unknown value 'rms\.person'; did you mean rms\.pearson"):
        compare_studies(first, second, ["rms.person"])


def test_studies_without_a_common_image_have_no_difference_and_say_so() -> None:
    found = compare_studies(results_of(study_of(0, range(3))), results_of(study_of(0, range(3, 6))), ["ssim"])
    (row,) = found.table.to_dict("records")
    assert (row["n"], found.images) == (0, 0)
    assert math.isnan(row["difference"])
    assert math.isnan(row["low"])
    assert found.not_compared == ("ssim of small, windows, threshold 0.95: no image has a number in both",)


def test_equal_photos_of_two_names_are_one_image() -> None:
    made = study_of(0, range(2))
    twin = made[0] | {"item": "copy"}
    found = compare_studies(results_of([*made, twin]), results_of([*made, twin]), ["ssim"])
    assert found.table["n"].tolist() == [2]


def test_a_study_without_records_is_refused() -> None:
    with pytest.raises(InputError, match="study 'empty' has no records yet"):
        compare_studies(results_of(study_of(0, range(2))), results_of([], name="empty"), ["ssim"])
