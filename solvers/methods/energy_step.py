"""``energy_step``: a linear objective over one ellipsoid of window energies and a box.

One multiplier: at lambda the Lagrangian is maximised by ``(g/(2 lambda) + b)'d - d'Hd/2`` over the box, conjugate
gradients on the free pixels from the last d, with the Hessian the same throughout. log lambda goes by secants of the
logarithm of the energy used, safeguarded: without a box the energy falls as lambda^-2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.constraints.base import DualBlock, inner, per_image
from solvers.constraints.window_energy import BoundWindowEnergy, WindowEnergy
from solvers.methods.box_gradients import ascend_windows
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

GRADIENTS = 8
# Of the power of lambda with which the energy falls.
POWERS = 0.3, 3.0
LONGEST = 1.5  # of a log step


def _refuses(problem: Problem) -> str | None:
    count = len(problem.find(WindowEnergy))
    return None if count == 1 else f"takes one WindowEnergy, got {count}"


@register_method(
    "energy_step",
    problems=(LinearProblem,),
    required={"WindowEnergy", "Box"},
    optional={"Support"},
    warm_start=True,
    accepts=_refuses,
)
def energy_step(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """One ellipsoid of window energies and a box, the convex step of MeanSSIM: conjugate gradients, one multiplier."""
    monitor = Monitor(problem, settings)
    exact = monitor.problem
    assert isinstance(exact, LinearProblem)
    dtype = settings.dtype or problem.reference.dtype
    position = exact.find(WindowEnergy)[0]
    monitor.setup_done()
    none: list[DualBlock | None] = [None] * len(exact.constraints)
    monitor.check(0, torch.zeros_like(exact.gradient), none)
    state = _State(exact, dtype, position, warm_start)
    iteration = 0
    while bool(monitor.running.any()):
        state.keep(monitor.running)
        while True:
            iteration += 1
            state.advance()
            if monitor.due(iteration):
                break
        dual = list(none)
        dual[position] = state.block()
        monitor.check(iteration, state.delta, dual, state.images)
    return monitor.output()


class _State:
    """The images that still run: log lambda (K,), d within the box, and the secant's memory."""

    def __init__(
        self, problem: LinearProblem, dtype: torch.dtype, position: int, warm_start: SolveResult | None
    ) -> None:
        self.images = torch.arange(problem.batch, device=problem.reference.device)
        self.problem, self.position = problem.to(dtype=dtype), position
        sets = [constraint.bind(self.problem.reference) for constraint in self.problem.constraints]
        self.lower, self.upper = elementwise_bounds(self.problem, sets)
        self.gradient = self.problem.gradient
        self._bind()
        bound = self.bound
        # As if H were its diagonal and the box far.
        size = inner(self.gradient, self.gradient / self.diagonal)
        level = (bound.level + inner(bound.shift, bound.shift / self.diagonal)).clamp_min(torch.finfo(dtype).tiny)
        tiny = torch.finfo(dtype).tiny
        self.log = (0.5 * (size / level).sqrt()).clamp_min(tiny**0.5).log()
        self.delta = torch.zeros_like(self.gradient)
        block = None if warm_start is None else warm_start.dual[position]
        if block is not None and warm_start is not None:
            given = torch.as_tensor(block).to(self.log)
            usable = given.isfinite().all(dim=1) & (given[:, 0] > 0)
            self.log = torch.where(usable, given[:, 0].clamp_min(tiny).log(), self.log)
            point = torch.where(per_image(usable), given[:, 1:].reshape(self.delta.shape), 0.0)
            self.delta = point.clamp(self.lower, self.upper)
        self.raw = self.delta
        self.last_log = torch.full_like(self.log, torch.nan)
        self.last_used = self.last_log
        self.used_log = self.log

    def _bind(self) -> None:
        bound = self.problem.constraints[self.position].bind(self.problem.reference)
        assert isinstance(bound, BoundWindowEnergy)
        self.bound = bound
        self.diagonal = bound.diagonal().clamp_min(torch.finfo(bound.slope.dtype).tiny)

    def keep(self, running: Tensor) -> None:
        stays = running[self.images]
        if bool(stays.all()):
            return
        index = stays.nonzero()[:, 0]
        self.problem = self.problem.select(index)
        self._bind()
        names = ("images", "lower", "upper", "gradient", "log", "delta", "raw", "last_log", "last_used", "used_log")
        for name in names:
            setattr(self, name, getattr(self, name)[index])

    def advance(self) -> None:
        """Conjugate gradients at the multiplier, then a step of it."""
        bound = self.bound
        right = self.gradient * per_image(0.5 * (-self.log).exp()) + bound.shift
        self.used_log = self.log
        steps = torch.full_like(self.images, GRADIENTS)
        values = bound.slope, bound.weights, right, self.diagonal, self.delta
        moved = ascend_windows(bound.operator, *values, (self.lower, self.upper), steps, GRADIENTS)
        self.raw, self.delta = moved, moved.clamp(self.lower, self.upper)
        along = inner(bound.shift, self.delta)
        slack = 2 * along.abs() + torch.finfo(along.dtype).tiny
        used = ((bound.energy(self.delta) - 2 * along + slack) / (bound.level + slack)).clamp_min(1e-12).log()
        power = -(used - self.last_used) / (self.log - self.last_log)
        power = torch.where(power.isfinite(), power, 2.0).clamp(*POWERS)
        self.last_log, self.last_used = self.log, used
        self.log = self.log + (used / power).clamp(-LONGEST, LONGEST)

    def block(self) -> Tensor:
        """The multiplier and the point of the last ascent, (K, 1 + C*H*W)."""
        return torch.cat([self.used_log.exp()[:, None], self.raw.flatten(1)], dim=1)
