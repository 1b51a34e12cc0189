"""Points to certify: garbage of every scale, and the neighbourhood of optimal points."""

from __future__ import annotations

import numpy as np

from tests.solvers.exact_arithmetic.random_problems import Generator, RandomProblem

KINDS = {
    "solution": 0.2,
    "longer solution": 0.2,
    "garbage": 0.15,
    "pixel noise": 0.15,
    "far outside": 0.05,
    "along vector": 0.15,
    "constant": 0.04,
    "zero": 0.03,
    "odd": 0.03,
}


def random_points(rng: Generator, drawn: RandomProblem, solution: np.ndarray | None) -> np.ndarray:
    """A point for each image, (B, C, H, W), float64, each of a kind of its own.

    Args:
        rng: where the randomness comes from.
        drawn: the problem.
        solution: near-optimal points (B, C, H, W) if any are known.
    """
    points = []
    for image in range(drawn.shape[0]):
        known = None if solution is None else solution[image]
        points.append(_random_point(rng, drawn, drawn.vector[image].astype(np.float64), known))
    return np.stack(points)


def _random_point(rng: Generator, drawn: RandomProblem, vector: np.ndarray, solution: np.ndarray | None) -> np.ndarray:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    noise = rng.normal(size=vector.shape)
    scale = drawn.pixel_range
    if kind in ("solution", "longer solution") and solution is None:
        kind = "along vector"
    if kind == "solution":
        assert solution is not None
        return solution
    if kind == "longer solution":
        assert solution is not None
        return solution * (1 + 10.0 ** rng.uniform(-12, 1))
    if kind == "garbage":
        return np.asarray(noise * 10.0 ** rng.uniform(-300, 300))
    if kind == "far outside":
        return np.asarray(noise * scale * 1e6)
    if kind == "along vector":
        largest = np.abs(vector).max()
        direction = vector / largest if largest > 0 else vector
        return np.asarray(direction * scale * 10.0 ** rng.uniform(-3, 1))
    if kind == "constant":
        return np.full(vector.shape, scale * rng.normal())
    if kind == "zero":
        return np.zeros(vector.shape)
    if kind == "odd":
        point = np.asarray(noise * scale)
        point.flat[rng.integers(point.size)] = rng.choice([np.nan, np.inf, -np.inf, 5e-324, 1.7e308])
        return point
    return np.asarray(noise * scale * 10.0 ** rng.uniform(-4, 0.5))
