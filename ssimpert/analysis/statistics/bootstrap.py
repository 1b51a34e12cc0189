"""Bootstrap intervals of a mean, over images or over clusters of images.

The intervals are those of Efron, Tibshirani, *An Introduction to the Bootstrap*, 1993: percentile (chapter 13) and BCa
(chapter 14).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from solvers.validation import as_list, shown
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_count, check_seed, check_share

CONFIDENCE = 0.95
RESAMPLES = 10_000
MAX_DRAWS_IN_MEMORY = 2**21

IntervalMethod = Literal["percentile", "bca"]
Floats = NDArray[np.float64]
Clusters = Sequence[Any] | NDArray[Any] | Tensor
"""A label for each value. Values with equal labels belong together."""


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval of a mean, with all that it depends on.

    Attributes:
        low: the lower end; NaN from fewer than two units.
        high: the upper end; NaN from fewer than two units.
        method: ``"percentile"`` or ``"bca"``.
        confidence: in (0, 1).
        resamples: how many resamples were drawn.
        units: how many images or clusters were resampled.
        seed: the seed of the resampling.
    """

    low: float
    high: float
    method: IntervalMethod
    confidence: float
    resamples: int
    units: int
    seed: int


def bootstrap_interval(
    values: ArrayLike | Tensor,
    *,
    clusters: Clusters | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    method: IntervalMethod = "percentile",
    seed: int = 0,
) -> Interval:
    """The bootstrap interval of the mean of finite values (n,).

    Values that are all equal give ``low = high``. A single unit says nothing about spread and gives NaN. With few
    units, under about 15, both intervals are too narrow: they cover the mean less often than ``confidence``.

    Args:
        values: one number for each image, finite.
        clusters: a label for each value. Images with one label (composites of one object, say) are not independent, so
            whole clusters are resampled, and the mean is taken over all images drawn. Default ``None``: images are
            independent.
        confidence: strictly between 0 and 1; default 0.95.
        resamples: 1 or more; default 10,000.
        method: ``"percentile"`` (default), or ``"bca"``, which corrects for bias and skewness; the acceleration of
            ``"bca"`` is that of the jackknife over units.
        seed: an integer from 0, default 0; the same seed gives the same interval.

    Raises:
        InputError: an unknown method, values that are not finite, clusters of another length, or a number out of range.
    """
    if method not in get_args(IntervalMethod):
        raise unknown_name("interval", str(method), get_args(IntervalMethod))
    confidence = check_share("confidence", confidence)
    resamples, seed = check_count("resamples", resamples), check_seed(seed)
    sample = finite_values(values)
    sums, counts = cluster_sums(sample, clusters)
    low, high = _bounds(sample, sums, counts, confidence, resamples, method, seed)
    return Interval(low, high, method, confidence, resamples, len(sums), seed)


def finite_values(values: ArrayLike | Tensor) -> Floats:
    """``values`` (n,) in float64; :class:`InputError` unless all of them are finite."""
    sample = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if sample.ndim != 1:
        raise InputError(f"values must have one axis, (n,), got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise InputError(f"values must be finite, got {sample[~np.isfinite(sample)][0]}; leave undefined images out")
    return sample


def cluster_sums(sample: Floats, clusters: Clusters | None) -> tuple[Floats, Floats]:
    """The sum and the number of the values of each cluster, in order of first appearance.

    Without ``clusters`` each value is a cluster by itself.
    """
    if clusters is None:
        return sample, np.ones_like(sample)
    codes = cluster_codes(sample, clusters)
    units = int(codes.max()) + 1 if len(codes) else 0
    sums = np.bincount(codes, weights=sample, minlength=units).astype(np.float64)
    return sums, np.bincount(codes, minlength=units).astype(np.float64)


def cluster_codes(sample: Floats, clusters: Clusters) -> NDArray[np.intp]:
    """The number of each value's cluster, (n,), from 0 in order of first appearance."""
    # Labels of an array or a tensor become Python's: two tensors with one number are two keys of a dictionary.
    labels = as_list(clusters)
    if labels is None:
        raise InputError(f"clusters must be a list with a label for each value, got {shown(clusters)}")
    if len(labels) != len(sample):
        raise InputError(f"clusters must hold a label for each value, got {len(labels)} for {len(sample)} values")
    index_of = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    return np.array([index_of[label] for label in labels], dtype=np.intp)


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
    chunk_size = max(1, MAX_DRAWS_IN_MEMORY // units)
    for start in range(0, resamples, chunk_size):
        units_drawn = generator.integers(units, size=(min(chunk_size, resamples - start), units))
        yield sums[units_drawn].sum(axis=1) / counts[units_drawn].sum(axis=1)


def _bca_levels(
    means: Floats, mean: float, sums: Floats, counts: Floats, levels: tuple[float, float]
) -> tuple[float, float]:
    normal = NormalDist()
    below = ((means < mean).mean() + (means <= mean).mean()) / 2
    smallest = 1 / (len(means) + 1)  # a share of 0 or 1 has no normal quantile
    bias = normal.inv_cdf(min(max(float(below), smallest), 1 - smallest))
    without_one = (sums.sum() - sums) / (counts.sum() - counts)
    influence = without_one.mean() - without_one
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    low, high = (bias + normal.inv_cdf(level) for level in levels)
    return normal.cdf(bias + low / (1 - acceleration * low)), normal.cdf(bias + high / (1 - acceleration * high))
