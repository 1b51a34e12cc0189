"""Curves of studies against interpolation by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.interpolate import interp1d

from ssimpert.errors import InputError
from ssimpert.study.outputs.curves import Curve, curves
from tests.ssimpert.study.outputs.synthetic_results import attack, cell, results_of, score, unit

LEVELS = (0.9, 0.95, 0.99)
PLACES = np.array([0.1, 0.05, 0.01])  # what 1 - SSIM is, on average, at each level
IMAGES = 12
GENERATOR = np.random.default_rng(1)
SSIM = 1 - PLACES[:, None] * (1 + 0.2 * GENERATOR.uniform(-1, 1, size=(3, IMAGES)))
VALUE = PLACES[:, None] * 4 + 0.1 * GENERATOR.normal(size=(3, IMAGES))


def windows(images: int = IMAGES) -> list[dict[str, object]]:
    return [
        unit(cell("windows", level), f"photo{i}", ssim=SSIM[k, i], scores=[score("rms", "pearson", VALUE[k, i])])
        for k, level in enumerate(LEVELS)
        for i in range(images)
    ]


def only(found: list[Curve]) -> Curve:
    (curve,) = found
    return curve


def test_against_the_level_a_point_is_the_mean_over_images() -> None:
    curve = only(curves(results_of(windows()), "rms.pearson", resamples=200))
    assert curve.at.tolist() == list(LEVELS)
    assert curve.mean == pytest.approx(VALUE.mean(axis=1))
    assert (curve.low < curve.mean).all()
    assert (curve.mean < curve.high).all()
    assert curve.unit == "threshold"
    assert len(curve.grid) == 0


def test_against_a_distance_values_are_interpolated_and_never_extrapolated() -> None:
    curve = only(curves(results_of(windows()), "rms.pearson", against="one_minus_ssim", resamples=200))
    places = 1 - SSIM.mean(axis=1)
    assert curve.levels.tolist() == [0.99, 0.95, 0.9]  # in the order of the distance
    assert curve.at == pytest.approx(np.sort(places))
    assert curve.grid[0] == pytest.approx(places.min())
    assert curve.grid[-1] == pytest.approx(places.max())
    inner = curve.grid[1:-1]  # the ends may lie beyond the oracle's by a rounding
    assert curve.grid_mean[1:-1] == pytest.approx(interp1d(places, VALUE.mean(axis=1))(inner))


def test_the_interval_between_levels_is_that_of_curves_of_resampled_images() -> None:
    """The oracle resamples images, places every level anew and interpolates with scipy."""
    curve = only(curves(results_of(windows()), "rms.pearson", against="one_minus_ssim", resamples=1500, seed=1))
    middle = len(curve.grid) // 2
    generator, drawn_values = np.random.default_rng(99), []
    for _ in range(1500):
        drawn = generator.integers(IMAGES, size=IMAGES)
        line = interp1d(1 - SSIM[:, drawn].mean(axis=1), VALUE[:, drawn].mean(axis=1))
        drawn_values.append(line(curve.grid[middle]))
    low, high = np.quantile(drawn_values, [0.025, 0.975])
    width = high - low
    assert curve.grid_low[middle] == pytest.approx(low, abs=0.1 * width)
    assert curve.grid_high[middle] == pytest.approx(high, abs=0.1 * width)


def test_near_the_ends_where_resamples_would_extrapolate_there_is_no_interval() -> None:
    curve = only(curves(results_of(windows()), "rms.pearson", against="one_minus_ssim", resamples=200))
    assert math.isnan(curve.grid_low[0])
    assert math.isnan(curve.grid_high[-1])
    assert math.isfinite(curve.grid_low[len(curve.grid) // 2])


def test_a_shift_of_all_images_shifts_the_interval_and_does_not_widen_it() -> None:
    """Images are resampled as wholes: where all images differ by a constant, the place has all the spread."""
    made = [unit(cell("w", level), f"p{i}", l2_norm=level + i, linf_norm=level + i)
            for level in (1.0, 2.0, 20.0) for i in range(6)]  # fmt: skip
    curve = only(curves(results_of(made), "l2_norm", against="linf_norm", resamples=300))
    known = np.isfinite(curve.grid_low)
    assert known.any()
    assert curve.grid_low[known] == pytest.approx(curve.grid[known])
    assert curve.grid_high[known] == pytest.approx(curve.grid[known])


def test_only_images_with_a_number_at_all_levels_count_and_others_are_told() -> None:
    made = windows()
    made[0]["scores"] = []
    curve = only(curves(results_of(made), "rms.pearson", resamples=50))
    assert (curve.images, curve.left_out) == (IMAGES - 1, 1)
    assert curve.mean == pytest.approx(VALUE[:, 1:].mean(axis=1))


def test_passes_of_an_attack_with_radii_are_families_and_without_are_levels() -> None:
    radii = [unit(attack("pgd", passes, radius), f"p{i}", l2_norm=passes * radius)
             for passes in (200, 1000) for radius in (0.5, 1.0) for i in range(3)]  # fmt: skip
    free = [unit(attack("ddn", passes), f"p{i}", l2_norm=1 / passes) for passes in (200, 1000) for i in range(3)]
    found = {curve.family: curve for curve in curves(results_of(radii + free), "l2_norm", resamples=20)}
    assert {name: curve.mean.tolist() for name, curve in found.items()} == {
        "pgd (200 passes)": [100, 200],
        "pgd (1000 passes)": [500, 1000],
        "ddn": [1 / 200, 1 / 1000],
    }
    assert found["ddn"].unit == "passes"
    assert found["ddn"].at.tolist() == [200, 1000]


def test_a_least_budget_is_one_point_against_a_distance_and_not_drawn_against_the_level() -> None:
    least = [unit(cell("least", None), f"photo{i}", ssim=0.9 + i / 1000, scores=[score("rms", "pearson", i)])
             for i in range(IMAGES)]  # fmt: skip
    results = results_of(windows() + least)
    assert [curve.family for curve in curves(results, "rms.pearson", resamples=20)] == ["windows"]
    found = curves(results, "rms.pearson", against="one_minus_ssim", resamples=20)
    assert [len(curve.at) for curve in found] == [3, 1]
    assert math.isnan(found[1].levels[0])
    assert len(found[1].grid) == 0
    with pytest.raises(InputError, match=r"no family has a number 'rms\.pearson' and a level"):
        curves(results_of(least), "rms.pearson")


def test_one_image_has_a_curve_without_intervals() -> None:
    curve = only(curves(results_of(windows(images=1)), "rms.pearson", against="one_minus_ssim"))
    assert curve.images == 1
    assert np.isfinite(curve.grid_mean[1:-1]).all()
    assert np.isnan(curve.low).all()
    assert np.isnan(curve.grid_high).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "rms.person"}, "did you mean rms.pearson"),
        ({"against": "one_minus_sim"}, "unknown value 'one_minus_sim'; did you mean one_minus_ssim"),
        ({"confidence": 1.0}, "confidence must lie strictly between"),
        ({"resamples": 0}, "resamples must be an integer of at least 1"),
        ({"value": "found_level"}, "no family has a number 'found_level'"),
    ],
)
def test_bad_input_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        curves(results_of(windows()), **({"value": "rms.pearson"} | options))  # type: ignore[arg-type]
