"""``mean_windows``: mean SSIM over windows that overlap, by convex steps to a stationary point.

Around the point d_k it has, every step

1. replaces the constraint by one ellipsoid (:mod:`solvers.constraints.mean_index.ellipsoid`) and solves that convex
   problem to a certified gap (:mod:`.ellipsoid_step`): a point s and an upper bound B;
2. tries ``d_k + t (s - d_k)``, brought into the box and scaled onto the exact index: longer steps t as long as they
   pay, shorter ones where t = 1 does not pay. The objective never falls.

An image ends where B is hardly more than its objective. That end is *stationary*: no feasible direction of first order
gains more. It is no global optimum, and the only global bound is the box's. The page docs/methods/mean-ssim.md has the
mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers import clock
from solvers.batch_algebra import all_finite, per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.mean_ssim import BoundMeanSSIM, MeanSSIM
from solvers.methods.mean_ssim.ellipsoid_step import energy_step
from solvers.methods.refusals import unless_single
from solvers.methods.time_plan import TimePlan
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import History, HistoryRow, MethodOutput, SolveResult, Status
from solvers.settings import Progress, Settings

# The convex problem of a step: its certified gap, as a share of the tolerance of stationarity; its limit and checks.
STEP_GAP_SHARE, STEP_ITERATIONS, STEP_CHECK_INTERVAL = 0.25, 200, 5
# The lengths t that are tried. At 1 the step ends at the convex problem's solution.
LONGER_STEPS = (1.0, 2.0, 4.0, 8.0)
SHORTER_STEPS = (0.5, 0.25, 0.125, 0.0625)
# An image whose objective rises by no more than this share in a step ends.
MIN_RELATIVE_RISE = 1e-5
# What an iteration takes at least, and what a point takes to be brought onto the index, as multiples of the time that
# binding the sets took (measured at 3x512x512 and 3x1024x1024).
SHORTEST_ITERATION_COST, ACCEPTED_POINT_COST = 4.0, 8.0
# The smallest tolerance of stationarity.
MIN_TOLERANCE = 1e-5


def _refusal(problem: Problem) -> str | None:
    """Why the method can't take the problem, or ``None``."""
    reason = unless_single(problem, MeanSSIM)
    if reason is not None:
        return reason
    constraint = problem.constraints[problem.find(MeanSSIM)[0]]
    assert isinstance(constraint, MeanSSIM)
    if constraint.luminance is not None:
        return f"takes MeanSSIM with luminance=None, got {constraint.luminance!r} (tiles take it)"
    return None


@register_method(
    "mean_windows",
    problems=(LinearProblem,),
    required={"MeanSSIM", "Box"},
    optional={"Support"},
    warm_start=True,
    compiled=True,
    certifies="stationary",
    accepts=_refusal,
)
def mean_windows(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Mean SSIM, any windows, not convex: certified convex steps to a stationary point; no global bound."""
    plan = TimePlan(problem, settings)
    exact = problem.to(dtype=torch.float64)
    assert isinstance(exact, LinearProblem)
    state = _State(exact, settings, settings.dtype or problem.reference.dtype)
    if warm_start is not None:
        state.accept(torch.as_tensor(warm_start.delta).to(state.delta), state.running)
    plan.setup_done()
    point_cost = ACCEPTED_POINT_COST * plan.binding_time
    plan.expect_check(point_cost, point_cost)
    if clock.now() + SHORTEST_ITERATION_COST * plan.binding_time >= plan.iterations_end:
        state.end_all(Status.TIME_LIMIT, "no time for a first step")
    history: list[HistoryRow] = []
    iteration = 0
    while bool(state.running.any()):
        # Solve the convex problem around the present points, as well as there is time for it.
        iteration += 1
        images = state.running.nonzero()[:, 0]
        before = state.objective[images]
        with clock.deadline(plan.iterations_end):
            convex = state.solve_convex_problem(images)

        # Go along the step as far as it pays.
        plan.begin_check()
        state.search_along(images, convex.delta, plan)
        plan.check_done(state.certificate_cost, of_iterate=True)

        # All termination tests: stationary or stuck; stopped by the callback; the limits.
        state.end_stationary(images, before, convex, iteration)
        history.append(_history_row(iteration, plan.elapsed, state.objective))
        if _calls_off(settings, history[-1], state.objective):
            state.end_all(Status.STOPPED, "stopped by the callback")
        if iteration >= settings.max_iter:
            state.end_all(Status.MAX_ITER, "not stationary yet")
        if clock.now() + SHORTEST_ITERATION_COST * plan.binding_time >= plan.iterations_end:
            state.end_all(Status.TIME_LIMIT, "not stationary yet")
    return MethodOutput(
        delta=state.delta,
        dual=(None,) * len(exact.constraints),
        status=tuple(state.status),
        iterations=tuple(state.iterations),
        history=History(history),
        setup_time=plan.setup_time,
        messages=tuple(f"{message}; no global bound" for message in state.messages),
    )


@dataclass(frozen=True, eq=False)
class _ConvexSolution:
    """What the convex problem around the present points gave for K images.

    Attributes:
        delta: its point, (K, C, H, W).
        bound: the certified upper bound on its optimum, (K,).
        cut_short: whether there was no time to solve it, (K,) bool.
    """

    delta: Tensor
    bound: Tensor
    cut_short: Tensor


class _State:
    """The best feasible point of every image, and which images still run.

    Attributes:
        problem: the problem of the whole batch, float64.
        position: the position of MeanSSIM among the constraints.
        lower, upper: the pixel bounds, (B, C, H, W) each.
        delta, objective: the best feasible points, (B, C, H, W), and their objectives, (B,).
        running: (B,) bool.
        status, iterations, messages: one per image.
        step_duals: the dual block of each image's last convex problem, (B, 1 + C*H*W); NaN before the first.
        tolerance: of stationarity: the relative gain that the convex problem may still promise.
        step_settings: the settings of the convex problems.
        certificate_cost: seconds that the slowest :meth:`accept` took; the final certificate computes the same.
    """

    def __init__(self, problem: LinearProblem, settings: Settings, dtype: torch.dtype) -> None:
        self.problem = problem
        self.position = problem.find(MeanSSIM)[0]
        batch = problem.batch
        self.delta = torch.zeros_like(problem.reference)
        self.objective = problem.objective(self.delta)
        self.running = torch.ones(batch, dtype=torch.bool, device=self.delta.device)
        self.status = [Status.MAX_ITER] * batch
        self.iterations, self.messages = [0] * batch, [""] * batch
        sets = [constraint.bind(problem.reference) for constraint in problem.constraints]
        self.lower, self.upper = elementwise_bounds(problem, sets)
        block_shape = (batch, 1 + self.delta[0].numel())
        self.step_duals = torch.full(block_shape, torch.nan, dtype=self.delta.dtype).to(self.delta)
        self.certificate_cost = 0.0
        self.tolerance = max(settings.eps_rel, MIN_TOLERANCE)
        self.step_settings = Settings(
            eps_rel=STEP_GAP_SHARE * self.tolerance,
            max_iter=STEP_ITERATIONS,
            check_interval=STEP_CHECK_INTERVAL,
            dtype=dtype,
        )

    def solve_convex_problem(self, images: Tensor) -> _ConvexSolution:
        """Replace the index by an ellipsoid around the points of ``images`` (long) and solve that problem, from the
        dual of the last one."""
        part = self.problem.select(images)
        constraint = part.constraints[self.position]
        assert isinstance(constraint, MeanSSIM)
        ellipsoid = constraint.step(part.reference, self.delta[images])
        sets = [ellipsoid if k == self.position else other for k, other in enumerate(part.constraints)]
        convex = LinearProblem(part.gradient, part.reference, sets)
        output = energy_step(convex, self.step_settings, self._as_warm_start(images, len(sets)))
        block = output.dual[self.position]
        if block is not None:
            self.step_duals[images] = block.to(self.step_duals)
        bound = torch.tensor(output.history[-1].bound, dtype=self.objective.dtype, device=self.objective.device)
        cut_short = torch.tensor([status is Status.TIME_LIMIT for status in output.status], device=bound.device)
        return _ConvexSolution(output.delta.to(self.delta), bound, cut_short)

    def search_along(self, images: Tensor, solution: Tensor, plan: TimePlan) -> None:
        """Try points on the way from the present points to ``solution`` (K, C, H, W) and beyond: longer and longer
        steps while each is better than the last, or, where the whole step is not better, shorter ones until one is;
        none but the first where ``plan`` leaves no time for it."""

        def too_late() -> bool:
            # A further point, and the final certificate.
            return clock.now() + 2 * self.certificate_cost >= plan.deadline

        before, start = self.objective[images], self.delta[images]
        move = solution - start
        trying = self.running.clone()
        for length in LONGER_STEPS:
            chosen = trying[images]
            if not bool(chosen.any()) or (length != 1 and too_late()):
                break
            trying = trying & self.accept(start[chosen] + length * move[chosen], trying)
        trying = self.running.clone()
        trying[images] = self.objective[images] <= before
        for length in SHORTER_STEPS:
            chosen = trying[images]
            if not bool(chosen.any()) or (length != 1 and too_late()):
                break
            trying = trying & ~self.accept(start[chosen] + length * move[chosen], trying)

    def accept(self, delta: Tensor, which: Tensor) -> Tensor:
        """Bring points into the box and onto the index, and take those that are better than the best so far.

        Args:
            delta: one point for each image of ``which``, (K, C, H, W).
            which: (B,) bool.

        Returns:
            which images have a better point now, (B,) bool.
        """
        began = clock.now()
        images = which.nonzero()[:, 0]
        lower, upper = self.lower[images], self.upper[images]
        bound = self.problem.select(images).constraints[self.position].bind(self.problem.reference[images])
        assert isinstance(bound, BoundMeanSSIM)
        point = torch.where(per_image(all_finite(delta)), delta, 0.0).clamp(lower, upper)
        point = point * per_image(bound.scale_factor(point))
        value = (self.problem.gradient[images] * point).flatten(1).sum(dim=1)
        better = value > self.objective[images]
        self.delta[images[better]], self.objective[images[better]] = point[better], value[better]
        result = torch.zeros_like(which)
        result[images] = better
        self.certificate_cost = max(self.certificate_cost, clock.now() - began)
        return result

    def end_stationary(self, images: Tensor, before: Tensor, convex: _ConvexSolution, iteration: int) -> None:
        """End the images that are stationary, and those whose objective has hardly risen although there was time.

        Args:
            images: the images of this iteration, long (K,).
            before: their objectives before the step, (K,).
            convex: the solution of the convex problems. No feasible direction of first order gains more than its bound.
            iteration: the number of iterations so far.
        """
        bound = convex.bound
        promise = (bound - before) / bound.abs().clamp_min(torch.finfo(bound.dtype).tiny)
        rise = self.objective[images] - before
        stuck = (rise <= MIN_RELATIVE_RISE * self.objective[images].abs()) & ~convex.cut_short
        for k, image in enumerate(images.tolist()):
            self.iterations[image] = iteration
            gain = f"the convex problem around it promises {max(float(promise[k]), 0.0):.1e} more at most"
            if float(promise[k]) <= self.tolerance:
                self._end(image, Status.STOPPED, f"stationary: {gain}")
            elif bool(stuck[k]):
                self._end(image, Status.STOPPED, f"not stationary, but no step gains: {gain}")

    def end_all(self, status: Status, message: str) -> None:
        """End all images that still run."""
        for image in self.running.nonzero()[:, 0].tolist():
            self._end(image, status, message)

    def _end(self, image: int, status: Status, message: str) -> None:
        self.status[image], self.messages[image] = status, message
        self.running[image] = False

    def _as_warm_start(self, images: Tensor, set_count: int) -> SolveResult:
        """The duals of the last convex problems in the form of an earlier result."""
        unused = self.objective[images]
        dual: tuple[DualBlock | None, ...] = tuple(
            self.step_duals[images] if k == self.position else None for k in range(set_count)
        )
        count = len(images)
        return SolveResult(
            delta=self.delta[images], status=(Status.MAX_ITER,) * count, objective=unused, bound=unused,
            rel_gap=unused, max_violation=unused, iterations=(0,) * count, setup_time=0.0, solve_time=0.0,
            history=History(), dual=dual, method="energy_step", messages=("",) * count,
        )  # fmt: skip


def _history_row(iteration: int, seconds: float, objective: Tensor) -> HistoryRow:
    """A row without bounds: there is no global bound."""
    infinite = (float("inf"),) * len(objective)
    return HistoryRow(iteration, seconds, tuple(objective.tolist()), infinite, infinite)


def _calls_off(settings: Settings, row: HistoryRow, objective: Tensor) -> bool:
    """Show the progress to the callback; whether the callback stops the run."""
    if settings.callback is None:
        return False
    infinite = torch.full_like(objective, torch.inf)
    return bool(settings.callback(Progress(row.iteration, row.time, objective.clone(), infinite, infinite)))
