"""Slow restatements of the exact product, written from SSIM's formulas: local searches, and convex sets around it."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
from scipy.optimize import minimize

import solvers
from tests.solvers import oracles

Array = np.ndarray[Any, np.dtype[np.float64]]
C1, C2 = 1e-4, 9e-4


def tile_terms(x: Array, d: Array) -> tuple[float, float]:
    """S1 and S2 of one uniform window, (H, W)."""
    a, b = x.ravel(), (x + d).ravel()
    first = (2 * a.mean() * b.mean() + C1) / (a.mean() ** 2 + b.mean() ** 2 + C1)
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    return float(first), float((2 * covariance + C2) / (a.var() + b.var() + C2))


def brute_force(vector: Array, x: Array, threshold: float, starts: int, *, linear: bool = True) -> float:
    """The best value on one tile of local searches from many points, feasible ones alone: the largest g'd, or the least
    ``|d - q|^2/2``."""
    random = np.random.default_rng(0)
    v, flat = vector.ravel(), x.ravel()

    def margin(d: Array) -> float:
        first, second = tile_terms(x, d.reshape(x.shape))
        return first * second - threshold

    def cost(d: Array) -> float:
        return float(-(v @ d)) if linear else float(0.5 * ((d - v) ** 2).sum())

    best = 0.0 if linear else float(0.5 * (v**2).sum())
    for k in range(starts):
        scale = (0.02, 0.1, 0.4)[k % 3]
        direction = v / abs(v).max() * random.random() + random.normal(size=v.size) + 2 * random.normal()
        start = np.clip(scale * direction, -flat, 1 - flat)
        found = minimize(
            cost, start, jac=(lambda d: -v) if linear else (lambda d: d - v), method="SLSQP",
            bounds=list(zip(-flat, 1 - flat, strict=True)), constraints={"type": "ineq", "fun": margin},
            options={"maxiter": 300, "ftol": 1e-12},
        ).x  # fmt: skip
        found = np.clip(found, -flat, 1 - flat)
        if margin(found) >= -1e-8:
            best = max(best, -cost(found)) if linear else min(best, cost(found))
    return best


def between_convex_sets(g: Array, x: Array, window: solvers.Window, threshold: float) -> tuple[float, float]:
    """The optima of g'd over two convex sets, one inside the exact product and one around it: A + B at most
    ``2/sqrt(t) - 2``, and at most ``1/t - 1``, as ``1 + A + B <= (1 + A)(1 + B) <= (1 + (A + B)/2)^2``. One channel,
    pixels in [0, 1]."""
    weights = oracles.weights(window, *x.shape).reshape(-1, x.size)
    flat, values = x.ravel(), []
    for most in (2 / np.sqrt(threshold) - 2, 1 / threshold - 1):
        d = cp.Variable(x.size)
        sets = [flat + d >= 0, flat + d <= 1]
        for w in weights:
            centring = np.diag(np.sqrt(w)) @ (np.eye(x.size) - np.outer(np.ones(x.size), w))
            mean, centred = w @ flat, centring @ flat
            spread = cp.quad_over_lin(centring @ d, 2 * centred @ centred + 2 * centred @ centring @ d + C2)
            shift = cp.quad_over_lin(w @ d, 2 * mean**2 + 2 * mean * (w @ d) + C1)
            sets.append(spread + shift <= most)
        problem = cp.Problem(cp.Maximize(g.ravel() @ d), sets)
        problem.solve(solver="CLARABEL")
        values.append(float(problem.value))
    return values[0], values[1]
