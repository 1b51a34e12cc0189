"""Problems whose optimum is known, at any size.

A pair (d, y) is optimal for ``max g'd`` if d is feasible, y lies in the sets' normal cones at A d, and ``g - A'y`` lies
in the box's normal cone at d. So d and y are chosen first, and g follows: ``g = A'y + z`` with z in the box's normal
cone. For the projection, ``q = d + A'y + z``.

*Many* overlapping windows shall be tight at once. So photo and perturbation are periodic, with a period for which
every whole window sees the same values: the window's size for equal weights, and the stride for Gaussian ones. At
stride 1 the Gaussian pattern is a checkerboard, whose variance does not depend on the phase. Windows that the edge cuts
see other values, so the perturbation is weak there.
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
TIGHTNESS_TOLERANCE = 1e-12
# The shares of the perturbation's swing and level that pixels of windows cut by the edge keep, and the photo's
# contrast. They are tried in turn until every window's constraint holds.
EDGE_SHARES = tuple(product((0.1, 0.3, 0.0), (0.1, 0.4, 0.7, 1.0, 0.0)))
CONTRASTS = (1.0, 0.7, 0.4, 0.2)


@dataclass(frozen=True, eq=False)
class KnownOptimum:
    """A problem with its optimal pair.

    Attributes:
        problem: its constraints are WindowSSIM and Box; in the dtype asked for.
        delta: the optimum, (B, C, H, W) float64, exact but for rounding; unique for the projection only.
        dual: one block per constraint, as :func:`solvers.certify` takes them.
        values: the optimal values, one per image.
        tight: per image, the numbers of windows with a nonzero multiplier of the ball, and of the mean.
        at_box: per image, the number of pixels at a bound of the box.
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
    """A linear problem or a projection over windows and the box [0, 1], with its optimum.

    In float32 the problem's data are rounded, and the pair is optimal to about 1e-6 of the objective.

    Args:
        window: any window. At least three windows must fit along each axis for any to be tight.
        shape: (C, H, W) of an image. Default 3x64x64.
        batch: the number of images, each drawn with a seed of its own. Default 1.
        threshold, luminance, sample_covariance: of :class:`~solvers.WindowSSIM`. Defaults 0.95, 1e-3 and False.
            ``"preserve"`` serves for tiles, and for equal weights with border ``"valid"``: elsewhere kept means leave
            no periodic perturbation.
        projection: whether to make a ProjectionProblem. Default: a LinearProblem.
        dtype: of the problem. Default float64.
        seed: of the images. Default 0.

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
    """One image: x, d, the windows' multipliers, and ``pull = A'y + z``; ``at_box`` counts the pixels at a bound."""

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
    tight = distance >= oracle.radius * (1 - TIGHTNESS_TOLERANCE)
    width = np.maximum(oracle.mean_upper - oracle.mean_lower, 1e-300)
    high = shift >= oracle.mean_upper - TIGHTNESS_TOLERANCE * width
    low = shift <= oracle.mean_lower + TIGHTNESS_TOLERANCE * width
    if not tight.any():
        raise ProblemError(f"no window comes out tight at {shape[1]}x{shape[2]} pixels; take a larger image")

    def multipliers(active: Array) -> Array:
        # Of unlike size, and a fifth of them 0: a multiplier of an active constraint may vanish.
        drawn = rng.exponential(size=active.shape) * (rng.random(active.shape) < 0.8)
        return np.where(active, drawn, 0.0)

    ball = multipliers(tight)
    # Of the size of the ball's part, which is |y_perp| = ball * radius.
    mean = (multipliers(high) - multipliers(low)) * float(oracle.radius.mean())
    push = multipliers(at_box != 0) * at_box
    adjoint = offset * windows.spread(ball) + windows.spread(mean - ball * windows.means(offset))
    pull = adjoint + push * float(np.abs(adjoint).mean())
    # All multipliers may be scaled alike. With this size the point to project is as far from d as d is from 0.
    size = float(np.linalg.norm(delta) / np.linalg.norm(pull))
    return _Pair(image, delta, size * ball, size * mean, size * pull, int((at_box != 0).sum()))


def _feasible_point(
    constraint: WindowSSIM, windows: NaiveWindows, shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """x, d, and where d is at a bound of the box: +1 at the upper, -1 at the lower, 0 elsewhere; (C, H, W) each."""
    channels, height, width = shape
    if not windows.whole.any():
        raise ProblemError(f"no whole window of {constraint.window.size} pixels fits {height}x{width}")
    outside = ~windows.whole.ravel()
    reached = np.zeros(height * width, dtype=bool)
    reached[windows.index[outside][windows.weights[outside] > 0]] = True
    cut = reached.reshape(height, width)
    # Where means are kept, the perturbation can't fade towards the edge: it is 0 there.
    shares = [(0.0, 0.0)] if constraint.beta == 0 else EDGE_SHARES
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
            # Clipping must change no more than rounding does. Pixels at a bound are then there to the last bit.
            clipped = delta.clip(-image, 1 - image)
            if np.abs(clipped - delta).max() <= TIGHTNESS_TOLERANCE and _holds(oracle, clipped):
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
    """Whether ``delta`` lies in every window's ball and interval, up to rounding."""
    windows = oracle.windows
    distance = np.sqrt(windows.variance(delta - oracle.center * oracle.image))
    shift, slack = windows.means(delta), TIGHTNESS_TOLERANCE * (oracle.mean_upper - oracle.mean_lower) + 1e-16
    return bool(
        (distance <= oracle.radius * (1 + TIGHTNESS_TOLERANCE)).all()
        and (shift <= oracle.mean_upper + slack).all()
        and (shift >= oracle.mean_lower - slack).all()
    )
