"""Dual blocks to certify with: near-optimal, hostile, and not finite; each image of a batch has its own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import solvers
from tests.solvers.exact_arithmetic.random_problems import Generator, RandomProblem
from tests.solvers.exact_arithmetic.windows import axis_weights, exact_windows, window_starts

KINDS = {
    "solution": 0.14,
    "perturbed": 0.08,
    "huge along means": 0.24,
    "huge offset": 0.12,
    "vector": 0.12,
    "garbage": 0.1,
    "noise": 0.1,
    "zero": 0.04,
    "odd": 0.03,
    "denormal": 0.03,
}

# A dual block as its parts: one array, or the parts of a WindowDual, each (B, ...).
Parts = tuple[np.ndarray, ...]


def random_dual(rng: Generator, drawn: RandomProblem, solution: tuple[Any, ...] | None) -> list[Any]:
    """A dual with one block a constraint.

    Args:
        rng: where the randomness comes from.
        drawn: the problem.
        solution: near-optimal blocks if any are known, as ``SolveResult.dual`` has them.
    """
    blocks: list[Any] = []
    # A huge part of one image's dual stands against g as a whole: all blocks of an image share the kind.
    kinds = [str(rng.choice(list(KINDS), p=list(KINDS.values()))) for _ in range(drawn.shape[0])]
    for k, constraint in enumerate(drawn.problem.constraints):
        # The multiplier of a mean index costs seconds to evaluate.
        missing = 0.7 if isinstance(constraint, solvers.MeanSSIM) else 0.05
        if isinstance(constraint, (solvers.Box, solvers.Support)) or rng.random() < missing:
            blocks.append(None)
            continue
        known = None if solution is None else solution[k]
        blocks.append(_random_block(rng, drawn, constraint, known, kinds))
    return blocks


def _random_block(
    rng: Generator, drawn: RandomProblem, constraint: solvers.Constraint, known: Any, kinds: list[str]
) -> Any:
    if isinstance(constraint, (solvers.WindowSSIM, solvers.ProductSSIM)):
        if isinstance(known, torch.Tensor):
            return torch.from_numpy(_changed(rng, drawn, (known.double().numpy(),), kinds)[0])
        vectors = isinstance(constraint, solvers.WindowSSIM) and rng.random() < 0.3
        parts = _window_parts(drawn, constraint, known)
        changed = _changed(rng, drawn, parts, kinds)
        if isinstance(constraint, solvers.WindowSSIM):
            changed = changed[:3]
        if vectors:
            with np.errstate(all="ignore"):
                return torch.from_numpy(_window_vectors(constraint.window, changed))
        return solvers.WindowDual(*(torch.from_numpy(part) for part in changed))
    shape = _block_shape(drawn, constraint)
    if known is None:
        start = drawn.vector.astype(np.float64) if shape == drawn.shape else np.zeros(shape)
    else:
        start = np.asarray(torch.as_tensor(known).double().numpy())
    return torch.from_numpy(_changed(rng, drawn, (start,), kinds)[0])


def _block_shape(drawn: RandomProblem, constraint: solvers.Constraint) -> tuple[int, ...]:
    if isinstance(constraint, solvers.FeatureBall):
        return (drawn.shape[0], len(constraint.jacobian.forward.matrix))  # type: ignore[attr-defined]
    return (drawn.shape[0],) if isinstance(constraint, solvers.MeanSSIM) else drawn.shape


def _window_parts(drawn: RandomProblem, constraint: solvers.WindowSSIM | solvers.ProductSSIM, known: Any) -> Parts:
    """The parts of a WindowDual: ball, point, mean, reference. Without a known block, one that spreads the vector
    over the windows."""
    windows = exact_windows(constraint.window, *drawn.shape[-2:])
    lattice = (*drawn.shape[:2], *windows.total.shape)
    if isinstance(known, solvers.WindowDual):
        parts = [np.array(part.double().numpy()) for part in known.parts()]
        return (*parts, np.zeros(lattice))[:4]
    rows, columns = _float_weights(constraint.window, *drawn.shape[-2:])
    coverage = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    vector = drawn.vector.astype(np.float64)
    point = np.divide(vector, coverage, out=np.zeros_like(vector), where=coverage > 0)
    return np.ones(lattice), point, rows @ point @ columns.T, np.zeros(lattice)


def _float_weights(window: solvers.Window, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows' weights along both axes, float64, each row with sum 1."""
    rows, columns = (axis_weights(window, side).astype(np.float64) for side in (height, width))
    return rows / rows.sum(axis=1, keepdims=True), columns / columns.sum(axis=1, keepdims=True)


def _window_vectors(window: solvers.Window, parts: Parts) -> np.ndarray:
    """``y_p = ball_p R_p v + mean_p sqrt(w)``, (B, C, P_h, P_w, size^2), entries outside the image 0."""
    ball, point, mean = parts
    height, width = point.shape[-2:]
    rows, columns = _float_weights(window, height, width)
    size = window.size
    vectors = np.zeros((*ball.shape, size, size))
    for p, top in enumerate(window_starts(window, height)):
        for q, left in enumerate(window_starts(window, width)):
            inside_rows = slice(max(top, 0), min(top + size, height))
            inside_columns = slice(max(left, 0), min(left + size, width))
            weights = np.outer(rows[p, inside_rows], columns[q, inside_columns])
            pixels = point[..., inside_rows, inside_columns]
            centred = pixels - (pixels * weights).sum(axis=(-2, -1), keepdims=True)
            y = ball[..., p, q, None, None] * centred + mean[..., p, q, None, None]
            target = vectors[..., p, q, :, :]
            target[
                ...,
                inside_rows.start - top : inside_rows.stop - top,
                inside_columns.start - left : inside_columns.stop - left,
            ] = np.sqrt(weights) * y
    return vectors.reshape(*ball.shape, size * size)


def _changed(rng: Generator, drawn: RandomProblem, parts: Parts, kinds: list[str]) -> Parts:
    """The parts, changed image by image as the kinds say."""
    changed = tuple(part.copy() for part in parts)
    with np.errstate(all="ignore"):
        for image, kind in enumerate(kinds):
            size = float(np.abs(drawn.vector[image].astype(np.float64)).max()) or 1.0
            for k, part in enumerate(changed):
                part[image] = _changed_part(rng, kind, part[image], k, len(parts), size)
    return changed


def _changed_part(rng: Generator, kind: str, part: np.ndarray, number: int, count: int, size: float) -> np.ndarray:
    """One image's part ``number`` of ``count`` of a block; ``size`` is that of the gradient's largest entry."""
    noise = rng.normal(size=part.shape)
    # ball, point, mean, reference: the point of a WindowDual carries the vector's scale, the ball is a pure number.
    is_ball, is_point, is_mean = (count > 1 and number == k for k in (0, 1, 2))
    unit = 1.0 if is_ball else size
    if kind in ("solution", "vector"):
        return part
    if kind == "perturbed":
        return part * (1 + 10.0 ** rng.uniform(-12, -1) * noise)
    if kind == "huge along means":
        # Constants cancel in a centred image; a window's mean is free where means are kept.
        huge = size * 10.0 ** rng.uniform(5, 18)
        if count == 1 or is_mean:
            return part + huge * (float(rng.choice([-1.0, 1.0, 1 / 3])) if count == 1 or rng.random() < 0.5 else noise)
        return part
    if kind == "huge offset":
        huge = size * 10.0 ** rng.uniform(3, 18)
        return part + huge if count == 1 or is_point else part
    if kind == "garbage":
        return noise * 10.0 ** rng.uniform(-300, 300)
    if kind == "noise":
        return noise * unit * 10.0 ** rng.uniform(-3, 3)
    if kind == "zero":
        return 0 * noise
    if kind == "denormal":
        return noise * 1e-310
    odd = np.asarray(noise * unit)
    odd.flat[rng.integers(odd.size)] = rng.choice([np.nan, np.inf, -np.inf, 1.7e308])
    return odd
