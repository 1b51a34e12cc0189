"""Run a method once on a tiny problem, so that its kernels are compiled before the work whose time counts begins.

Numba compiles a kernel at its first call, which takes seconds, or loads it from its cache on disk. Both would be
counted as time of the first iterations of a process. A rehearsal calls the same kernels, whatever they are: it
certifies a point of a small image under the problem's sets of windows, and runs the method's first iterations there. It
is made once in a process for each method, kind of set and dtype, and takes some milliseconds where the kernels are
compiled already.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from solvers.certificate import Certifier
from solvers.constraints.base import Constraint
from solvers.constraints.box import Box
from solvers.constraints.mean_index.ellipsoid import MeanSSIMStep
from solvers.constraints.mean_ssim import MeanSSIM
from solvers.problem import LinearProblem, Problem
from solvers.registry import MethodInfo
from solvers.settings import Settings
from solvers.windows import Window
from solvers.windows.choose_backend import MIN_COMPILED_PIXELS

# How many iterations are rehearsed, and the tolerance that ends a method's own inner solves early.
ITERATIONS, TOLERANCE = 2, 0.1


def rehearse(info: MethodInfo, problem: Problem, settings: Settings) -> None:
    """Compile what ``info`` will run on ``problem``, unless that is done. On a GPU nothing is done: its kernels are
    compiled for the sizes of the images.

    Args:
        info: the method.
        problem: its problem.
        settings: the dtype of the iterations.
    """
    reference = problem.reference
    if reference.device.type != "cpu" or reference.shape[-2] * reference.shape[-1] < MIN_COMPILED_PIXELS:
        return
    dtype = settings.dtype or reference.dtype
    for constraint in problem.constraints:
        window = getattr(constraint, "window", None)
        if isinstance(window, Window):
            kept = window if window.is_tiling else Window.uniform(7)
            _rehearse(info, _small_set(constraint, kept), dtype if info.compiled else torch.float64)


def _small_set(constraint: Constraint, window: Window) -> Constraint:
    """A set of the same kind for any image."""
    if isinstance(constraint, MeanSSIMStep):
        return MeanSSIM(0.9, window)
    return type(constraint)(0.9, window)  # type: ignore[call-arg]


@lru_cache(maxsize=64)
def _rehearse(info: MethodInfo, constraint: Constraint, dtype: torch.dtype) -> None:
    """Certify a point under ``constraint`` and a box, and run the first iterations."""
    window = constraint.window  # type: ignore[attr-defined]
    side = max(math.isqrt(MIN_COMPILED_PIXELS - 1) + 1, window.size)
    reference, gradient = _noise(side, 0), _noise(side, 1) - 0.5
    problem = LinearProblem(gradient, reference, [constraint, Box()])
    Certifier(problem).certify(gradient)
    if not info.compiled:
        return
    if "MeanSSIMStep" in info.required:
        assert isinstance(constraint, MeanSSIM)
        step = constraint.step(reference, torch.zeros_like(reference))
        problem = LinearProblem(gradient, reference, [step, Box()])
    if info.refusal(problem) is None:
        info.run(problem.to(dtype=dtype), Settings(max_iter=ITERATIONS, eps_rel=TOLERANCE, check_interval=ITERATIONS))


def _noise(side: int, seed: int) -> Tensor:
    """Uniform noise in [0, 1], (1, 1, side, side), float64."""
    return torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
