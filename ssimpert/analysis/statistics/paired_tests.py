"""Paired comparison: the sign-flip permutation test, Holm's correction, and effect sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssimpert.analysis.statistics.bootstrap import Floats, cluster_sums, finite_values
from ssimpert.errors import InputError
from ssimpert.validation import check_count, check_seed

EXACT_UNITS = 16
PERMUTATIONS = 10_000
ROUNDING = 1e-12
_DRAWS_AT_ONCE = 2**21


@dataclass(frozen=True)
class SignFlipTest:
    """Result of :func:`sign_flip_test`.

    Attributes:
        p_value: two-sided, NaN without values.
        method: ``"exact"``, ``"monte carlo"``, or ``""`` without values.
        permutations: sign patterns looked at, all 2^units of them where exact.
        units: what keeps or loses its sign together, images or clusters.
        seed: of the drawing; ``None`` where nothing was drawn.
    """

    p_value: float
    method: Literal["exact", "monte carlo", ""]
    permutations: int
    units: int
    seed: int | None


def sign_flip_test(
    differences: ArrayLike,
    *,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> SignFlipTest:
    """Two-sided permutation test that paired differences (n,) are symmetric about 0, by their mean.

    If method and control are exchangeable within an image, each difference is as likely as its opposite. p is the
    share of sign patterns whose |sum| is at least the observed one, up to rounding (1e-12 of the sum of magnitudes).
    All 2^n patterns are enumerated for up to 16 units, where the least p is 2 / 2^n; beyond, ``permutations`` are
    drawn and p = (1 + hits)/(1 + permutations) (Phipson, Smyth 2010), so it is never 0.

    This and not Wilcoxon's signed ranks, because it tests the mean, which is what is reported, because it is exact
    with ties and zeros, and because whole clusters can keep or lose their sign together: ``clusters``, a label for
    each difference.
    """
    check_count("permutations", permutations)
    check_seed(seed)
    sample = finite_values(differences)
    sums, _ = cluster_sums(sample, clusters)
    units = len(sums)
    if units == 0:
        return SignFlipTest(math.nan, "", 0, 0, None)
    threshold = abs(float(sums.sum())) - ROUNDING * float(np.abs(sums).sum())
    if units <= EXACT_UNITS:
        flipped = np.zeros(1)
        for value in sums:
            flipped = np.concatenate([flipped + value, flipped - value])
        hits = int((np.abs(flipped) >= threshold).sum())
        return SignFlipTest(hits / len(flipped), "exact", len(flipped), units, None)
    hits = _monte_carlo_hits(sums, threshold, permutations, seed)
    return SignFlipTest((1 + hits) / (1 + permutations), "monte carlo", permutations, units, seed)


def _monte_carlo_hits(sums: Floats, threshold: float, permutations: int, seed: int) -> int:
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // len(sums))
    hits = 0
    for start in range(0, permutations, at_once):
        positive = generator.integers(2, size=(min(at_once, permutations - start), len(sums)), dtype=np.int8)
        # A row's sum and not a matrix product, whose rounding can depend on the number of rows.
        flipped = np.where(positive, sums, -sums).sum(axis=1)
        hits += int((np.abs(flipped) >= threshold).sum())
    return hits


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (Scandinavian Journal of Statistics 1979): (m,) -> (m,), in [0, 1].

    With p_(1) <= ... <= p_(m): adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)). Rejecting where it is
    at most a keeps the chance of any false rejection at a, whatever the dependence. A NaN is no test: it stays NaN
    and m does not count it.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"p_values must have one axis, (m,), got shape {values.shape}")
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        raise InputError(f"p_values must lie in [0, 1], got {outside[0]}")
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN sorts last
    steps = np.minimum(1, (len(order) - np.arange(len(order))) * values[order])
    adjusted = np.full_like(values, math.nan)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def cohens_dz(differences: ArrayLike) -> float:
    """Cohen's d_z of paired differences (n,): their mean over their standard deviation, with n - 1.

    NaN from fewer than two values and where all are equal up to rounding (1e-12 of the largest).
    """
    sample = finite_values(differences)
    if len(sample) < 2:
        return math.nan
    spread = float(sample.std(ddof=1))
    if spread <= ROUNDING * float(np.abs(sample).max()):
        return math.nan
    return float(sample.mean()) / spread


def rank_biserial(differences: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation of paired differences (n,), in [-1, 1] (Kerby 2014).

    (R+ - R-) / (R+ + R-), the sums of the ranks of |d| over positive and negative differences; zeros are left out and
    ties share their average rank. NaN where every difference is zero.
    """
    sample = finite_values(differences)
    sample = sample[sample != 0]
    if len(sample) == 0:
        return math.nan
    _, group, size = np.unique(np.abs(sample), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(size) - (size - 1) / 2)[group]
    return float((np.sign(sample) * ranks).sum() / ranks.sum())
