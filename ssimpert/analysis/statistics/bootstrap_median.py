"""Bootstrap intervals of a median, over images or over clusters of images.

The interval is the percentile interval of Efron, Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13. BCa
is not offered: its acceleration comes from the jackknife, which is inconsistent for the median (section 11.6 there).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssimpert.analysis.statistics.bootstrap import (
    CONFIDENCE,
    MAX_DRAWS_IN_MEMORY,
    RESAMPLES,
    Clusters,
    Floats,
    Interval,
    cluster_codes,
    finite_values,
)
from ssimpert.validation import check_count, check_seed, check_share


def bootstrap_median_interval(
    values: ArrayLike,
    *,
    clusters: Clusters | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of the median of finite values (n,).

    Args:
        values: one number for each image, finite.
        clusters: a label for each value; whole clusters are resampled. Default ``None``: images are independent.
        confidence: strictly between 0 and 1; default 0.95.
        resamples: 1 or more; default 10,000.
        seed: an integer from 0, default 0; the same seed gives the same interval.

    Returns:
        The interval; NaN at both ends from fewer than two units.

    Raises:
        InputError: values that are not finite, clusters of another length, or a number out of range.
    """
    confidence = check_share("confidence", confidence)
    resamples, seed = check_count("resamples", resamples), check_seed(seed)
    sample = finite_values(values)
    codes = np.arange(len(sample)) if clusters is None else cluster_codes(sample, clusters)
    units = int(codes.max()) + 1 if len(codes) else 0
    low = high = math.nan
    if units >= 2:
        order = np.argsort(sample, kind="stable")
        medians = _resampled_medians(sample[order], codes[order], units, resamples, seed)
        low, high = (float(end) for end in np.quantile(medians, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return Interval(low, high, "percentile", confidence, resamples, units, seed)


def _resampled_medians(ascending: Floats, codes: NDArray[np.intp], units: int, resamples: int, seed: int) -> Floats:
    """The median of each resample, (resamples,), of ascending values (n,) that belong to the units ``codes`` (n,)."""
    generator = np.random.default_rng(seed)
    chunk_size = max(1, MAX_DRAWS_IN_MEMORY // len(ascending))
    medians = []
    for start in range(0, resamples, chunk_size):
        drawn = generator.integers(units, size=(min(chunk_size, resamples - start), units))
        row = np.arange(len(drawn))[:, None] * units
        times_drawn = np.bincount((drawn + row).ravel(), minlength=len(drawn) * units).reshape(len(drawn), units)
        # The values drawn, in order, are the ascending ones each as often as its unit was drawn.
        seen = times_drawn[:, codes].cumsum(axis=1)
        total = seen[:, -1:]
        lower = (seen >= (total + 1) // 2).argmax(axis=1)
        upper = (seen >= total // 2 + 1).argmax(axis=1)
        medians.append((ascending[lower] + ascending[upper]) / 2)
    return np.concatenate(medians)
