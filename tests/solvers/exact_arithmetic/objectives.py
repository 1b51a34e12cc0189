"""Both objectives in rational arithmetic, and optima that have a closed form.

An optimum may contain square roots. Then a rational within ``2^-200`` of the optimum stands for it, on the side where
no correct bound can lie beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import numpy as np

import solvers
from tests.solvers.exact_arithmetic.rational_arrays import (
    Integers,
    RationalArray,
    common_denominator,
    exact,
    root_bounds,
)
from tests.solvers.exact_arithmetic.sets import ExactBox, radius_of
from tests.solvers.exact_arithmetic.windows import exact_windows

# Lower and upper bounds on d, pixel by pixel; ``None`` where there is none.
PixelBounds = tuple[list[Fraction | None], list[Fraction | None]]


def linear_objective(gradient: RationalArray, delta: RationalArray) -> Fraction:
    """``g'd``."""
    value = int((gradient.numerators * delta.numerators).sum())
    return Fraction(value, gradient.denominator * delta.denominator)


def projection_objective(point: RationalArray, delta: RationalArray) -> Fraction:
    """``|d - q|^2 / 2``."""
    denominator = common_denominator(point, delta)
    difference = delta.over(denominator) - point.over(denominator)
    return Fraction(int((difference * difference).sum()), 2 * denominator**2)


def exact_optimum(problem: solvers.Problem, reference: np.ndarray, vector: np.ndarray, image: int) -> Fraction | None:
    """The optimum of one image where it has a closed form, else ``None``.

    The value is rounded down for a LinearProblem and up for a ProjectionProblem, by about ``2^-200`` of itself.

    Args:
        problem: the problem of the whole batch.
        reference: x, (B, C, H, W).
        vector: the gradient g or the point q, (B, C, H, W).
        image: which image of the batch.
    """
    linear = isinstance(problem, solvers.LinearProblem)
    x, v = exact(reference[image]), exact(vector[image])
    bounds = _pixel_bounds(problem.constraints, reference, image, x)
    if bounds is not None:
        return _elementwise_optimum(v, bounds, linear=linear)
    if len(problem.constraints) != 1:
        return None
    constraint = problem.constraints[0]
    if isinstance(constraint, solvers.LpBall) and (linear or constraint.p == 2):
        return _ball_optimum(constraint.p, radius_of(constraint.radius, image), v, linear=linear)
    if isinstance(constraint, solvers.GlobalSSIM):
        return _global_optimum(constraint, x, v, linear=linear)
    if isinstance(constraint, solvers.WindowSSIM) and constraint.window.is_tiling and linear:
        return _tiles_supremum(constraint, x, v)
    return None


# -- elementwise sets ---------------------------------------------------------------------------------------


def _pixel_bounds(
    constraints: Sequence[solvers.Constraint], reference: np.ndarray, image: int, x: RationalArray
) -> PixelBounds | None:
    """The bounds on d of a problem whose sets are all elementwise, else ``None``."""
    lower: list[Fraction | None] = [None] * x.numerators.size
    upper: list[Fraction | None] = [None] * x.numerators.size
    for constraint in constraints:
        if isinstance(constraint, solvers.Box):
            low, high = ExactBox(x, Fraction(constraint.lower), Fraction(constraint.upper)).bounds()
            lows = [Fraction(value, low.denominator) for value in low.numerators.flat]
            highs = [Fraction(value, high.denominator) for value in high.numerators.flat]
        elif isinstance(constraint, solvers.LpBall) and constraint.p == math.inf:
            highs = [radius_of(constraint.radius, image)] * len(upper)
            lows = [-value for value in highs]
        else:
            return None
        lower = [bound if old is None else max(old, bound) for old, bound in zip(lower, lows, strict=True)]
        upper = [bound if old is None else min(old, bound) for old, bound in zip(upper, highs, strict=True)]
    return lower, upper


def _elementwise_optimum(v: RationalArray, bounds: PixelBounds, *, linear: bool) -> Fraction | None:
    values = [Fraction(value, v.denominator) for value in v.numerators.flat]
    total = Fraction(0)
    for value, low, high in zip(values, *bounds, strict=True):
        assert low is not None
        assert high is not None
        if linear:
            total += max(value * low, value * high)
        else:
            total += (min(max(value, low), high) - value) ** 2 / 2
    return total


# -- balls --------------------------------------------------------------------------------------------------


def _ball_optimum(p: float, radius: Fraction, v: RationalArray, *, linear: bool) -> Fraction:
    below, above = _norm_bounds(v.numerators, v.denominator)
    if not linear:
        return max(above - radius, Fraction(0)) ** 2 / 2
    if p == 2:
        return radius * below
    return radius * Fraction(int(np.abs(v.numerators).max()), v.denominator)


def _norm_bounds(numerators: Integers, denominator: int) -> tuple[Fraction, Fraction]:
    return root_bounds(Fraction(int((numerators * numerators).sum()), denominator**2))


def _global_optimum(
    constraint: solvers.GlobalSSIM, x: RationalArray, v: RationalArray, *, linear: bool
) -> Fraction | None:
    """Over ``|d - a x~|^2 <= a (2 |x~|^2 + c2) + a^2 |x~|^2`` with ``a = e^2/(1 - e^2)`` and mean 0."""
    count = x.numerators.size
    square = Fraction(constraint.distance) ** 2
    a = square / (1 - square)
    constant = Fraction(constraint.constant) / Fraction(constraint.pixel_scale) ** 2
    centred_x = RationalArray(count * x.numerators - x.numerators.sum(), count * x.denominator)
    centred_v = RationalArray(count * v.numerators - v.numerators.sum(), count * v.denominator)
    energy = linear_objective(centred_x, centred_x)
    radius = root_bounds(a * (2 * energy + constant) + a * a * energy)
    if linear:
        length = root_bounds(linear_objective(centred_v, centred_v))
        return a * linear_objective(centred_x, centred_v) + radius[0] * length[0]
    mean = Fraction(int(v.numerators.sum()), count * v.denominator)
    along, size = linear_objective(centred_x, centred_v), linear_objective(centred_v, centred_v)
    distance = root_bounds(size - 2 * a * along + a * a * energy)
    return (count * mean**2 + max(distance[1] - radius[0], Fraction(0)) ** 2) / 2


# -- tiles --------------------------------------------------------------------------------------------------


def _tiles_supremum(constraint: solvers.WindowSSIM, x: RationalArray, g: RationalArray) -> Fraction:
    """``max g'd`` over windows that do not overlap.

    With ``d = m + e`` on a tile, ``sum w e = 0`` and ``h = g/w``, the objective is ``m sum(g) + sum w h e``. Over
    ``V(e - a x) <= r^2`` the second part is at most ``a cov(h, x) + r sqrt(V(h))``, and the first at most
    ``b m(x) sum(g) + l |sum(g)|``.
    """
    windows = exact_windows(constraint.window, *x.numerators.shape[-2:])
    alpha, beta = Fraction(constraint.alpha), Fraction(constraint.beta)
    a, b = alpha / (1 - alpha), beta / (1 - beta)
    c1, c2 = (share * Fraction(constraint.data_range) ** 2 for share in (Fraction(1, 10**4), Fraction(9, 10**4)))
    value = Fraction(0)
    for vertical in windows.rows:
        for horizontal in windows.columns:
            weights = np.outer(vertical, horizontal)
            inside = weights != 0
            total, count = int(weights.sum()), int(inside.sum())
            w = [Fraction(int(weight), total) for weight in weights[inside]]
            constant = c2 * Fraction(count - 1, count) if constraint.sample_covariance else c2
            for channel in range(x.numerators.shape[0]):
                pixels = [Fraction(int(p), x.denominator) for p in x.numerators[channel][inside]]
                slopes = [Fraction(int(p), g.denominator) for p in g.numerators[channel][inside]]
                mean_of = partial(_weighted, w)
                h = [slope / weight for slope, weight in zip(slopes, w, strict=True)]
                mean, slope = mean_of(pixels), sum(slopes, Fraction(0))
                deviations, h_deviations = [p - mean for p in pixels], [p - slope for p in h]
                spread = mean_of([p * p for p in deviations])
                along = mean_of([p * q for p, q in zip(deviations, h_deviations, strict=True)])
                size = root_bounds(mean_of([p * p for p in h_deviations]))[0]
                radius = root_bounds(a * (2 * spread + constant) + a * a * spread)[0]
                half_width = root_bounds(b * (2 * mean**2 + c1) + b * b * mean**2)[0]
                value += a * along + radius * size + b * mean * slope + half_width * abs(slope)
    return value


def _weighted(weights: list[Fraction], values: list[Fraction]) -> Fraction:
    return sum((weight * value for weight, value in zip(weights, values, strict=True)), Fraction(0))
