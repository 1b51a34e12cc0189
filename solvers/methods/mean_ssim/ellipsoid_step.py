"""``energy_step``: a linear objective over one ellipsoid of window energies and a box, or the nearest point of both.

The set is ``d'Hd - 2 b'd <= c`` (:mod:`solvers.constraints.mean_index.ellipsoid`). With its multiplier lambda the
Lagrangian of the problem is ``2 lambda L(d) + lambda c``, where::

    L(d) = (g/(2 lambda) + b)'d - d'Hd/2

For the point nearest to p, g is p and H has ``I/(2 lambda)`` added. Each iteration

1. moves d towards the maximum of L over the box, by conjugate gradients on the free pixels from the last d;
2. moves log lambda by a secant step of the logarithm of the energy used, ``log((d'Hd - 2 b'd)/c)``.

The secant is safeguarded: the power of lambda with which the energy falls is kept within bounds. Without a box the
energy of the linear optimum falls as lambda^-2; that of a projection falls more slowly. The page
docs/methods/mean-ssim.md has the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image, take
from solvers.constraints.base import DualBlock
from solvers.constraints.mean_index.ellipsoid import BoundMeanSSIMStep, MeanSSIMStep
from solvers.methods.conjugate_gradients import maximise_window_quadratic
from solvers.methods.monitor import Monitor
from solvers.methods.refusals import unless_single
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings
from solvers.windows.quadratic import Bounds, WindowQuadratic

# Conjugate gradients of an iteration.
CG_STEPS = 8
# How often a move of d may be halved, and the relative rounding of L's value in single precision: a value that falls by
# less has not fallen.
MAX_MOVE_HALVINGS = 6
VALUE_ROUNDING = 1e-5
# The iteration after which log lambda is kept in a bracket. Before, d has not settled and would make poor ends.
BRACKET_AFTER = 20
# A bracket of this width is taken to be wrong, and opened at one end.
NARROWEST_BRACKET = 1e-9
# Bounds on the power of lambda with which the energy falls, for a linear objective and for a projection.
LINEAR_POWERS, PROJECTION_POWERS = (0.3, 3.0), (0.02, 3.0)
# The longest step of log lambda.
MAX_LOG_STEP = 1.5


@register_method(
    "energy_step",
    problems=(LinearProblem, ProjectionProblem),
    required={"MeanSSIMStep", "Box"},
    optional={"Support"},
    warm_start=True,
    compiled=True,
    accepts=partial(unless_single, kind=MeanSSIMStep),
)
def energy_step(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """One ellipsoid of window energies and a box, the convex step of MeanSSIM: conjugate gradients, one multiplier."""
    # The nearest point may be inside already; 0 always is.
    monitor = Monitor(problem, settings)
    exact = monitor.problem
    monitor.setup_done()
    no_dual: list[DualBlock | None] = [None] * len(exact.constraints)
    if isinstance(exact, LinearProblem):
        monitor.check_best()
    else:
        monitor.check(0, exact.vector, no_dual)
    lagrangian = _Lagrangian(exact.to(dtype=settings.dtype or problem.reference.dtype))
    block = None if warm_start is None else warm_start.dual[lagrangian.position]
    iterate = lagrangian.start(None if block is None else torch.as_tensor(block))
    iteration = 0
    while monitor.any_running:
        # Finished images leave.
        keep = monitor.still_running(lagrangian.images)
        if keep is not None:
            lagrangian, iterate = lagrangian.select(keep), iterate[keep]

        # Move d towards the maximum of L over the box.
        iteration += 1
        unclipped = lagrangian.maximise(iterate)
        point = lagrangian.clip_while_it_pays(iterate, unclipped)

        # Move log lambda by a secant step of the energy used.
        iterate = lagrangian.next_iterate(iterate, unclipped, point, bracket=iteration > BRACKET_AFTER)

        # Certify.
        if monitor.due(iteration):
            dual = list(no_dual)
            dual[lagrangian.position] = iterate.dual_block()
            monitor.check(iteration, iterate.delta, dual, lagrangian.images)
    return monitor.output()


@dataclass(frozen=True, eq=False)
class _Iterate:
    """The state of K images between two iterations.

    Attributes:
        log_multiplier: log lambda for the next maximisation, (K,).
        delta: d, within the box, (K, C, H, W).
        unclipped: the point of the last maximisation before clipping, (K, C, H, W).
        last_log: log lambda of the last maximisation, (K,); NaN before the first.
        last_used: the logarithm of the energy used there, (K,); NaN before the first.
        low, high: the bracket of log lambda, (K,); infinite at first.
    """

    log_multiplier: Tensor
    delta: Tensor
    unclipped: Tensor
    last_log: Tensor
    last_used: Tensor
    low: Tensor
    high: Tensor

    def __getitem__(self, index: Tensor) -> _Iterate:
        """The state of the images at ``index`` (long)."""
        return take(self, index)

    def dual_block(self) -> Tensor:
        """The multiplier and the point of the last maximisation, (K, 1 + C*H*W)."""
        return torch.cat([self.last_log.exp()[:, None], self.unclipped.flatten(1)], dim=1)


@dataclass(frozen=True, eq=False)
class _Point:
    """A point within the box: d (K, C, H, W), its energy ``d'Hd`` (K,) and ``b'd`` (K,)."""

    delta: Tensor
    energy: Tensor
    along_shift: Tensor


class _Lagrangian:
    """L for the images that still run.

    Attributes:
        problem: the problem of these images, in the iterations' dtype.
        images: long (K,), the numbers of these images in the batch.
        position: the position of the ellipsoid among the constraints.
        projects: whether the problem is a projection.
        vector: g, or the point p to project, (K, C, H, W).
        bound: the ellipsoid, bound to the images.
        bounds: the box, (K, C, H, W) each.
        diagonal: the diagonal of H, positive, (K, C, H, W).
    """

    def __init__(self, problem: Problem, images: Tensor | None = None, bounds: Bounds | None = None) -> None:
        self.problem, self.projects, self.vector = problem, isinstance(problem, ProjectionProblem), problem.vector
        self.images = torch.arange(problem.batch, device=problem.reference.device) if images is None else images
        self.position = problem.find(MeanSSIMStep)[0]
        if bounds is None:
            sets = [constraint.bind(problem.reference) for constraint in problem.constraints]
            bounds = Bounds(*elementwise_bounds(problem, sets))
        self.bounds = bounds
        bound = problem.constraints[self.position].bind(problem.reference)
        assert isinstance(bound, BoundMeanSSIMStep)
        self.bound = bound
        self.diagonal = bound.diagonal().clamp_min(torch.finfo(bound.slope.dtype).tiny)

    def select(self, keep: Tensor) -> _Lagrangian:
        """L for the images at ``keep`` (long) alone."""
        bounds = self.bounds.map(lambda image: image[keep])
        return _Lagrangian(self.problem.select(keep), self.images[keep], bounds)

    def start(self, block: Tensor | None) -> _Iterate:
        """The first state: from the dual block of an earlier result, (K, 1 + C*H*W), where that is sound."""
        tiny = torch.finfo(self.vector.dtype).tiny
        log, delta = self._first_multiplier().clamp_min(tiny**0.5).log(), torch.zeros_like(self.vector)
        if block is not None:
            earlier = block.to(log)
            sound = earlier.isfinite().all(dim=1) & (earlier[:, 0] > 0)
            log = torch.where(sound, earlier[:, 0].clamp_min(tiny).log(), log)
            point = torch.where(per_image(sound), earlier[:, 1:].reshape(delta.shape), 0.0)
            delta = self.bounds.clamp(point)
        unknown, infinite = torch.full_like(log, torch.nan), torch.full_like(log, torch.inf)
        return _Iterate(log, delta, delta, unknown, unknown, -infinite, infinite)

    def _first_multiplier(self) -> Tensor:
        """lambda, (K,), as if the box were far away, and H were its diagonal. For a projection: as if H were a multiple
        of the identity along p."""
        bound, vector = self.bound, self.vector
        tiny = torch.finfo(vector.dtype).tiny
        if self.projects:
            energy = bound.energy(vector)
            share = energy / inner(vector, vector).clamp_min(tiny)
            return ((energy / bound.level.clamp_min(tiny)).sqrt() - 1).clamp_min(1e-3) / (2 * share).clamp_min(tiny)
        size = inner(vector, vector / self.diagonal)
        level = (bound.level + inner(bound.shift, bound.shift / self.diagonal)).clamp_min(tiny)
        return 0.5 * (size / level).sqrt()

    def maximise(self, iterate: _Iterate) -> Tensor:
        """Conjugate gradients for L from the last d at the new multiplier; not clipped to the box, (K, C, H, W)."""
        bound = self.bound
        scale = _objective_scale(iterate)
        right = self.vector * per_image(scale) + bound.shift
        steps = torch.full_like(self.images, CG_STEPS)
        added = per_image(scale) if self.projects else 0.0
        quadratic = WindowQuadratic(bound.slope + added, bound.weights, right, self.diagonal + added)
        return maximise_window_quadratic(bound.operator, quadratic, iterate.delta, self.bounds, steps, CG_STEPS)

    def clip_while_it_pays(self, iterate: _Iterate, unclipped: Tensor) -> _Point:
        """The clipped point, or, where clipping would lower L, a clipped point nearer to the last d. (From a point with
        a lower L the same pixels would be freed again, for ever.)"""
        scale, start = _objective_scale(iterate), iterate.delta

        def evaluate(delta: Tensor) -> tuple[_Point, Tensor]:
            energy, along_shift = self.bound.energy(delta), inner(self.bound.shift, delta)
            value = inner(self.vector, delta) * scale + along_shift - 0.5 * energy
            if self.projects:
                value = value - 0.5 * scale * inner(delta, delta)
            return _Point(delta, energy, along_shift), value

        before = evaluate(start)[1]
        point, value = evaluate(self.bounds.clamp(unclipped))
        length = torch.ones_like(value)
        for _ in range(MAX_MOVE_HALVINGS):
            worse = value < before - VALUE_ROUNDING * before.abs()
            if not bool(worse.any()):
                break
            length = torch.where(worse, length / 2, length)
            point, value = evaluate(self.bounds.clamp(start + per_image(length) * (unclipped - start)))
        return point

    def next_iterate(self, iterate: _Iterate, unclipped: Tensor, point: _Point, *, bracket: bool) -> _Iterate:
        """The state after a secant step of log lambda.

        Args:
            iterate: the state before the maximisation.
            unclipped: what :meth:`maximise` gave.
            point: what :meth:`clip_while_it_pays` gave.
            bracket: whether log lambda is kept in the bracket.
        """
        level, along = self.bound.level, point.along_shift
        # (d'Hd - 2 b'd)/c, with 2 |b'd| added to both, so that the logarithm exists.
        slack = 2 * along.abs() + torch.finfo(along.dtype).tiny
        used = ((point.energy - 2 * along + slack) / (level + slack)).clamp_min(1e-12).log()
        # The energy falls as lambda^-power.
        power = -(used - iterate.last_used) / (iterate.log_multiplier - iterate.last_log)
        power = torch.where(power.isfinite(), power, 2.0)
        power = power.clamp(*(PROJECTION_POWERS if self.projects else LINEAR_POWERS))
        low, high = _bracket(iterate, used) if bracket else (iterate.low, iterate.high)
        trial = iterate.log_multiplier + (used / power).clamp(-MAX_LOG_STEP, MAX_LOG_STEP)
        outside = (trial < low) | (trial > high)
        return replace(
            iterate,
            log_multiplier=torch.where(outside, (low + high) / 2, trial),
            delta=point.delta,
            unclipped=unclipped,
            last_log=iterate.log_multiplier,
            last_used=used,
            low=low,
            high=high,
        )


def _objective_scale(iterate: _Iterate) -> Tensor:
    """``1/(2 lambda)``, the factor of the objective in L, (K,)."""
    return 0.5 * (-iterate.log_multiplier).exp()


def _bracket(iterate: _Iterate, used: Tensor) -> tuple[Tensor, Tensor]:
    """The bracket of log lambda with one end moved to the present one. A d that has not settled may contradict the
    bracket and shut it; then the bracket is opened at the other end."""
    above = used > 0
    low = torch.where(above, iterate.log_multiplier, iterate.low)
    high = torch.where(above, iterate.high, iterate.log_multiplier)
    shut = high - low <= NARROWEST_BRACKET
    return torch.where(shut & ~above, -torch.inf, low), torch.where(shut & above, torch.inf, high)
