"""Bootstrap intervals of a mean, over images or over clusters of images.

Efron, Tibshirani, *An Introduction to the Bootstrap*, 1993: percentile interval (chapter 13) and BCa (chapter 14).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_count, check_seed

CONFIDENCE = 0.95
RESAMPLES = 10_000
_DRAWS_AT_ONCE = 2**21

IntervalMethod = Literal["percentile", "bca"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval ``[low, high]`` of a mean, NaN from fewer than two units, with all that it depends on.

    ``units``: what was resampled, images or clusters.
    """

    low: float
    high: float
    method: IntervalMethod
    confidence: float
    resamples: int
    units: int
    seed: int


def bootstrap_interval(
    values: ArrayLike,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    method: IntervalMethod = "percentile",
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the mean of finite values (n,).

    Args:
        values: one number an image.
        clusters: a label for each value. Images that share one (composites of one object, say) are not independent,
            so whole clusters are resampled and the mean is taken over all images drawn.
        confidence: strictly between 0 and 1; default 0.95.
        resamples: default 10,000.
        method: ``"percentile"`` (default), or ``"bca"``, which corrects for bias and skewness; its acceleration is
            the jackknife's, over units.
        seed: of the resampling; the same seed gives the same interval.

    Values that are all equal give ``low = high``; a single unit says nothing about spread and gives NaN. With few
    units (under about 15) either interval is too narrow: it covers the mean less often than ``confidence``.
    """
    if method not in get_args(IntervalMethod):
        raise unknown_name("interval", str(method), get_args(IntervalMethod))
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise InputError(f"confidence must lie strictly between 0 and 1, got {confidence!r}")
    check_count("resamples", resamples)
    check_seed(seed)
    sample = finite_values(values)
    sums, counts = cluster_sums(sample, clusters)
    low, high = _bounds(sample, sums, counts, confidence, resamples, method, seed)
    return Interval(low, high, method, confidence, resamples, len(sums), seed)


def finite_values(values: ArrayLike) -> Floats:
    """Values (n,) in float64; :class:`InputError` where one isn't finite."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise InputError(f"values must have one axis, (n,), got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise InputError(f"values must be finite, got {sample[~np.isfinite(sample)][0]}; leave undefined images out")
    return sample


def cluster_sums(sample: Floats, clusters: Sequence[Any] | NDArray[Any] | None) -> tuple[Floats, Floats]:
    """Sum and number of the values of each cluster, in order of first appearance; each value by itself for ``None``."""
    if clusters is None:
        return sample, np.ones_like(sample)
    labels = list(clusters)
    if len(labels) != len(sample):
        raise InputError(f"clusters must hold a label for each value, got {len(labels)} for {len(sample)} values")
    place = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    codes = np.array([place[label] for label in labels], dtype=np.intp)
    sums = np.bincount(codes, weights=sample, minlength=len(place)).astype(np.float64)
    return sums, np.bincount(codes, minlength=len(place)).astype(np.float64)


def _bounds(
    sample: Floats, sums: Floats, counts: Floats, confidence: float, resamples: int, method: str, seed: int
) -> tuple[float, float]:
    if len(sums) < 2:
        return math.nan, math.nan
    mean = float(sample.mean())
    if sample.min() == sample.max():
        return mean, mean
    means = np.concatenate(list(_resampled_means(sums, counts, resamples, seed)))
    tail = (1 - confidence) / 2
    levels = (tail, 1 - tail)
    if method == "bca":
        levels = _bca_levels(means, mean, sums, counts, levels)
    low, high = np.quantile(means, levels)
    return float(low), float(high)


def _resampled_means(sums: Floats, counts: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    units = len(sums)
    at_once = max(1, _DRAWS_AT_ONCE // units)
    for start in range(0, resamples, at_once):
        drawn = generator.integers(units, size=(min(at_once, resamples - start), units))
        yield sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)


def _bca_levels(
    means: Floats, mean: float, sums: Floats, counts: Floats, levels: tuple[float, float]
) -> tuple[float, float]:
    normal = NormalDist()
    below = ((means < mean).mean() + (means <= mean).mean()) / 2
    edge = 1 / (len(means) + 1)  # a share of 0 or 1 has no normal quantile
    bias = normal.inv_cdf(min(max(float(below), edge), 1 - edge))
    without_one = (sums.sum() - sums) / (counts.sum() - counts)
    influence = without_one.mean() - without_one
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    low, high = (bias + normal.inv_cdf(level) for level in levels)
    return normal.cdf(bias + low / (1 - acceleration * low)), normal.cdf(bias + high / (1 - acceleration * high))
