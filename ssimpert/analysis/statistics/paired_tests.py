"""Paired comparison: the sign-flip permutation test, Holm's correction, and effect sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ssimpert.analysis.statistics.bootstrap import MAX_DRAWS_IN_MEMORY, Clusters, Floats, cluster_sums, finite_values
from ssimpert.errors import InputError
from ssimpert.validation import check_count, check_seed

EXACT_UNITS = 16
PERMUTATIONS = 10_000
ROUNDING_OF_SUMS = 1e-12
"""Sums count as equal up to this share of the magnitudes that they are made of."""


@dataclass(frozen=True)
class SignFlipTest:
    """The result of :func:`sign_flip_test`.

    Attributes:
        p_value: the two-sided p-value; NaN without values.
        method: ``"exact"``, ``"monte carlo"``, or ``""`` without values.
        permutations: how many sign patterns were looked at; all 2^units patterns where the test is exact.
        units: how many images, or clusters of images, keep or lose their sign together.
        seed: the seed of the drawing; ``None`` where nothing was drawn.
    """

    p_value: float
    method: Literal["exact", "monte carlo", ""]
    permutations: int
    units: int
    seed: int | None


def sign_flip_test(
    differences: ArrayLike | Tensor,
    *,
    clusters: Clusters | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> SignFlipTest:
    """Test that paired differences (n,) are symmetric about 0, by their mean: a two-sided permutation test.

    If method and control are exchangeable within an image, each difference is as likely as its opposite. The p-value is
    the share of sign patterns whose |sum| is at least the observed one, up to rounding (1e-12 of the sum of
    magnitudes). For up to 16 units all 2^n patterns are enumerated, and the least p-value is 2 / 2^n. For more units
    ``permutations`` patterns are drawn, and p = (1 + hits)/(1 + permutations), which is never 0 (Phipson, Smyth 2010).

    The test is not Wilcoxon's of signed ranks, for three reasons: it tests the mean, which is what is reported; it is
    exact with ties and zeros; and whole clusters can keep or lose their sign together.

    Args:
        differences: method minus control, one for each image, finite.
        clusters: a label for each difference; default ``None``: images are independent.
        permutations: how many patterns are drawn where the test is not exact, 1 or more; default 10,000.
        seed: an integer from 0, default 0.

    Raises:
        InputError: differences that are not finite, clusters of another length, or a number out of range.
    """
    permutations, seed = check_count("permutations", permutations), check_seed(seed)
    sample = finite_values(differences)
    sums, _ = cluster_sums(sample, clusters)
    units = len(sums)
    if units == 0:
        return SignFlipTest(math.nan, "", 0, 0, None)
    threshold = abs(float(sums.sum())) - ROUNDING_OF_SUMS * float(np.abs(sums).sum())
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
    chunk_size = max(1, MAX_DRAWS_IN_MEMORY // len(sums))
    hits = 0
    for start in range(0, permutations, chunk_size):
        positive = generator.integers(2, size=(min(chunk_size, permutations - start), len(sums)), dtype=np.int8)
        # A row's sum and not a matrix product, whose rounding can depend on the number of rows.
        flipped = np.where(positive, sums, -sums).sum(axis=1)
        hits += int((np.abs(flipped) >= threshold).sum())
    return hits


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (Scandinavian Journal of Statistics 1979): (m,) -> (m,), in [0, 1].

    With p_(1) <= ... <= p_(m), the adjusted p_(i) is the maximum over j <= i of min(1, (m - j + 1) p_(j)). Whoever
    rejects where the adjusted p-value is at most a keeps the chance of any false rejection at a, whatever the
    dependence of the tests. A NaN stands for no test: it stays NaN, and m does not count it.

    Raises:
        InputError: p-values outside [0, 1], or more than one axis.
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


def cohens_dz(differences: ArrayLike | Tensor) -> float:
    """Cohen's d_z of paired differences (n,): their mean over their standard deviation, with n - 1.

    NaN from fewer than two values, and where all values are equal up to rounding (1e-12 of the largest magnitude).
    """
    sample = finite_values(differences)
    if len(sample) < 2:
        return math.nan
    spread = float(sample.std(ddof=1))
    if spread <= ROUNDING_OF_SUMS * float(np.abs(sample).max()):
        return math.nan
    return float(sample.mean()) / spread


def rank_biserial(differences: ArrayLike | Tensor) -> float:
    """The matched-pairs rank-biserial correlation of paired differences (n,), in [-1, 1] (Kerby 2014).

    The correlation is (R+ - R-) / (R+ + R-), where R+ and R- are the sums of the ranks of |d| over the positive and
    over the negative differences d. Zeros are left out; ties share their average rank. NaN where every difference is
    zero.
    """
    sample = finite_values(differences)
    sample = sample[sample != 0]
    if len(sample) == 0:
        return math.nan
    from scipy.stats import rankdata  # here, since scipy.stats takes half a second

    ranks = rankdata(np.abs(sample))
    return float((np.sign(sample) * ranks).sum() / ranks.sum())
