"""Points that lie in the sets exactly: scaled, stretched to the surface, and freed of the means that a set keeps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

import solvers
from tests.solvers.exact_arithmetic.rational_arrays import Integers, RationalArray, common_denominator, exact, zeros
from tests.solvers.exact_arithmetic.sets import ExactBox, ExactSet, contains, keeps_means
from tests.solvers.exact_arithmetic.windows import exact_windows

# How often a point is halved before 0 takes its place, and how often the factor is then refined.
HALVINGS = 40
REFINEMENTS = 5
# A point inside is stretched by the first of these factors that leaves it inside.
STRETCHES = tuple(1 + Fraction(1, 2**bits) for bits in (16, 26, 34, 40, 44, 47, 49, 51))
# The largest system of kept means that is solved by elimination.
LARGEST_SYSTEM = 14


def scaled_into(sets: Sequence[ExactSet], delta: RationalArray) -> RationalArray:
    """``t delta`` in all sets, t in [0, 1] a dyadic rational, and t large where the sets are convex."""
    if contains(sets, delta):
        return delta
    inside, factor = None, Fraction(1)
    for _ in range(HALVINGS):
        factor /= 2
        if contains(sets, delta.scaled(factor)):
            inside = factor
            break
    if inside is None:
        return zeros(delta.numerators.shape)
    step = inside / 2
    for _ in range(REFINEMENTS):
        if contains(sets, delta.scaled(inside + step)):
            inside += step
        step /= 2
    return delta.scaled(inside)


def stretched(sets: Sequence[ExactSet], delta: RationalArray) -> RationalArray:
    """A point inside all sets, moved away from 0 nearly as far as it stays inside: beyond what floats can tell."""
    for factor in STRETCHES:
        longer = delta.scaled(factor)
        if contains(sets, longer):
            return longer
    return delta


def without_kept_means(
    constraints: Sequence[solvers.Constraint], reference: np.ndarray, image: int, delta: RationalArray
) -> RationalArray | None:
    """``delta`` moved so that all means that the sets keep are exactly 0, or ``None`` where this costs too much.

    The nearest such point is taken among those that leave pixels at a bound of a box, outside a support, and in no
    window as they are.
    """
    keeping = [constraint for constraint in constraints if keeps_means(constraint)]
    if not keeping:
        return delta
    fixed = _fixed_pixels(constraints, reference, image, delta)
    if len(keeping) == 1 and isinstance(keeping[0], (solvers.WindowSSIM, solvers.MeanSSIM)) and not fixed.any():
        return _separable_projection(keeping[0].window, delta)
    rows = [_mean_rows(constraint, delta.numerators.shape) for constraint in keeping]
    if sum(len(matrix) for matrix in rows) > LARGEST_SYSTEM:
        return None
    return _eliminated(np.concatenate(rows), delta, fixed.reshape(-1))


def _fixed_pixels(
    constraints: Sequence[solvers.Constraint], reference: np.ndarray, image: int, delta: RationalArray
) -> np.ndarray:
    """Pixels (C, H, W) bool that must stay as they are."""
    fixed = np.zeros(delta.numerators.shape, dtype=bool)
    for constraint in constraints:
        if isinstance(constraint, solvers.Box):
            box = ExactBox(exact(reference[image]), Fraction(constraint.lower), Fraction(constraint.upper))
            lower, upper = box.bounds()
            denominator = common_denominator(lower, upper, delta)
            d = delta.over(denominator)
            fixed |= (d <= lower.over(denominator)) | (d >= upper.over(denominator))
        elif isinstance(constraint, solvers.Support):
            fixed |= ~np.broadcast_to(constraint.mask.numpy(), reference.shape)[image]
        elif hasattr(constraint, "window"):
            fixed |= exact_windows(constraint.window, *fixed.shape[-2:]).uncovered
    return fixed


def _mean_rows(constraint: solvers.Constraint, shape: tuple[int, ...]) -> Integers:
    """The means that a set keeps, up to factors, as integer rows (means, C*H*W)."""
    channels, height, width = shape
    if isinstance(constraint, solvers.GlobalSSIM):
        return np.ones((1, channels * height * width), dtype=object)
    assert isinstance(constraint, (solvers.WindowSSIM, solvers.MeanSSIM))
    windows = exact_windows(constraint.window, height, width)
    one_channel = np.kron(windows.rows, windows.columns)
    rows = np.zeros((channels, len(one_channel), channels, height * width), dtype=object)
    for channel in range(channels):
        rows[channel, :, channel] = one_channel
    return rows.reshape(channels * len(one_channel), -1)


def _eliminated(rows: Integers, delta: RationalArray, fixed: np.ndarray) -> RationalArray | None:
    """The nearest point with ``rows d = 0`` that agrees with ``delta`` on fixed pixels; ``None`` if there is none."""
    free = np.where(fixed, 0, rows)
    multipliers = _solution(np.matmul(free, rows.T), np.matmul(rows, delta.numerators.reshape(-1)))
    if multipliers is None:
        return None
    numerators, denominator = multipliers
    moved = denominator * delta.numerators.reshape(-1) - np.matmul(numerators, free)
    return RationalArray(moved.reshape(delta.numerators.shape), denominator * delta.denominator).reduced()


def _solution(matrix: Integers, right: Integers) -> tuple[Integers, int] | None:
    """A solution of ``matrix y = right`` over one denominator, by Gaussian elimination; ``None`` if there is none."""
    size = len(right)
    table = [[Fraction(int(v)) for v in row] + [Fraction(int(b))] for row, b in zip(matrix, right, strict=True)]
    pivots: list[tuple[int, int]] = []
    for column in range(size):
        row = next((k for k in range(len(pivots), size) if table[k][column] != 0), None)
        if row is None:
            continue
        top = len(pivots)
        table[top], table[row] = table[row], table[top]
        pivot = table[top][column]
        table[top] = [value / pivot for value in table[top]]
        for other in range(size):
            factor = table[other][column]
            if other != top and factor != 0:
                table[other] = [a - factor * b for a, b in zip(table[other], table[top], strict=True)]
        pivots.append((top, column))
    if any(table[row][-1] != 0 for row in range(len(pivots), size)):
        return None
    solution = [Fraction(0)] * size
    for row, column in pivots:
        solution[column] = table[row][-1]
    denominator = int(np.lcm.reduce(np.array([1] + [value.denominator for value in solution], dtype=object)))
    return np.array([int(value * denominator) for value in solution], dtype=object), denominator


def _separable_projection(window: solvers.Window, delta: RationalArray) -> RationalArray:
    """``d - P d Q`` with the projections P, Q onto the spans of the windows' weights along both axes."""
    height, width = delta.numerators.shape[-2:]
    vertical, vertical_denominator = _span_projection(window, height)
    horizontal, horizontal_denominator = _span_projection(window, width)
    denominator = vertical_denominator * horizontal_denominator
    spanned = np.matmul(vertical, np.matmul(delta.numerators, horizontal))
    return RationalArray(denominator * delta.numerators - spanned, denominator * delta.denominator).reduced()


@lru_cache(maxsize=1024)
def _span_projection(window: solvers.Window, length: int) -> tuple[Integers, int]:
    """The orthogonal projection onto the span of the windows' weights along an axis, over one denominator."""
    weights = exact_windows(window, length, length).rows
    columns = []
    for pixel in range(length):
        solved = _solution(np.matmul(weights, weights.T), weights[:, pixel])
        assert solved is not None
        numerators, denominator = solved
        columns.append([Fraction(int(value), denominator) for value in np.matmul(numerators, weights)])
    denominator = int(np.lcm.reduce(np.array([v.denominator for column in columns for v in column], dtype=object)))
    matrix = np.array([[int(v * denominator) for v in column] for column in columns], dtype=object).T
    return matrix, denominator
