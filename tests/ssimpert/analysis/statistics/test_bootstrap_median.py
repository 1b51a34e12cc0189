"""Intervals of medians against resampling one draw at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ssimpert.analysis.statistics import bootstrap_median
from ssimpert.analysis.statistics.bootstrap_median import bootstrap_median_interval
from ssimpert.errors import InputError

VALUES = np.random.default_rng(5).normal(size=13)


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5]])
@pytest.mark.parametrize("draws", [2**21, 40])
def test_the_interval_is_that_of_the_medians_of_the_same_draws(
    clusters: list[int] | None, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap_median, "MAX_DRAWS_IN_MEMORY", draws)
    groups = (
        [VALUES[np.array(clusters) == label] for label in range(6)] if clusters else [VALUES[[i]] for i in range(13)]
    )
    generator, medians = np.random.default_rng(7), []
    chunk = draws // 13
    for start in range(0, 500, chunk):
        for drawn in generator.integers(len(groups), size=(min(chunk, 500 - start), len(groups))):
            medians.append(np.median(np.concatenate([groups[group] for group in drawn])))
    found = bootstrap_median_interval(VALUES, clusters=clusters, confidence=0.9, resamples=500, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(medians, [0.05, 0.95])), abs=1e-15)
    assert found.units == len(groups)


@pytest.mark.parametrize("values", [[], [3.0]])
def test_fewer_than_two_units_have_no_interval(values: list[float]) -> None:
    found = bootstrap_median_interval(values)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_values_have_an_interval_without_width() -> None:
    found = bootstrap_median_interval([2.0, 2.0, 2.0])
    assert (found.low, found.high) == (2, 2)


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="must be finite, got nan"):
        bootstrap_median_interval([1.0, math.nan])
