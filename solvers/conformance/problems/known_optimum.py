"""Problems whose optimum is known, at any size.

A pair (d, y) is optimal for ``max g'd`` as soon as d is feasible, y lies in the sets' normal cones at A d, and
``g - A'y`` in the box's at d. So d and y are chosen first and g is read off: ``g = A'y + z``; for the projection
``q = d + A'y + z``. To make *many* overlapping windows tight at once, photo and perturbation repeat with a period for
which every whole window sees the same values: the window's size for equal weights, the stride for Gaussian ones, and
a checkerboard where that stride is 1 (its variances don't depend on the phase). Windows cut by the edge see less; the
perturbation is weak there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch

from solvers.conformance.oracles.base import Array
from solvers.conformance.oracles.naive_windows import NaiveWindows
from solvers.conformance.oracles.window_ssim import WindowOracle
from solvers.conformance.problems.periodic_images import draw_period
from solvers.constraints import Box, WindowDual, WindowSSIM
from solvers.errors import ProblemError
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.windows import Window

# A window is tight where its slack is below this share of its radius, or of its interval.
TIGHT = 1e-12
# What is left of the perturbation's swing and level on pixels of windows that the edge cuts, and the photo's contrast,
# tried in turn until every window holds.
EDGE = tuple(product((0.1, 0.3, 0.0), (0.1, 0.4, 0.7, 1.0, 0.0)))
CONTRASTS = (1.0, 0.7, 0.4, 0.2)


@dataclass(frozen=True, eq=False)
class KnownOptimum:
    """A problem with its optimal pair.

    Attributes:
        problem: constraints (WindowSSIM, Box), in the dtype asked for.
        delta: the optimum, (B, C, H, W) float64, exact to rounding; unique for the projection only.
        dual: one block per constraint, to hand to :func:`solvers.certify`.
        values: the optimal values, one per image.
        tight: per image, how many windows have an active ball, and how many an active mean.
        at_box: per image, how many pixels the box holds.
    """

    problem: Problem
    delta: torch.Tensor
    dual: tuple[WindowDual, None]
    values: tuple[float, ...]
    tight: tuple[tuple[int, int], ...]
    at_box: tuple[int, ...]


def known_optimum(
    window: Window,
    *,
    shape: tuple[int, int, int] = (3, 64, 64),
    batch: int = 1,
    threshold: float = 0.95,
    luminance: float | Literal["split", "preserve"] = 1e-3,
    sample_covariance: bool = False,
    projection: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> KnownOptimum:
    """Windows with the box [0, 1], and the optimum of a linear problem or a projection over them.

    In float32 the problem's data are rounded, and the pair is optimal to about 1e-6 of the objective.

    Args:
        window: any; at least three windows must fit along each axis for any to be tight.
        shape: (C, H, W) of an image.
        batch: how many, each from a seed of its own.
        luminance: ``"preserve"`` for tiles, or for equal weights with border ``"valid"``: elsewhere kept means
            leave no periodic perturbation.

    Raises:
        ProblemError: a combination for which no window comes out tight.
    """
    constraint = WindowSSIM(threshold, window, luminance, sample_covariance)
    if constraint.beta == 0 and not window.is_tiling and (window.border == "full" or window.sigma is not None):
        raise ProblemError("known_optimum keeps means for tiles, and for equal weights with border 'valid', only")
    windows = NaiveWindows(window, *shape[1:])
    pairs = [_pair(constraint, windows, shape, np.random.default_rng([seed, image])) for image in range(batch)]

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(pair, name) for pair in pairs]))

    image, delta, pull = stack("image"), stack("delta"), stack("pull")
    dual = WindowDual(stack("ball"), delta - constraint.alpha / (1 - constraint.alpha) * image, stack("mean"))
    sets = (constraint, Box(0.0, 1.0))
    problem: Problem
    if projection:
        problem = ProjectionProblem((delta + pull).to(dtype), image.to(dtype), sets)
    else:
        problem = LinearProblem(pull.to(dtype), image.to(dtype), sets)
    values = problem.to(dtype=torch.float64).objective(delta)
    tight = tuple((int((p.ball > 0).sum()), int((p.mean != 0).sum())) for p in pairs)
    return KnownOptimum(problem, delta, (dual, None), tuple(values.tolist()), tight, tuple(p.at_box for p in pairs))


@dataclass(frozen=True, eq=False)
class _Pair:
    """One image: x, d, the multipliers, and ``A'y + z``."""

    image: Array
    delta: Array
    ball: Array
    mean: Array
    pull: Array
    at_box: int


def _pair(
    constraint: WindowSSIM, windows: NaiveWindows, shape: tuple[int, int, int], rng: np.random.Generator
) -> _Pair:
    image, delta, at_box = _feasible_point(constraint, windows, shape, rng)
    oracle = WindowOracle(constraint, image)
    offset = delta - oracle.center * image
    distance, shift = np.sqrt(windows.variance(offset)), windows.means(delta)
    tight = distance >= oracle.radius * (1 - TIGHT)
    width = np.maximum(oracle.mean_upper - oracle.mean_lower, 1e-300)
    high = shift >= oracle.mean_upper - TIGHT * width
    low = shift <= oracle.mean_lower + TIGHT * width
    if not tight.any():
        raise ProblemError(f"no window comes out tight at {shape[1]}x{shape[2]} pixels; take a larger image")

    def some(where: Array) -> Array:
        # Multipliers of unlike size, and a fifth of them 0: an active constraint need not matter.
        drawn = rng.exponential(size=where.shape) * (rng.random(where.shape) < 0.8)
        return np.where(where, drawn, 0.0)

    ball = some(tight)
    # In step with the ball's pull, |y_perp| = ball * radius.
    mean = (some(high) - some(low)) * float(oracle.radius.mean())
    push = some(at_box != 0) * at_box
    adjoint = offset * windows.spread(ball) + windows.spread(mean - ball * windows.means(offset))
    pull = adjoint + push * float(np.abs(adjoint).mean())
    # All multipliers may be scaled alike; this way the point to project is as far from d as d from 0.
    size = float(np.linalg.norm(delta) / np.linalg.norm(pull))
    return _Pair(image, delta, size * ball, size * mean, size * pull, int((at_box != 0).sum()))


def _feasible_point(
    constraint: WindowSSIM, windows: NaiveWindows, shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """x, d, and where d is held by the box: +1 at the upper end, -1 at the lower, 0 elsewhere; (C, H, W) each."""
    channels, height, width = shape
    if not windows.whole.any():
        raise ProblemError(f"no whole window of {constraint.window.size} pixels fits {height}x{width}")
    outside = ~windows.whole.ravel()
    reached = np.zeros(height * width, dtype=bool)
    reached[windows.index[outside][windows.weights[outside] > 0]] = True
    cut = reached.reshape(height, width)
    # Kept means leave no room for a perturbation that fades.
    shares = [(0.0, 0.0)] if constraint.beta == 0 else EDGE
    for contrast, means in product(CONTRASTS, (True, False)):
        drawn = [draw_period(constraint, windows, rng, contrast=contrast, means=means) for _ in range(channels)]
        if any(period is None for period in drawn):
            continue
        image, swing, level, at_box = (
            np.stack([_tiled(getattr(period, name), height, width) for period in drawn])
            for name in ("image", "swing", "level", "at_box")
        )
        oracle = WindowOracle(constraint, image)
        for swing_share, level_share in shares:
            faded = swing_share * swing + level_share * level
            delta = np.where(windows.covered, np.where(cut, faded, swing + level), 0.0)
            # Only by rounding: what the box holds is then there to the last bit.
            clipped = delta.clip(-image, 1 - image)
            if np.abs(clipped - delta).max() <= TIGHT and _holds(oracle, clipped):
                delta = clipped
                return image, delta, np.where(windows.covered & ~cut, at_box, 0.0)
    raise ProblemError(
        f"no known optimum found at threshold {constraint.threshold} and {height}x{width} pixels; "
        "take another seed, a higher threshold or a larger image"
    )


def _tiled(period: Array, height: int, width: int) -> Array:
    rows, columns = np.arange(height)[:, None] % len(period), np.arange(width)[None, :] % len(period)
    return np.asarray(period[rows, columns])


def _holds(oracle: WindowOracle, delta: Array) -> bool:
    """Whether every window's ball and interval hold, up to rounding."""
    windows = oracle.windows
    distance = np.sqrt(windows.variance(delta - oracle.center * oracle.image))
    shift, slack = windows.means(delta), TIGHT * (oracle.mean_upper - oracle.mean_lower) + 1e-16
    return bool(
        (distance <= oracle.radius * (1 + TIGHT)).all()
        and (shift <= oracle.mean_upper + slack).all()
        and (shift >= oracle.mean_lower - slack).all()
    )
