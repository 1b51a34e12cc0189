"""Membership of every set in rational arithmetic, for one image.

The definitions are written from the papers and the docstrings, without square roots: ``1 - S2 <= alpha`` is
``V(d) <= alpha (V(x) + V(x + d) + C2)``, and ``1 - S1 <= beta`` is ``m(d)^2 <= beta (m(x)^2 + m(x + d)^2 + C1)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

import solvers
from tests.solvers.exact_arithmetic.rational_arrays import (
    Integers,
    RationalArray,
    common_denominator,
    exact,
    ratio,
)
from tests.solvers.exact_arithmetic.windows import exact_windows

# The tolerance on kept means where the bound set states none: windows (times data_range), and the whole image.
WINDOW_MEAN_ROUNDINGS = 8.0
WINDOW_MEAN_ROUNDINGS_PER_PIXEL = 4.0
GLOBAL_MEAN_TOLERANCE = 2.0**-40
# The user's own products of a feature ball are rounded: by at most this share of the sum of their terms' sizes, for up
# to 192 terms. Besides, the ball may be exceeded by a share of its radius.
PRODUCT_ROUNDING = Fraction(1, 2**45)
FEATURE_ALLOWANCE = Fraction(1, 2**40)
# Bits of the bounds on a mean of ratios, before the mean is computed exactly.
MEAN_INDEX_BITS = 256


@dataclass(frozen=True)
class Violation:
    """Where a point lies outside a set.

    Attributes:
        what: the part of the set that does not hold.
        excess: by how much, in the unit of the set.
    """

    what: str
    excess: float


class ExactSet(Protocol):
    """A set of perturbations of one image."""

    def violation(self, delta: RationalArray) -> Violation | None:
        """Where ``delta`` (C, H, W) lies outside, or ``None`` inside."""


def exact_set(
    constraint: solvers.Constraint,
    reference: np.ndarray,
    image: int,
    *,
    mean_tolerances: int = 1,
    products_are_rounded: bool = True,
) -> ExactSet:
    """The set of one image of a batch.

    Args:
        constraint: the set's description.
        reference: the images x, (B, C, H, W).
        image: which of them.
        mean_tolerances: how many times the tolerance of the bound set means that are kept may differ from 0. With 0
            they must vanish.
        products_are_rounded: whether a feature ball has the allowance for the user's rounded products. Points that
            the library returns have it; points that a bound must cover have not.
    """
    x = exact(reference[image])
    tolerance = mean_tolerances * kept_mean_tolerance(constraint, reference, image)
    if isinstance(constraint, solvers.Box):
        return ExactBox(x, Fraction(constraint.lower), Fraction(constraint.upper))
    if isinstance(constraint, solvers.Support):
        mask = np.broadcast_to(constraint.mask.numpy(), reference.shape)[image]
        return ExactSupport(mask)
    if isinstance(constraint, solvers.LpBall):
        return ExactLpBall(constraint.p, radius_of(constraint.radius, image))
    if isinstance(constraint, solvers.FeatureBall):
        return ExactFeatureBall(
            jacobian_matrix(constraint), radius_of(constraint.radius, image), products_are_rounded=products_are_rounded
        )
    if isinstance(constraint, solvers.GlobalSSIM):
        return ExactGlobalSSIM(constraint, x, tolerance)
    if isinstance(constraint, solvers.WindowSSIM):
        return ExactWindowSSIM(constraint, x, tolerance)
    if isinstance(constraint, solvers.ProductSSIM):
        return ExactProductSSIM(constraint, x)
    if isinstance(constraint, solvers.MeanSSIM):
        return ExactMeanSSIM(constraint, x, tolerance)
    raise NotImplementedError(f"no exact set for {constraint.kind}")


def exact_sets(
    constraints: Sequence[solvers.Constraint],
    reference: np.ndarray,
    image: int,
    *,
    mean_tolerances: int = 1,
    products_are_rounded: bool = True,
) -> list[ExactSet]:
    """:func:`exact_set` of every constraint."""
    options = {"mean_tolerances": mean_tolerances, "products_are_rounded": products_are_rounded}
    return [exact_set(constraint, reference, image, **options) for constraint in constraints]  # type: ignore[arg-type]


def contains(sets: Sequence[ExactSet], delta: RationalArray) -> bool:
    """Whether ``delta`` lies in all sets."""
    return all(member.violation(delta) is None for member in sets)


def keeps_means(constraint: solvers.Constraint) -> bool:
    """Whether the set fixes means, and therefore has no interior."""
    if isinstance(constraint, (solvers.WindowSSIM, solvers.MeanSSIM)):
        return constraint.beta == 0
    return isinstance(constraint, solvers.GlobalSSIM)


def kept_mean_tolerance(constraint: solvers.Constraint, reference: np.ndarray, image: int) -> Fraction:
    """How large a mean that is kept may be, in pixel units. The bound set states the number."""
    if not keeps_means(constraint):
        return Fraction(0)
    import torch

    bound = constraint.bind(torch.from_numpy(np.asarray(reference[image : image + 1], dtype=np.float64)))
    stated = getattr(bound, "kept_mean_tolerance", None)
    if stated is not None:
        return Fraction(float(stated))
    if isinstance(constraint, solvers.GlobalSSIM):
        return Fraction(GLOBAL_MEAN_TOLERANCE)
    assert isinstance(constraint, (solvers.WindowSSIM, solvers.MeanSSIM))
    roundings = WINDOW_MEAN_ROUNDINGS + WINDOW_MEAN_ROUNDINGS_PER_PIXEL * constraint.window.size
    return Fraction(roundings * 2.0**-52 * constraint.data_range)


def radius_of(radius: object, image: int) -> Fraction:
    """One image's radius, from one number or one for each image."""
    return Fraction(float(radius[image]) if hasattr(radius, "__getitem__") else float(radius))  # type: ignore[arg-type]


# -- elementwise sets ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExactBox:
    """``lower <= x + d <= upper``. Where rounding put x itself outside, d may stay at 0."""

    x: RationalArray
    lower: Fraction
    upper: Fraction

    def bounds(self) -> tuple[RationalArray, RationalArray]:
        """The bounds on d, at most 0 and at least 0."""
        denominator = math.lcm(self.x.denominator, self.lower.denominator, self.upper.denominator)
        x = self.x.over(denominator)
        lower, upper = (int(bound * denominator) for bound in (self.lower, self.upper))
        return (
            RationalArray(np.minimum(lower - x, 0), denominator),
            RationalArray(np.maximum(upper - x, 0), denominator),
        )

    def violation(self, delta: RationalArray) -> Violation | None:
        lower, upper = self.bounds()
        denominator = common_denominator(lower, upper, delta)
        d = delta.over(denominator)
        excess = np.maximum(lower.over(denominator) - d, d - upper.over(denominator)).max()
        return Violation("box", ratio(excess, denominator)) if excess > 0 else None


@dataclass(frozen=True)
class ExactSupport:
    """``d = 0`` outside the mask."""

    mask: np.ndarray

    def violation(self, delta: RationalArray) -> Violation | None:
        return _fixed_pixels("support", delta, ~self.mask)


def _fixed_pixels(what: str, delta: RationalArray, fixed: np.ndarray) -> Violation | None:
    largest = max((abs(value) for value in delta.numerators[np.broadcast_to(fixed, delta.numerators.shape)]), default=0)
    return Violation(what, ratio(largest, delta.denominator)) if largest else None


# -- balls --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExactLpBall:
    """``|d|_p <= radius``; p = 2 by squares."""

    p: float
    radius: Fraction

    def violation(self, delta: RationalArray) -> Violation | None:
        d = delta.numerators
        if self.p == 2:
            return _beyond("l2 ball", Fraction(int((d * d).sum()), delta.denominator**2), self.radius)
        size = np.abs(d).max() if self.p == math.inf else np.abs(d).sum()
        excess = Fraction(int(size), delta.denominator) - self.radius
        return Violation(f"l{self.p:g} ball", _as_float(excess)) if excess > 0 else None


def _beyond(what: str, square: Fraction, radius: Fraction) -> Violation | None:
    """A violation where ``square`` exceeds ``radius^2``; the excess is that of the lengths."""
    excess = square - radius * radius
    if excess <= 0:
        return None
    return Violation(what, _as_float(excess) / (math.sqrt(_as_float(square)) + float(radius)))


def _as_float(value: Fraction) -> float:
    return ratio(value.numerator, value.denominator)


def jacobian_matrix(constraint: solvers.FeatureBall) -> np.ndarray:
    """The float64 matrix J (F, C*H*W) of a ball made by :func:`.random_problems.matrix_operator`."""
    matrix: np.ndarray = constraint.jacobian.forward.matrix  # type: ignore[attr-defined]
    return matrix


class ExactFeatureBall:
    """``|J d| <= radius`` for the rational matrix J."""

    def __init__(self, matrix: np.ndarray, radius: Fraction, *, products_are_rounded: bool = True) -> None:
        self.matrix = exact(matrix)
        self.radius = radius
        self.products_are_rounded = products_are_rounded

    def violation(self, delta: RationalArray) -> Violation | None:
        matrix, pixels = self.matrix.numerators, delta.numerators.reshape(-1)
        features, sizes = np.matmul(matrix, pixels), np.matmul(np.abs(matrix), np.abs(pixels))
        denominator = self.matrix.denominator * delta.denominator
        square = Fraction(int((features * features).sum()), denominator**2)
        if not self.products_are_rounded:
            return _beyond("feature ball", square, self.radius)
        rounding = PRODUCT_ROUNDING * Fraction(int(sizes.sum()), denominator)
        return _beyond("feature ball", square, self.radius * (1 + FEATURE_ALLOWANCE) + rounding)


# -- global SSIM --------------------------------------------------------------------------------------------


class ExactGlobalSSIM:
    """``1 - S2 <= e^2`` of the whole image, c2 added to sums of squares, and the mean kept."""

    def __init__(self, constraint: solvers.GlobalSSIM, x: RationalArray, mean_tolerance: Fraction) -> None:
        self.x = x
        self.square = Fraction(constraint.distance) ** 2
        self.constant = Fraction(constraint.constant) / Fraction(constraint.pixel_scale) ** 2
        self.mean_tolerance = mean_tolerance

    def violation(self, delta: RationalArray) -> Violation | None:
        mean = Fraction(int(delta.numerators.sum()), delta.denominator * delta.numerators.size)
        if abs(mean) > self.mean_tolerance:
            return Violation("kept mean of the image", _as_float(abs(mean) - self.mean_tolerance))
        denominator = common_denominator(self.x, delta)
        x, d = self.x.over(denominator), delta.over(denominator)
        energies = [Fraction(_centred_energy(v), v.size * denominator**2) for v in (d, x, x + d)]
        excess = energies[0] - self.square * (energies[1] + energies[2] + self.constant)
        if excess <= 0:
            return None
        total = energies[1] + energies[2] + self.constant
        loss = math.sqrt(_as_float(energies[0] / total)) - math.sqrt(_as_float(self.square))
        return Violation("global distance", loss)


def _centred_energy(image: Integers) -> int:
    """The number of pixels times the sum of squares around the mean."""
    return int(image.size * (image * image).sum() - image.sum() ** 2)


# -- windows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Moments of x, d and y = x + d under the windows, as integers (C, P_h, P_w).

    Attributes:
        mean_x, mean_d, mean_y: the means times ``unit``.
        spread_x, spread_d, spread_y: the variances times ``unit^2``.
        unit: (P_h, P_w), a window's total weight times the common denominator of the pixels.
    """

    mean_x: Integers
    mean_d: Integers
    mean_y: Integers
    spread_x: Integers
    spread_d: Integers
    spread_y: Integers
    unit: Integers


class ExactWindowSet:
    """What the sets of SSIM windows share: moments, constants, and pixels in no window."""

    def __init__(self, window: solvers.Window, data_range: float, x: RationalArray, *, sample_covariance: bool) -> None:
        self.x = x
        self.windows = exact_windows(window, *x.numerators.shape[-2:])
        self.c1, self.c2 = (share * Fraction(data_range) ** 2 for share in (Fraction(1, 10**4), Fraction(9, 10**4)))
        # C2/kappa = C2 (N - 1)/N; a window of one pixel has no variance and no loss of contrast.
        n = self.windows.pixels
        self.c2_numerator = self.c2.numerator * (n - 1 if sample_covariance else np.ones_like(n))
        self.c2_denominator = self.c2.denominator * (n if sample_covariance else np.ones_like(n))
        self.x_sums = self.windows.sums(x.numerators)
        self.x_spreads = self.windows.spreads(x.numerators, self.x_sums)

    def moments(self, delta: RationalArray) -> Moments:
        """The moments of ``delta`` and ``x + delta``."""
        denominator = common_denominator(self.x, delta)
        factor = denominator // self.x.denominator
        x, d = self.x.over(denominator), delta.over(denominator)
        mean_x, spread_x = self.x_sums * factor, self.x_spreads * factor**2
        mean_d = self.windows.sums(d)
        return Moments(
            mean_x=mean_x,
            mean_d=mean_d,
            mean_y=mean_x + mean_d,
            spread_x=spread_x,
            spread_d=self.windows.spreads(d, mean_d),
            spread_y=self.windows.spreads(x + d, mean_x + mean_d),
            unit=self.windows.total * denominator,
        )

    def uncovered(self, delta: RationalArray) -> Violation | None:
        """A violation where a pixel in no window changes."""
        return _fixed_pixels("pixel in no window", delta, self.windows.uncovered)

    def luminance_loss(self, moments: Moments) -> tuple[Integers, Integers]:
        """``1 - S1`` of every window as numerator and positive denominator, (C, P_h, P_w) each."""
        c1 = self.c1
        energy = c1.denominator * (moments.mean_x**2 + moments.mean_y**2) + c1.numerator * moments.unit**2
        return c1.denominator * moments.mean_d**2, energy

    def contrast_loss(self, moments: Moments) -> tuple[Integers, Integers]:
        """``1 - S2`` of every window as numerator and denominator, (C, P_h, P_w) each; 0/1 in a window of one pixel
        without a constant."""
        energy = self.c2_denominator * (moments.spread_x + moments.spread_y) + self.c2_numerator * moments.unit**2
        return self.c2_denominator * moments.spread_d, np.where(energy == 0, 1, energy)

    def luminance_violation(self, moments: Moments, beta: Fraction) -> Violation | None:
        """A violation of ``1 - S1 <= beta`` in some window."""
        return _loss_violation("luminance", *self.luminance_loss(moments), beta)

    def mean_violation(self, moments: Moments, tolerance: Fraction) -> Violation | None:
        """A violation of ``|m(d)| <= tolerance`` in some window."""
        outside = np.abs(moments.mean_d) * tolerance.denominator > tolerance.numerator * moments.unit
        if not outside.any():
            return None
        units = np.broadcast_to(moments.unit, outside.shape)[outside]
        sizes = [ratio(abs(mean), unit) for mean, unit in zip(moments.mean_d[outside], units, strict=True)]
        return Violation("kept window mean", max(sizes) - _as_float(tolerance))


def _loss_violation(what: str, numerator: Integers, denominator: Integers, allowed: Fraction) -> Violation | None:
    """A violation where ``numerator/denominator`` exceeds ``allowed``; denominators are positive."""
    excess = allowed.denominator * numerator - allowed.numerator * denominator
    outside = excess > 0
    if not outside.any():
        return None
    pairs = zip(excess[outside], denominator[outside], strict=True)
    return Violation(what, max(ratio(value, allowed.denominator * scale) for value, scale in pairs))


class ExactWindowSSIM(ExactWindowSet):
    """``1 - S1 <= beta`` and ``1 - S2 <= alpha`` in every window, with the exact values of the floats alpha, beta."""

    def __init__(self, constraint: solvers.WindowSSIM, x: RationalArray, mean_tolerance: Fraction) -> None:
        super().__init__(constraint.window, constraint.data_range, x, sample_covariance=constraint.sample_covariance)
        self.alpha, self.beta = Fraction(constraint.alpha), Fraction(constraint.beta)
        self.mean_tolerance = mean_tolerance

    def violation(self, delta: RationalArray) -> Violation | None:
        moments = self.moments(delta)
        mean = (
            self.mean_violation(moments, self.mean_tolerance)
            if self.beta == 0
            else self.luminance_violation(moments, self.beta)
        )
        return self.uncovered(delta) or mean or _loss_violation("contrast", *self.contrast_loss(moments), self.alpha)


class ExactProductSSIM(ExactWindowSet):
    """``S1 S2 >= t`` in every window, with S1 and S2 positive."""

    def __init__(self, constraint: solvers.ProductSSIM, x: RationalArray) -> None:
        super().__init__(constraint.window, constraint.data_range, x, sample_covariance=constraint.sample_covariance)
        self.threshold = Fraction(constraint.threshold)

    def violation(self, delta: RationalArray) -> Violation | None:
        moments = self.moments(delta)
        luminance_loss, luminance_energy = self.luminance_loss(moments)
        contrast_loss, contrast_energy = self.contrast_loss(moments)
        luminance, contrast = luminance_energy - luminance_loss, contrast_energy - contrast_loss
        energy = luminance_energy * contrast_energy
        # A window is lost where a term is not positive, even if both are negative.
        product = np.where((luminance > 0) & (contrast > 0), luminance * contrast, 0)
        return self.uncovered(delta) or _loss_violation("product", energy - product, energy, 1 - self.threshold)


class ExactMeanSSIM(ExactWindowSet):
    """The mean of S1 S2 over windows and channels is at least t; optionally S1 is bounded, or the means are kept."""

    def __init__(self, constraint: solvers.MeanSSIM, x: RationalArray, mean_tolerance: Fraction) -> None:
        super().__init__(constraint.window, constraint.data_range, x, sample_covariance=constraint.sample_covariance)
        self.threshold = Fraction(constraint.threshold)
        self.beta = constraint.beta
        self.mean_tolerance = mean_tolerance

    def violation(self, delta: RationalArray) -> Violation | None:
        moments = self.moments(delta)
        if self.beta == 0:
            mean = self.mean_violation(moments, self.mean_tolerance)
        elif self.beta == math.inf:
            mean = None
        else:
            mean = self.luminance_violation(moments, Fraction(self.beta))
        return self.uncovered(delta) or mean or self._index_violation(moments)

    def _index_violation(self, moments: Moments) -> Violation | None:
        luminance_loss, luminance_energy = self.luminance_loss(moments)
        contrast_loss, contrast_energy = self.contrast_loss(moments)
        numerators = (luminance_energy - luminance_loss) * (contrast_energy - contrast_loss)
        denominators = luminance_energy * contrast_energy
        # Sums of fractions grow long. Bounds by integers decide nearly always.
        floors = (numerators << MEAN_INDEX_BITS) // denominators
        total, count = int(floors.sum()), floors.size
        allowed = self.threshold * count
        if Fraction(total, 1 << MEAN_INDEX_BITS) >= allowed:
            return None
        if Fraction(total + count, 1 << MEAN_INDEX_BITS) >= allowed:
            pairs = zip(numerators.flat, denominators.flat, strict=True)
            if sum((Fraction(n, d) for n, d in pairs), Fraction(0)) >= allowed:
                return None
        return Violation("mean index", _as_float(self.threshold - Fraction(total, count << MEAN_INDEX_BITS)))
