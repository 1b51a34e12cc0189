"""Is a result what it says it is? Judged in NumPy, without ``solvers.certify``.

For a dual y the gap of a point d falls into parts, none negative while d is feasible::

    bound - objective = sum_i [h_i(y_i) - (A_i d)'y_i] + [sup z'v - z'd],     z = gradient - sum_i A_i'y_i

(for the projection the last part is ``phi(d) - min phi`` over the pixel bounds, ``phi(v) = |v - q|^2/2 + (sum_i
A_i'y_i)'v``). So a certified gap within tolerance *is* dual sign, complementary slackness and stationarity within
the same tolerance, each in the objective's unit; the parts are looked at one by one to say which of them fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers.conformance.oracles.base import Array, DualParts, Oracle, box_support
from solvers.conformance.oracles.of_set import oracle_for
from solvers.conformance.oracles.window_ssim import WindowOracle
from solvers.constraints import WindowDual
from solvers.problem import LinearProblem, Problem
from solvers.result import SolveResult
from solvers.settings import Settings

# How far a set may be missed, in its own unit, by a delta of that precision; kept means and fixed pixels in pixels.
FEASIBLE = {torch.float64: 1e-8, torch.float32: 2e-6}
# What rounding does to an objective, relative to its size: a float32 delta is certified before it is rounded.
ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-6}
# As in solvers.certificate: objectives below this share of the trivial bound count as zero.
ZERO_SHARE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """One check's figure, worst over the images, and the limit that it must not exceed."""

    name: str
    figure: float
    limit: float
    image: int = 0

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return bool(self.figure <= self.limit)

    @property
    def ratio(self) -> float:
        """Figure over limit; infinite for NaN or where a limit of 0 is exceeded."""
        if np.isnan(self.figure):
            return float("inf")
        if self.limit == 0:
            return 0.0 if self.figure <= 0 else float("inf")
        return max(self.figure, 0.0) / self.limit

    def __str__(self) -> str:
        return f"{self.name}: {self.figure:.2e} (limit {self.limit:.1e}, image {self.image})"


def check_result(
    problem: Problem,
    result: SolveResult,
    settings: Settings | None = None,
    *,
    optimum: tuple[float, ...] | None = None,
) -> tuple[Outcome, ...]:
    """Check every claim of a result; one outcome per check, for the image that does worst.

    - ``shape``: delta has the problem's shape and dtype and is finite. Nothing else is looked at where it has not.
    - ``status``: images that are not OPTIMAL, or, among those with a defect, that are not failures with delta 0.
    - ``feasible``, ``equalities``: excess by the sets' definitions; kept means and fixed pixels in pixel units.
    - ``dual sign``, ``slackness``, ``stationarity``, ``gap``: as the module says, against the settings' tolerance.
      A block that is absent counts as 0: allowed for pixel bounds always, elsewhere only where the set is idle.
    - ``objective``, ``bound``, ``violation`` of the result: no better than what d and y show.
    - ``optimum``: where the optimal values (B,) are known, the objective is at most a tolerance short of them.

    Args:
        problem: the problem as it was solved; on any device, judged on the CPU.
        result: of :func:`solvers.solve`, or of like make.
        settings: the tolerances asked of the method.
        optimum: known optimal values, one per image.

    Raises:
        TypeError: a constraint set that the suite does not know.
    """
    settings = settings or Settings()
    problem = problem.to(device=torch.device("cpu"))
    shape = Outcome("shape", _misshapen(problem, result), 0.0)
    if not shape.passed:
        return (shape,)
    rows: list[list[Outcome]] = []
    for image in range(problem.batch):
        if image in problem.defects:
            moved = float(torch.as_tensor(result.delta)[image].abs().max())
            idle = result.status[image].is_failure and moved == 0
            rows.append([Outcome("status", 0.0 if idle else 1.0, 0.0, image)])
        else:
            rows.append(_check_image(problem, result, settings, image, None if optimum is None else optimum[image]))
    names = dict.fromkeys(outcome.name for row in rows for outcome in row)
    worst = [max((o for row in rows for o in row if o.name == name), key=lambda o: o.ratio) for name in names]
    return (shape, *worst)


def _misshapen(problem: Problem, result: SolveResult) -> float:
    delta = torch.as_tensor(result.delta)
    fits = delta.shape == problem.reference.shape and delta.dtype == problem.reference.dtype
    whole = len(result.status) == problem.batch and len(result.dual) == len(problem.constraints)
    return 0.0 if fits and whole and bool(delta.isfinite().all()) else 1.0


def _check_image(
    problem: Problem, result: SolveResult, settings: Settings, image: int, optimum: float | None
) -> list[Outcome]:
    view = _View(problem, torch.as_tensor(result.delta), image)
    blocks = [_block_of(block, image) for block in result.dual]
    dtype = problem.reference.dtype
    excess, missed = view.excess(), view.equality_error()
    objective = view.objective()
    parts = view.parts(blocks)
    given, stationarity = view.bound(parts)
    trivial, _ = view.bound([None] * len(blocks))
    proven = view.better(given, trivial)
    scale = max(abs(objective), abs(proven), ZERO_SHARE * view.magnitude(trivial))
    limit = settings.eps_abs + (settings.eps_rel + ROUNDING[dtype]) * scale
    if abs(trivial - objective) <= limit:
        # d is optimal by the bounds alone (a zero gradient): the multipliers have nothing to add.
        parts, stationarity = [None] * len(blocks), 0.0
    feasible = FEASIBLE[dtype] * max(1.0, view.unit())
    outcomes = [
        Outcome("status", 0.0 if result.status[image].is_optimal else 1.0, 0.0, image),
        Outcome("feasible", excess, feasible, image),
        Outcome("equalities", missed, FEASIBLE[dtype], image),
        Outcome("dual sign", sum(part.direction for part in parts if part), limit, image),
        Outcome("slackness", sum(part.slackness for part in parts if part), limit, image),
        Outcome("stationarity", stationarity, limit, image),
        Outcome("gap", abs(proven - objective), limit, image),
        Outcome("objective", abs(float(result.objective[image]) - objective), ROUNDING[dtype] * scale + 1e-15, image),
        Outcome("bound", view.lead(proven, float(result.bound[image])), 1e-8 * scale + settings.eps_abs, image),
        Outcome("violation", excess - float(result.max_violation[image]), feasible, image),
    ]
    if optimum is not None:
        outcomes.append(Outcome("optimum", view.lead(optimum, objective), limit, image))
    return outcomes


class _View:
    """One image of a problem and the point to judge, in float64 NumPy."""

    def __init__(self, problem: Problem, delta: Tensor, image: int) -> None:
        self.linear = isinstance(problem, LinearProblem)
        self.vector = problem.vector[image].double().cpu().numpy()
        self.delta = delta[image].double().cpu().numpy()
        self.oracles: list[Oracle] = [oracle_for(c, problem, image) for c in problem.constraints]
        self.lower, self.upper = np.full_like(self.delta, -np.inf), np.full_like(self.delta, np.inf)
        for oracle in self.oracles:
            limits = oracle.bounds()
            if limits is not None:
                self.lower = np.maximum(self.lower, limits[0])
                self.upper = np.minimum(self.upper, limits[1])
        self.fixed = (self.lower == 0) & (self.upper == 0)
        # No feasible point leaves the smaller box that windows imply: suprema may be taken over that.
        self.implied = self.lower, self.upper
        for oracle in self.oracles:
            if isinstance(oracle, WindowOracle):
                self.implied = oracle.implied_bounds(*self.implied)

    def excess(self) -> float:
        return max(oracle.excess(self.delta) for oracle in self.oracles)

    def equality_error(self) -> float:
        return max(oracle.equality_error(self.delta) for oracle in self.oracles)

    def unit(self) -> float:
        """The size of the sets' own units, for radii far from 1."""
        return max(oracle.unit for oracle in self.oracles)

    def objective(self) -> float:
        if self.linear:
            return float((self.vector * self.delta).sum())
        return 0.5 * float(((self.delta - self.vector) ** 2).sum())

    def parts(self, blocks: list[Any]) -> list[DualParts | None]:
        return [
            None if block is None else oracle.parts(self.delta, block)
            for oracle, block in zip(self.oracles, blocks, strict=True)
        ]

    def bound(self, parts: list[DualParts | None]) -> tuple[float, float]:
        """The dual's bound, and the last part of its gap at delta."""
        action = np.zeros_like(self.delta)
        support = 0.0
        for part in parts:
            if part is not None:
                action, support = action + part.adjoint, support + part.support
        if self.linear:
            rest = np.where(self.fixed, 0.0, self.vector - action)
            supremum = self.supremum(rest)
            return support + supremum, supremum - float((rest * self.delta).sum())
        nearest = np.clip(self.vector - action, *self.implied)
        least = 0.5 * float(((nearest - self.vector) ** 2).sum()) + float((action * nearest).sum())
        here = self.objective() + float((action * self.delta).sum())
        return least - support, here - least

    def supremum(self, direction: Array) -> float:
        """The least bound on ``sup z'v`` that the pixel bounds, or any one set, give."""
        reaches = [oracle.reach(direction) for oracle in self.oracles]
        return min(box_support(direction, *self.implied), *reaches)

    def better(self, first: float, second: float) -> float:
        """The tighter of two bounds; NaN never is."""
        known = [value for value in (first, second) if not np.isnan(value)]
        return min(known) if self.linear else max(known)

    def lead(self, first: float, second: float) -> float:
        """How much higher (linear; for the projection: lower) the first value is."""
        return first - second if self.linear else second - first

    def magnitude(self, trivial: float) -> float:
        if self.linear:
            return abs(trivial) if np.isfinite(trivial) else 0.0
        return 0.5 * float((self.vector**2).sum())


def _block_of(block: Any, image: int) -> Any:
    """One image's part of a dual block, on the CPU, in float64."""
    if block is None:
        return None
    if isinstance(block, WindowDual):
        return WindowDual(*(value[image].detach().double().cpu() for value in (block.ball, block.point, block.mean)))
    return torch.as_tensor(block)[image].detach().double().cpu().numpy()
