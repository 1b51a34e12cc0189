"""Slow, plain restatements of the mathematics in numpy and CVXPY, written from the formulas, to test against.

Nothing here uses the code under test, except :class:`solvers.Window` as a record of four numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse

import solvers

Array = np.ndarray[Any, np.dtype[np.float64]]


def taps(window: solvers.Window) -> Array:
    """1-D weights of a whole window, sum 1."""
    if window.sigma is None:
        return np.ones(window.size) / window.size
    offset = np.arange(window.size) - (window.size - 1) / 2
    weights = np.exp(-(offset**2) / (2 * window.sigma**2))
    return weights / weights.sum()


def starts(window: solvers.Window, length: int) -> list[int]:
    """Left edges, by walking along the axis."""
    found = []
    if window.border == "valid":
        start = 0
        while start + window.size <= length:
            found.append(start)
            start += window.stride
        return found
    # Full: every stretch of `stride` pixels has the window that is centred on it.
    for stretch in range(0, length, window.stride):
        found.append(stretch - (window.size - window.stride) // 2)
    return found


def weights(window: solvers.Window, height: int, width: int) -> Array:
    """Weights of every window as images: (P_h, P_w, H, W)."""
    rows, columns, one = starts(window, height), starts(window, width), taps(window)
    out = np.zeros((len(rows), len(columns), height, width))
    for p, top in enumerate(rows):
        for q, left in enumerate(columns):
            total = 0.0
            for i in range(window.size):
                for j in range(window.size):
                    if 0 <= top + i < height and 0 <= left + j < width:
                        out[p, q, top + i, left + j] = one[i] * one[j]
                        total += one[i] * one[j]
            out[p, q] /= total
    return out


@dataclass(frozen=True)
class Terms:
    """S1 and S2 of every window of one channel, (P_h, P_w)."""

    luminance: Array
    contrast: Array


def ssim_terms(
    x: Array, y: Array, window: solvers.Window, *, sample_covariance: bool = False, data_range: float = 1.0
) -> Terms:
    """Wang et al.'s formulas, window by window, for (H, W) images."""
    w = weights(window, *x.shape)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance, contrast = np.zeros(w.shape[:2]), np.zeros(w.shape[:2])
    for p in range(w.shape[0]):
        for q in range(w.shape[1]):
            v = w[p, q]
            count = int((v > 0).sum())
            mx, my = (v * x).sum(), (v * y).sum()
            kappa = count / (count - 1) if sample_covariance else 1.0
            vx, vy = kappa * (v * (x - mx) ** 2).sum(), kappa * (v * (y - my) ** 2).sum()
            cov = kappa * (v * (x - mx) * (y - my)).sum()
            luminance[p, q] = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            contrast[p, q] = (2 * cov + c2) / (vx + vy + c2)
    return Terms(luminance, contrast)


@dataclass(frozen=True)
class WindowData:
    """The set of one channel in conic form: ``|A_p d - sqrt(w) u_p - center_p| <= radius_p`` for some u_p, and
    ``low_p <= m_p(d) <= high_p``."""

    selection: scipy.sparse.csr_array
    roots: scipy.sparse.csr_array
    means: scipy.sparse.csr_array
    center: Array
    radius: Array
    low: Array
    high: Array
    outside: np.ndarray[Any, Any]


def window_data(x: Array, constraint: solvers.WindowSSIM) -> WindowData:
    """Section 4 of the design for one channel (H, W), from the thresholds on."""
    window, (height, width) = constraint.window, x.shape
    t = constraint.threshold
    if constraint.luminance == "split":
        beta = alpha = 1 - math.sqrt(t)
    else:
        beta = 0.0 if constraint.luminance == "preserve" else float(constraint.luminance)
        alpha = 1 - t / (1 - beta)
    c1, c2 = (0.01 * constraint.data_range) ** 2, (0.03 * constraint.data_range) ** 2
    w = weights(window, height, width).reshape(-1, height * width)
    count, size = w.shape[0], window.size**2
    a, b = alpha / (1 - alpha), beta / (1 - beta)
    flat = x.reshape(-1)
    selection, roots = scipy.sparse.lil_array((count * size, flat.size)), scipy.sparse.lil_array((count * size, count))
    center, radius, low, high = np.zeros(count * size), np.zeros(count), np.zeros(count), np.zeros(count)
    for p in range(count):
        pixels = np.flatnonzero(w[p])
        mean = w[p] @ flat
        variance = w[p] @ (flat - mean) ** 2
        kappa = pixels.size / (pixels.size - 1) if constraint.sample_covariance and pixels.size > 1 else 1.0
        constant = 0.0 if constraint.sample_covariance and pixels.size == 1 else c2 / kappa
        for slot, pixel in enumerate(pixels):
            root = math.sqrt(w[p, pixel])
            selection[p * size + slot, pixel] = root
            roots[p * size + slot, p] = root
            center[p * size + slot] = a * root * (flat[pixel] - mean)
        radius[p] = math.sqrt(alpha * (2 * variance + constant) / (1 - alpha) + a**2 * variance)
        half = math.sqrt(beta * (2 * mean**2 + c1) / (1 - beta) + b**2 * mean**2)
        low[p], high[p] = b * mean - half, b * mean + half
    return WindowData(
        selection.tocsr(),
        roots.tocsr(),
        scipy.sparse.csr_array(w),
        center,
        radius,
        low,
        high,
        np.flatnonzero(w.sum(axis=0) == 0),
    )


def optimum(
    vector: Array,
    x: Array,
    constraints: Sequence[solvers.Constraint],
    *,
    linear: bool = True,
    tolerance: float = 1e-10,
) -> tuple[float, Array]:
    """Optimal value and d of one image (C, H, W), by Clarabel on a statement of its own."""
    scale = float(np.abs(vector).max()) or 1.0 if linear else 1.0
    d = [cp.Variable(x[0].size) for _ in range(x.shape[0])]
    whole = cp.hstack(d)
    flat = x.reshape(-1)
    sets: list[cp.Constraint] = []
    for constraint in constraints:
        if isinstance(constraint, solvers.Box):
            sets += [whole + flat >= constraint.lower, whole + flat <= constraint.upper]
        elif isinstance(constraint, solvers.Support):
            outside = ~np.broadcast_to(constraint.mask.numpy(), x.shape).reshape(-1)
            if outside.any():
                sets.append(whole[np.flatnonzero(outside)] == 0)
        elif isinstance(constraint, solvers.LpBall):
            sets.append(cp.norm(whole, "inf" if constraint.p == math.inf else int(constraint.p)) <= constraint.radius)
        elif isinstance(constraint, solvers.GlobalSSIM):
            square, centred = constraint.distance**2, flat - flat.mean()
            c2 = constraint.constant / constraint.pixel_scale**2
            radius = math.sqrt((centred @ centred) * (1 / (1 - square) ** 2 - 1) + c2 * square / (1 - square))
            sets += [cp.norm(whole + centred - centred / (1 - square)) <= radius, cp.sum(whole) == 0]
        elif isinstance(constraint, solvers.WindowSSIM):
            for channel, part in zip(x, d, strict=True):
                data = window_data(channel, constraint)
                free = cp.Variable(data.radius.size)
                rows = data.selection @ part - data.roots @ free - data.center
                sets.append(cp.SOC(data.radius, cp.reshape(rows, (data.radius.size, -1), order="C"), axis=1))
                if constraint.beta == 0:
                    sets.append(data.means @ part == 0)
                else:
                    sets += [data.means @ part >= data.low, data.means @ part <= data.high]
                if data.outside.size:
                    sets.append(part[data.outside] == 0)
        else:
            raise NotImplementedError(constraint.kind)
    goal = (
        cp.Maximize((vector.reshape(-1) / scale) @ whole)
        if linear
        else cp.Minimize(0.5 * cp.sum_squares(whole - vector.reshape(-1)))
    )
    problem = cp.Problem(goal, sets)
    with warnings.catch_warnings():
        # Below about 1e-10 Clarabel can't tell its last digits; the tests compare to 1e-7.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        problem.solve(
            solver="CLARABEL",
            tol_gap_abs=tolerance,
            tol_gap_rel=tolerance,
            tol_feas=tolerance,
            direct_solve_method="qdldl",
        )
    assert problem.status in ("optimal", "optimal_inaccurate"), problem.status
    return float(problem.value) * scale, np.asarray(whole.value).reshape(x.shape)
