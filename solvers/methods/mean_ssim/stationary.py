"""``mean_windows``: mean SSIM over windows that overlap, by convex steps to a stationary point.

Around the point it has, every step replaces the constraint by one ellipsoid
(:mod:`solvers.constraints.mean_index.ellipsoid`), solves that convex problem to a certified gap, and brings the
solution back onto the exact index by scaling; it goes further along the step as long as that pays. Objectives never
fall. The end is *stationary*: the convex problem around it has a certified optimum that is hardly better. It is no
global optimum, and the only bound is the box's.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from solvers.batch_algebra import per_image
from solvers.constraints.mean_ssim import BoundMeanSSIM, MeanSSIM
from solvers.methods.mean_ssim.ellipsoid_step import energy_step
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import History, HistoryRow, MethodOutput, SolveResult, Status
from solvers.settings import Progress, Settings

STEP_GAP = 0.25  # certified, of each convex step: a share of the tolerance of stationarity
STEP_ITERATIONS = 200
# How far along a step is tried: 1 is its solution; further as long as that pays, less far where 1 does not.
FURTHER = (1.0, 2.0, 4.0, 8.0)
SHORTER = (0.5, 0.25, 0.125, 0.0625)
# What a step must gain, relative to the objective, or the image ends.
RISE = 1e-5


def _refuses(problem: Problem) -> str | None:
    sets = [problem.constraints[k] for k in problem.find(MeanSSIM)]
    if len(sets) != 1:
        return f"takes one MeanSSIM, got {len(sets)}"
    assert isinstance(sets[0], MeanSSIM)
    if sets[0].luminance is not None:
        return f"takes MeanSSIM with luminance=None, got {sets[0].luminance!r} (tiles take it)"
    return None


@register_method(
    "mean_windows",
    problems=(LinearProblem,),
    required={"MeanSSIM", "Box"},
    optional={"Support"},
    warm_start=True,
    certifies="stationary",
    accepts=_refuses,
)
def mean_windows(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Mean SSIM, any windows, not convex: certified convex steps to a stationary point; no global bound."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    assert isinstance(exact, LinearProblem)
    state = _State(exact, settings, settings.dtype or problem.reference.dtype)
    if warm_start is not None:
        state.accept(torch.as_tensor(warm_start.delta).to(state.delta), state.running)
    setup_time = time.perf_counter() - started
    rows: list[HistoryRow] = []
    infinite = (float("inf"),) * problem.batch
    while bool(state.running.any()):
        state.step()
        seconds = time.perf_counter() - started
        objective = state.objective
        rows.append(HistoryRow(state.steps, seconds, tuple(objective.tolist()), infinite, infinite))
        if settings.callback is not None:
            nothing = torch.full_like(objective, torch.inf)
            if settings.callback(Progress(state.steps, seconds, objective.clone(), nothing, nothing)):
                state.end(Status.STOPPED, "stopped by the callback")
        if state.steps >= settings.max_iter:
            state.end(Status.MAX_ITER, "not stationary yet")
        if seconds >= settings.time_limit:
            state.end(Status.TIME_LIMIT, "not stationary yet")
    return MethodOutput(
        delta=state.delta,
        dual=(None,) * len(exact.constraints),
        status=tuple(state.status),
        iterations=tuple(state.iterations),
        history=History(rows),
        setup_time=setup_time,
        messages=tuple(f"{message}; no global bound" for message in state.messages),
    )


class _State:
    """The best feasible point of every image, and who still runs."""

    def __init__(self, problem: LinearProblem, settings: Settings, dtype: torch.dtype) -> None:
        self.problem = problem
        self.position = problem.find(MeanSSIM)[0]
        batch = problem.batch
        self.delta = torch.zeros_like(problem.reference)
        self.objective = problem.objective(self.delta)
        self.running = torch.ones(batch, dtype=torch.bool, device=self.delta.device)
        self.status = [Status.MAX_ITER] * batch
        self.iterations, self.messages = [0] * batch, [""] * batch
        self.steps = 0
        sets = [constraint.bind(problem.reference) for constraint in problem.constraints]
        self.lower, self.upper = elementwise_bounds(problem, sets)
        self.warm = torch.full((batch, 1 + self.delta[0].numel()), torch.nan, dtype=self.delta.dtype).to(self.delta)
        self.tolerance = max(settings.eps_rel, 1e-5)
        self.settings = Settings(
            eps_rel=STEP_GAP * self.tolerance, max_iter=STEP_ITERATIONS, check_interval=5, dtype=dtype
        )

    def step(self) -> None:
        """One convex step of the images that run, and what comes of it."""
        images = self.running.nonzero()[:, 0]
        part = self.problem.select(images)
        constraint = part.constraints[self.position]
        assert isinstance(constraint, MeanSSIM)
        model = constraint.step(part.reference, self.delta[images])
        sets = [model if k == self.position else c for k, c in enumerate(part.constraints)]
        convex = LinearProblem(part.gradient, part.reference, sets)
        output = energy_step(convex, self.settings, self._start(images, len(sets)))
        block = output.dual[self.position]
        if block is not None:
            self.warm[images] = block.to(self.warm)
        before = self.objective[images]
        move = output.delta.to(self.delta) - self.delta[images]
        start = self.delta[images]
        for reaches, repeat in ((FURTHER, True), (SHORTER, False)):
            trying = self.running.clone()
            if not repeat:
                trying[images] = self.objective[images] <= before
            for reach in reaches:
                own = trying[images]
                if not bool(own.any()):
                    break
                better = self.accept(start[own] + reach * move[own], trying)
                trying = trying & (better if repeat else ~better)
        self.steps += 1
        rise = self.objective[images] - before
        stuck = rise <= RISE * self.objective[images].abs()
        # The convex problem's own bound: no feasible direction of first order gains more.
        bound = torch.tensor(output.history[-1].bound, dtype=before.dtype, device=before.device)
        promise = (bound - before) / bound.abs().clamp_min(torch.finfo(bound.dtype).tiny)
        for k, image in enumerate(images.tolist()):
            self.iterations[image] = self.steps
            gain = f"the convex problem around it promises {max(float(promise[k]), 0.0):.1e} more at most"
            if float(promise[k]) <= self.tolerance:
                self._finish(image, Status.STOPPED, f"stationary: {gain}")
            elif bool(stuck[k]):
                self._finish(image, Status.STOPPED, f"not stationary, but no step gains: {gain}")

    def accept(self, delta: Tensor, which: Tensor) -> Tensor:
        """Take points for the images ``which`` (B,) bool, brought into the box and onto the index, where they are
        better; whether they were, (B,). ``delta``: (number of which, C, H, W)."""
        images = which.nonzero()[:, 0]
        lower, upper = self.lower[images], self.upper[images]
        bound = self.problem.select(images).constraints[self.position].bind(self.problem.reference[images])
        assert isinstance(bound, BoundMeanSSIM)
        point = torch.where(per_image(delta.isfinite().flatten(1).all(dim=1)), delta, 0.0).clamp(lower, upper)
        point = point * per_image(bound.scale_factor(point))
        value = (self.problem.gradient[images] * point).flatten(1).sum(dim=1)
        better = value > self.objective[images]
        self.delta[images[better]], self.objective[images[better]] = point[better], value[better]
        result = torch.zeros_like(which)
        result[images] = better
        return result

    def end(self, status: Status, message: str) -> None:
        """End all images that still run."""
        for image in self.running.nonzero()[:, 0].tolist():
            self._finish(image, status, message)

    def _finish(self, image: int, status: Status, message: str) -> None:
        self.status[image], self.messages[image] = status, message
        self.running[image] = False

    def _start(self, images: Tensor, sets: int) -> SolveResult:
        """The last step's multipliers and points, in the form of a warm start."""
        nothing = self.objective[images]
        dual = tuple(self.warm[images] if k == self.position else None for k in range(sets))
        count = len(images)
        return SolveResult(
            delta=self.delta[images], status=(Status.MAX_ITER,) * count, objective=nothing, bound=nothing,
            rel_gap=nothing, max_violation=nothing, iterations=(0,) * count, setup_time=0.0, solve_time=0.0,
            history=History(), dual=dual, method="energy_step", messages=("",) * count,
        )  # fmt: skip
