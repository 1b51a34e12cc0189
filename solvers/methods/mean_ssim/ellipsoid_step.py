"""``energy_step``: a linear objective over one ellipsoid of window energies and a box, or the nearest point of both.

One multiplier: at lambda the Lagrangian is maximised by ``(g/(2 lambda) + b)'d - d'Hd/2`` over the box, conjugate
gradients on the free pixels from the last d; for the point nearest to p, g is p and H has ``I/(2 lambda)`` added.
log lambda goes by secants of the logarithm of the energy used, safeguarded: without a box the energy of the linear
optimum falls as lambda^-2, and that of a projection more slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.mean_index.ellipsoid import BoundMeanSSIMStep, MeanSSIMStep
from solvers.methods.conjugate_gradients import maximise_window_quadratic
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings
from solvers.windows.quadratic import Bounds, WindowQuadratic

GRADIENTS = 8
HALVINGS = 6
ROUNDING = 1e-5  # relative, of the Lagrangian's value in single precision
# Rounds before secants of log lambda are kept in a bracket: the first ascents have not settled and make poor ends.
PATIENCE = 20
NARROW = 1e-9  # of that bracket
# Of the power of lambda with which the energy falls: of a linear optimum, and of a projection.
POWERS, PROJECTION_POWERS = (0.3, 3.0), (0.02, 3.0)
LONGEST = 1.5  # of a log step


def _refuses(problem: Problem) -> str | None:
    count = len(problem.find(MeanSSIMStep))
    return None if count == 1 else f"takes one MeanSSIMStep, got {count}"


@register_method(
    "energy_step",
    problems=(LinearProblem, ProjectionProblem),
    required={"MeanSSIMStep", "Box"},
    optional={"Support"},
    warm_start=True,
    accepts=_refuses,
)
def energy_step(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """One ellipsoid of window energies and a box, the convex step of MeanSSIM: conjugate gradients, one multiplier."""
    monitor = Monitor(problem, settings)
    exact = monitor.problem
    dtype = settings.dtype or problem.reference.dtype
    position = exact.find(MeanSSIMStep)[0]
    monitor.setup_done()
    none: list[DualBlock | None] = [None] * len(exact.constraints)
    # The nearest point, if it is inside; 0 always is.
    monitor.check(0, torch.zeros_like(exact.vector) if isinstance(exact, LinearProblem) else exact.vector, none)
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

    def __init__(self, problem: Problem, dtype: torch.dtype, position: int, warm_start: SolveResult | None) -> None:
        self.images = torch.arange(problem.batch, device=problem.reference.device)
        self.problem, self.position = problem.to(dtype=dtype), position
        sets = [constraint.bind(self.problem.reference) for constraint in self.problem.constraints]
        self.lower, self.upper = elementwise_bounds(self.problem, sets)
        self.vector = self.problem.vector
        self.projects = isinstance(problem, ProjectionProblem)
        self._bind()
        tiny = torch.finfo(dtype).tiny
        self.log = self._first_multiplier().clamp_min(tiny**0.5).log()
        self.delta = torch.zeros_like(self.vector)
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
        self.rounds = 0
        self.low, self.high = torch.full_like(self.log, -torch.inf), torch.full_like(self.log, torch.inf)

    def _bind(self) -> None:
        bound = self.problem.constraints[self.position].bind(self.problem.reference)
        assert isinstance(bound, BoundMeanSSIMStep)
        self.bound = bound
        self.diagonal = bound.diagonal().clamp_min(torch.finfo(bound.slope.dtype).tiny)

    def _first_multiplier(self) -> Tensor:
        """As if the box were far, and H its diagonal (for a projection, a multiple of the identity along p)."""
        bound, vector = self.bound, self.vector
        tiny = torch.finfo(vector.dtype).tiny
        if self.projects:
            energy = bound.energy(vector)
            share = energy / inner(vector, vector).clamp_min(tiny)
            return ((energy / bound.level.clamp_min(tiny)).sqrt() - 1).clamp_min(1e-3) / (2 * share).clamp_min(tiny)
        size = inner(vector, vector / self.diagonal)
        level = (bound.level + inner(bound.shift, bound.shift / self.diagonal)).clamp_min(tiny)
        return 0.5 * (size / level).sqrt()

    def keep(self, running: Tensor) -> None:
        stays = running[self.images]
        if bool(stays.all()):
            return
        index = stays.nonzero()[:, 0]
        self.problem = self.problem.select(index)
        self._bind()
        images = ("images", "lower", "upper", "vector", "delta", "raw")
        numbers = ("log", "last_log", "last_used", "low", "high")
        for name in images + numbers:
            setattr(self, name, getattr(self, name)[index])

    def advance(self) -> None:
        """Conjugate gradients at the multiplier, then a step of it."""
        bound = self.bound
        pull = per_image(0.5 * (-self.log).exp())
        right = self.vector * pull + bound.shift
        steps = torch.full_like(self.images, GRADIENTS)
        added = pull if self.projects else 0.0
        quadratic = WindowQuadratic(bound.slope + added, bound.weights, right, self.diagonal + added)
        bounds = Bounds(self.lower, self.upper)
        moved = maximise_window_quadratic(bound.operator, quadratic, self.delta, bounds, steps, GRADIENTS)
        self.raw = moved
        energy, along = self._clip_while_it_pays(moved, pull[:, 0, 0, 0])
        slack = 2 * along.abs() + torch.finfo(along.dtype).tiny
        used = ((energy - 2 * along + slack) / (bound.level + slack)).clamp_min(1e-12).log()
        power = -(used - self.last_used) / (self.log - self.last_log)
        power = torch.where(power.isfinite(), power, 2.0)
        power = power.clamp(*(PROJECTION_POWERS if self.projects else POWERS))
        self.last_log, self.last_used = self.log, used
        self.rounds += 1
        if self.rounds > PATIENCE:
            self._tighten(used)
        trial = self.log + (used / power).clamp(-LONGEST, LONGEST)
        outside = (trial < self.low) | (trial > self.high)
        self.log = torch.where(outside, (self.low + self.high) / 2, trial)

    def _tighten(self, used: Tensor) -> None:
        """Move the bracket's end. Ascents that have not settled may contradict it: then it opens at the other end."""
        above = used > 0
        low, high = torch.where(above, self.log, self.low), torch.where(above, self.high, self.log)
        shut = high - low <= NARROW
        self.low = torch.where(shut & ~above, -torch.inf, low)
        self.high = torch.where(shut & above, torch.inf, high)

    def _clip_while_it_pays(self, moved: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Take the clipped point, or one nearer to the last where clipping would lower the Lagrangian: from there the
        same pixels would be let go again, for ever. Returns ``d'Hd`` and ``b'd`` of it."""

        def parts(delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            energy, along = self.bound.energy(delta), inner(self.bound.shift, delta)
            value = inner(self.vector, delta) * pull + along - 0.5 * energy
            return energy, along, value - 0.5 * pull * inner(delta, delta) if self.projects else value

        start = self.delta
        delta = moved.clamp(self.lower, self.upper)
        before = parts(start)[2]
        energy, along, value = parts(delta)
        length = torch.ones_like(value)
        for _ in range(HALVINGS):
            worse = value < before - ROUNDING * before.abs()
            if not bool(worse.any()):
                break
            length = torch.where(worse, length / 2, length)
            delta = (start + per_image(length) * (moved - start)).clamp(self.lower, self.upper)
            energy, along, value = parts(delta)
        self.delta = delta
        return energy, along

    def block(self) -> Tensor:
        """The multiplier and the point of the last ascent, (K, 1 + C*H*W)."""
        return torch.cat([self.last_log.exp()[:, None], self.raw.flatten(1)], dim=1)
