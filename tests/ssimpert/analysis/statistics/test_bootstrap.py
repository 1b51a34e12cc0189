"""Bootstrap intervals against enumeration, scipy and their own promise of coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ssimpert.analysis.statistics.bootstrap import bootstrap_interval
from ssimpert.errors import InputError


def test_percentiles_come_near_those_of_all_resamples_of_a_small_sample() -> None:
    """5^5 equally likely resamples, enumerated; 200,000 drawn ones come near their quantiles."""
    values = [0.1, 0.9, 2.5, 3.0, 7.0]
    means = [np.mean(one) for one in itertools.product(values, repeat=5)]
    found = bootstrap_interval(values, resamples=200_000, confidence=0.9)
    assert found.low == pytest.approx(np.quantile(means, 0.05), abs=0.03)
    assert found.high == pytest.approx(np.quantile(means, 0.95), abs=0.03)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_are_near_those_of_scipy_with_and_without_clusters(method: str, clustered: bool) -> None:
    """Clusters: scipy resamples pairs (sum, number) of clusters and takes the ratio."""
    generator = np.random.default_rng(3)
    values = generator.exponential(size=40)
    clusters = np.repeat(np.arange(12), [1, 2, 3, 4, 5, 6, 7, 2, 3, 3, 2, 2]) if clustered else np.arange(40)
    sums = np.bincount(clusters, weights=values)
    counts = np.bincount(clusters).astype(float)
    expected = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis=-1: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        n_resamples=40_000,
        method=method,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    found = bootstrap_interval(
        values,
        clusters=clusters if clustered else None,
        resamples=40_000,
        method=method,  # type: ignore[arg-type]
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.012)
    assert found.units == (12 if clustered else 40)


def test_bca_leans_to_the_long_tail() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    plain, corrected = (bootstrap_interval(values, method=method) for method in ("percentile", "bca"))
    assert corrected.low > plain.low
    assert corrected.high > plain.high


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_covers_the_mean_as_often_as_it_says(method: str) -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        found = bootstrap_interval(generator.normal(2.0, size=30), resamples=400, method=method)  # type: ignore[arg-type]
        hits += found.low <= 2.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_clusters_cover_where_single_images_do_not() -> None:
    """Ten images of each of 20 objects that all share the object's value: 20 facts, not 200."""
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(20), 10)
    hits = {"clusters": 0, "images": 0}
    for _ in range(100):
        values = np.repeat(generator.normal(size=20), 10) + 0.1 * generator.normal(size=200)
        for name, labels in (("clusters", clusters), ("images", None)):
            found = bootstrap_interval(values, clusters=labels, resamples=300)
            hits[name] += found.low <= 0 <= found.high
    assert hits["clusters"] >= 85
    assert hits["images"] <= 60


def test_constant_samples_have_no_width_and_single_units_no_interval() -> None:
    for method in ("percentile", "bca"):
        constant = bootstrap_interval([0.1] * 7, method=method)  # type: ignore[arg-type]
        assert constant.low == constant.high == np.mean([0.1] * 7)
        for few in ([], [0.3]):
            found = bootstrap_interval(few, method=method)  # type: ignore[arg-type]
            assert math.isnan(found.low)
            assert math.isnan(found.high)
        one = bootstrap_interval([0.3, 0.5], clusters=["cup", "cup"], method=method)  # type: ignore[arg-type]
        assert math.isnan(one.low)
        assert one.units == 1
        two = bootstrap_interval([0.0, 1.0], method=method)  # type: ignore[arg-type]
        assert (two.low, two.high) == (0, 1)


def test_the_seed_decides_and_is_recorded() -> None:
    values = np.random.default_rng(3).normal(size=30)
    found = bootstrap_interval(values, seed=7)
    assert found == bootstrap_interval(values, seed=7)
    assert found != bootstrap_interval(values, seed=8)
    assert (found.seed, found.resamples, found.confidence, found.method) == (7, 10_000, 0.95, "percentile")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": [0.1, math.nan]}, "values must be finite, got nan; leave undefined images out"),
        ({"values": [[0.1]]}, r"values must have one axis, \(n,\), got shape \(1, 1\)"),
        ({"confidence": 1}, "confidence must lie strictly between 0 and 1, got 1"),
        ({"resamples": 0}, "resamples must be an integer of at least 1, got 0"),
        ({"method": "BCa"}, "unknown interval 'BCa'; known: bca, percentile"),
        ({"seed": -1}, r"seed must be an integer from 0 .*, got -1"),
        ({"clusters": ["a"]}, "clusters must hold a label for each value, got 1 for 2 values"),
    ],
)
def test_errors_name_the_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_interval(**{"values": [0.1, 0.2], **options})  # type: ignore[arg-type]
