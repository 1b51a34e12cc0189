"""Check the claims of a result in NumPy, without ``solvers.certify``.

For a dual y the gap of a point d is a sum of parts. None of them is negative where d is feasible::

    bound - objective = sum_i [h_i(y_i) - (A_i d)'y_i] + [sup z'v - z'd],     z = gradient - sum_i A_i'y_i

For the projection the last part is ``phi(d) - min phi`` over the pixel bounds, with ``phi(v) = |v - q|^2/2 + (sum_i
A_i'y_i)'v``. So a certified gap within tolerance *is* dual sign, complementary slackness and stationarity within the
same tolerance, each in the objective's unit. The checks look at the parts one by one, to say which of them fails.
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

# By how much a delta of each precision may miss a set, in the set's unit; kept means and fixed pixels in pixels.
MAX_EXCESS = {torch.float64: 1e-8, torch.float32: 2e-6}
# By how much rounding may change an objective, relatively: a float32 delta is certified before it is rounded.
OBJECTIVE_ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-6}
# As in solvers.certificate: objectives below this share of the trivial bound count as zero.
ZERO_SHARE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check.

    Attributes:
        name: the check, as :func:`check_result` lists them.
        figure: what was measured, for the image that does worst.
        limit: what the figure must not exceed.
        image: the number of that image.
    """

    name: str
    figure: float
    limit: float
    image: int = 0

    @property
    def passed(self) -> bool:
        """Whether the figure is within the limit; False for NaN."""
        return bool(self.figure <= self.limit)

    @property
    def ratio(self) -> float:
        """The figure divided by the limit; infinite for NaN, and where a limit of 0 is exceeded."""
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
    """Check every claim of a result. Each check has one outcome, for the image that does worst.

    - ``shape``: delta has the problem's shape and dtype and is finite. Where this fails, nothing else is checked.
    - ``status``: 0 where an image is OPTIMAL, or where an image with a defect is a failure with delta 0; 1 otherwise.
    - ``feasible``, ``equalities``: the excess by the sets' definitions; kept means and fixed pixels in pixel units.
    - ``dual sign``, ``slackness``, ``stationarity``, ``gap``: the parts of the gap, as the module says, against the
      settings' tolerance. An absent block counts as 0, which closes the gap only for pixel bounds and inactive sets.
    - ``objective``, ``bound``, ``violation``: the result's own figures are no better than what d and y show.
    - ``optimum``: the objective is at most a tolerance short of the optimal value, where that is known.

    Args:
        problem: the problem as it was solved, on any device; it is judged on the CPU.
        result: a result of :func:`solvers.solve`, or of another solver in the same form.
        settings: the tolerances asked of the method. Default: those of :class:`~solvers.Settings`.
        optimum: the optimal values, one per image. Default: not known.

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
            largest = float(torch.as_tensor(result.delta)[image].abs().max())
            rejected = result.status[image].is_failure and largest == 0
            rows.append([Outcome("status", 0.0 if rejected else 1.0, 0.0, image)])
        else:
            rows.append(_check_image(problem, result, settings, image, None if optimum is None else optimum[image]))
    names = dict.fromkeys(outcome.name for row in rows for outcome in row)
    worst = [max((o for row in rows for o in row if o.name == name), key=lambda o: o.ratio) for name in names]
    return (shape, *worst)


def _misshapen(problem: Problem, result: SolveResult) -> float:
    """0 where the result has the problem's form and its delta is finite, 1 otherwise."""
    delta = torch.as_tensor(result.delta)
    fits = delta.shape == problem.reference.shape and delta.dtype == problem.reference.dtype
    complete = len(result.status) == problem.batch and len(result.dual) == len(problem.constraints)
    return 0.0 if fits and complete and bool(delta.isfinite().all()) else 1.0


def _check_image(
    problem: Problem, result: SolveResult, settings: Settings, image: int, optimum: float | None
) -> list[Outcome]:
    view = _View(problem, torch.as_tensor(result.delta), image)
    blocks = [_block_of(block, image) for block in result.dual]
    dtype = problem.reference.dtype
    excess, equality_error = view.excess(), view.equality_error()
    objective = view.objective()
    parts = view.parts(blocks)
    dual_bound, stationarity = view.bound(parts)
    trivial, _ = view.bound([None] * len(blocks))
    proven = view.better(dual_bound, trivial)
    scale = max(abs(objective), abs(proven), ZERO_SHARE * view.magnitude(trivial))
    limit = settings.eps_abs + (settings.eps_rel + OBJECTIVE_ROUNDING[dtype]) * scale
    if abs(trivial - objective) <= limit:
        # The pixel bounds alone show that d is optimal (a zero gradient): no multiplier is needed.
        parts, stationarity = [None] * len(blocks), 0.0
    max_excess = MAX_EXCESS[dtype] * max(1.0, view.unit())
    rounding = OBJECTIVE_ROUNDING[dtype] * scale + 1e-15
    outcomes = [
        Outcome("status", 0.0 if result.status[image].is_optimal else 1.0, 0.0, image),
        Outcome("feasible", excess, max_excess, image),
        Outcome("equalities", equality_error, MAX_EXCESS[dtype], image),
        Outcome("dual sign", sum(part.direction for part in parts if part), limit, image),
        Outcome("slackness", sum(part.slackness for part in parts if part), limit, image),
        Outcome("stationarity", stationarity, limit, image),
        Outcome("gap", abs(proven - objective), limit, image),
        Outcome("objective", abs(float(result.objective[image]) - objective), rounding, image),
        Outcome("bound", view.lead(proven, float(result.bound[image])), 1e-8 * scale + settings.eps_abs, image),
        Outcome("violation", excess - float(result.max_violation[image]), max_excess, image),
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
            bounds = oracle.bounds()
            if bounds is not None:
                self.lower = np.maximum(self.lower, bounds[0])
                self.upper = np.minimum(self.upper, bounds[1])
        self.fixed = (self.lower == 0) & (self.upper == 0)
        # Every feasible point lies in the smaller box that the windows imply, so suprema may be taken over that box.
        self.implied = self.lower, self.upper
        for oracle in self.oracles:
            if isinstance(oracle, WindowOracle):
                self.implied = oracle.implied_bounds(*self.implied)

    def excess(self) -> float:
        return max(oracle.excess(self.delta) for oracle in self.oracles)

    def equality_error(self) -> float:
        return max(oracle.equality_error(self.delta) for oracle in self.oracles)

    def unit(self) -> float:
        """The largest of the sets' units, for sets whose radius is far from 1."""
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
        """The dual's bound, and the last part of the gap at delta: stationarity."""
        action = np.zeros_like(self.delta)
        support = 0.0
        for part in parts:
            if part is not None:
                action, support = action + part.adjoint, support + part.support
        if self.linear:
            z = np.where(self.fixed, 0.0, self.vector - action)
            supremum = self.supremum(z)
            return support + supremum, supremum - float((z * self.delta).sum())
        minimiser = np.clip(self.vector - action, *self.implied)
        minimum = 0.5 * float(((minimiser - self.vector) ** 2).sum()) + float((action * minimiser).sum())
        value = self.objective() + float((action * self.delta).sum())
        return minimum - support, value - minimum

    def supremum(self, direction: Array) -> float:
        """The smallest of the bounds on ``sup z'v`` that the pixel bounds and each set by itself give."""
        reaches = [oracle.reach(direction) for oracle in self.oracles]
        return min(box_support(direction, *self.implied), *reaches)

    def better(self, first: float, second: float) -> float:
        """The tighter of two bounds; a bound that is NaN is passed over."""
        valid = [value for value in (first, second) if not np.isnan(value)]
        return min(valid) if self.linear else max(valid)

    def lead(self, first: float, second: float) -> float:
        """By how much the first value is higher; for the projection, lower."""
        return first - second if self.linear else second - first

    def magnitude(self, trivial: float) -> float:
        """The size of the objective, to tell a gap from rounding; ``trivial`` is the bound of no dual."""
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
