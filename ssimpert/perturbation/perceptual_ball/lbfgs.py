"""L-BFGS on a batch of independent problems, in step with ``torch.optim.LBFGS`` where no box or line search is asked.

Every problem has its own curvature pairs, step length and end; one that is done is neither evaluated nor moved again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

LineSearch = Literal["none", "backtracking"]
# Points (K, n) and their problems' numbers (K,) to values (K,), gradients (K, n), and (K, q) further numbers that the
# caller wants kept of each iterate (q may be 0).
Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

SUFFICIENT_DECREASE = 1e-4
LEAST_CURVATURE = 1e-10
SHORTER, SHORTEST = 0.5, 0.1  # a step length found too long falls to between these fractions of itself
MOST_TRIALS = 20
SHORT_STEPS = 5
CONVERGED = "the objective hardly falls any more"
ZERO_GRADIENT = "the gradient is zero everywhere at the start"


@dataclass(frozen=True)
class LBFGSSettings:
    """How to descend; the defaults are those of ``torch.optim.LBFGS``, the number of iterations aside.

    Attributes:
        iterations: most iterations, at least 1.
        history_size: curvature pairs kept of each problem, at least 1.
        line_search: "none" takes every step at full length (the first one at ``min(1, 1/|g|_1)``);
            "backtracking" shortens it until the value falls by the rule of Armijo.
        most_evaluations: stop a problem at this many; ``None``: no limit.
        tolerance_gradient: stop where no entry of the gradient is larger.
        tolerance_change: stop where no entry, or the value, changes by more, or the slope is less steep.
        relative_change: stop where the value changes by less than this part of itself, from the sixth step on (the
            first ones are short); 0 (torch's): never.
    """

    iterations: int = 100
    history_size: int = 100
    line_search: LineSearch = "none"
    most_evaluations: int | None = None
    tolerance_gradient: float = 1e-7
    tolerance_change: float = 1e-9
    relative_change: float = 0.0


@dataclass
class CurvaturePairs:
    """The last curvature pairs of B problems in n unknowns, and the two-loop recursion on them.

    Each problem has a ring of its own. Memory is for ``2 m B n`` numbers, touched only as pairs arrive. Nocedal and
    Wright, Numerical Optimization, 2nd ed., algorithm 7.4, with the rules of ``torch.optim.LBFGS``: a pair is kept if
    ``y's > 1e-10``; the inverse Hessian starts from ``(y's / y'y) I`` of the last pair kept.

    Attributes:
        moves, changes: s and y, (m, B, n): the steps, and the changes of the gradient along them.
        inverse_curvature: ``1 / y's``, (m, B).
        count: (B,) long, pairs held, at most m.
        head: (B,) long, the slot that the next pair goes to.
        scale: (B,), ``y's / y'y`` of the last pair; 1 at first.
    """

    moves: Tensor
    changes: Tensor
    inverse_curvature: Tensor
    count: Tensor
    head: Tensor
    scale: Tensor

    @classmethod
    def none_yet(cls, history_size: int, like: Tensor) -> Self:
        """Empty rings of ``history_size`` slots for unknowns ``like``, (B, n)."""
        batch = like.shape[0]
        zeros = torch.zeros(batch, dtype=torch.long, device=like.device)
        return cls(
            moves=like.new_zeros(history_size, *like.shape),
            changes=like.new_zeros(history_size, *like.shape),
            inverse_curvature=like.new_zeros(history_size, batch),
            count=zeros,
            head=zeros.clone(),
            scale=like.new_ones(batch),
        )

    def add(self, problems: Tensor, move: Tensor, change: Tensor) -> None:
        """Take up a pair (K, n) for each of ``problems``, (K,), over its oldest; without curvature it is left out."""
        curvature = (change * move).sum(dim=1)
        sound = (curvature > LEAST_CURVATURE) & curvature.isfinite()
        chosen, curvature = problems[sound], curvature[sound]
        slot = self.head[chosen]
        self.moves[slot, chosen] = move[sound]
        self.changes[slot, chosen] = change[sound]
        self.inverse_curvature[slot, chosen] = 1 / curvature
        self.scale[chosen] = curvature / change[sound].square().sum(dim=1)
        size = self.moves.shape[0]
        self.head[chosen] = (slot + 1) % size
        self.count[chosen] = (self.count[chosen] + 1).clamp_max(size)

    def drop(self, problems: Tensor) -> None:
        """Forget all pairs of ``problems``, (K,)."""
        self.count[problems] = 0
        self.scale[problems] = 1

    def times_negative(self, gradient: Tensor, problems: Tensor) -> Tensor:
        """``-H g`` for gradients (K, n) of ``problems``, (K,); H the inverse Hessian that the pairs stand for."""
        size, held = self.moves.shape[0], self.count[problems]
        direction = -gradient
        weights: list[tuple[Tensor, Tensor, Tensor]] = []
        for age in range(int(held.max()) if held.numel() else 0):
            slot = (self.head[problems] - 1 - age) % size
            # A problem with fewer pairs than the others takes part with weight 0.
            inverse = torch.where(age < held, self.inverse_curvature[slot, problems], 0)
            weight = (self.moves[slot, problems] * direction).sum(dim=1) * inverse
            direction = direction - weight[:, None] * self.changes[slot, problems]
            weights.append((slot, inverse, weight))
        direction = direction * self.scale[problems, None]
        for slot, inverse, weight in reversed(weights):
            back = (self.changes[slot, problems] * direction).sum(dim=1) * inverse
            direction = direction + (weight - back)[:, None] * self.moves[slot, problems]
        return direction


@dataclass
class LBFGSState:
    """Where a batch stands, B problems in n unknowns.

    Attributes:
        points: (B, n), the last iterates with finite value and gradient.
        value, gradient, notes: (B,), (B, n), (B, q), as evaluated there.
        best_points, best_value, best_notes: of each problem's iterates, the one of least value.
        active: (B,) bool, problems still moving.
        failed: (B,) bool, problems stopped by NaN or infinity.
        steps, evaluations: (B,) long.
        step_length: (B,), of the last step.
        messages: (B,), why a problem stopped, or empty.
    """

    points: Tensor
    value: Tensor
    gradient: Tensor
    notes: Tensor
    best_points: Tensor
    best_value: Tensor
    best_notes: Tensor
    active: Tensor
    failed: Tensor
    steps: Tensor
    evaluations: Tensor
    step_length: Tensor
    messages: list[str]

    def stop(self, problems: Tensor, message: str) -> None:
        """End ``problems``, (K,), with this word unless they have one."""
        self.active[problems] = False
        for k in problems.tolist():
            self.messages[k] = self.messages[k] or message


@dataclass(frozen=True)
class Bounds:
    """A box for the unknowns; ``lower`` and ``upper`` broadcast to (B, n)."""

    lower: Tensor
    upper: Tensor

    def clip(self, points: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(points, self.upper), self.lower)

    def free(self, points: Tensor, gradient: Tensor) -> Tensor:
        """Entries that descent does not press against a bound, as 0 and 1."""
        held = ((points <= self.lower) & (gradient > 0)) | ((points >= self.upper) & (gradient < 0))
        return (~held).to(points.dtype)


def start(evaluate: Evaluate, points: Tensor, settings: LBFGSSettings, bounds: Bounds | None = None) -> LBFGSState:
    """The state at the starting points (B, n), evaluated once; within ``bounds`` if there are any."""
    points = points.detach().clone() if bounds is None else bounds.clip(points.detach())
    everyone = torch.arange(points.shape[0], device=points.device)
    value, gradient, notes = evaluate(points, everyone)
    state = LBFGSState(
        points=points,
        value=value,
        gradient=gradient,
        notes=notes,
        best_points=points.clone(),
        best_value=value.clone(),
        best_notes=notes.clone(),
        active=torch.ones_like(value, dtype=torch.bool),
        failed=~_finite(value, gradient),
        steps=torch.zeros_like(everyone),
        evaluations=torch.ones_like(everyone),
        step_length=torch.zeros_like(value),
        messages=[""] * points.shape[0],
    )
    sound = ~state.failed
    state.stop(everyone[~sound], "the objective or its gradient is NaN or infinite at the start")
    slope = gradient if bounds is None else gradient * bounds.free(points, gradient)
    largest = slope.abs().amax(dim=1)
    state.stop(everyone[sound & (largest == 0)], ZERO_GRADIENT)
    state.stop(everyone[sound & (largest <= settings.tolerance_gradient)], _flat(settings))
    return state


def descend(
    evaluate: Evaluate,
    state: LBFGSState,
    settings: LBFGSSettings,
    *,
    bounds: Bounds | None = None,
    before_evaluation: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[LBFGSState]:
    """Move the problems that are not done, evaluate them, stop those that are; yields the state after every iteration.

    With ``bounds``, iterates are projected: entries that press against a bound take no part in the direction, the step
    is clipped, and pairs are made from the steps as clipped (Bertsekas, SIAM J. Control Optim. 20(2), 1982).
    ``before_evaluation`` is what a closure of ``torch.optim.LBFGS`` may do to its parameters: it changes points (K, n),
    unseen by the pairs, before all evaluations but that of the last iteration, which torch does not make.
    """
    pairs = CurvaturePairs.none_yet(settings.history_size, state.points)
    afresh = torch.ones_like(state.active)  # next step: along the negative gradient, carefully
    for number in range(1, settings.iterations + 1):
        moving = state.active.nonzero()[:, 0]
        if not moving.numel():
            return
        direction = _direction(state, pairs, afresh, moving, bounds)
        steep = (state.gradient[moving] * direction).sum(dim=1) <= -settings.tolerance_change
        state.stop(moving[~steep], "no steeper descent is left")
        moving, direction = moving[steep], direction[steep]
        if not moving.numel():
            return
        total = direction.abs().sum(dim=1)
        length = torch.where(afresh[moving], (1 / total).clamp_max(1), torch.ones_like(total))
        if settings.line_search == "none":
            hook = before_evaluation if number < settings.iterations else None
            step = _full_step(evaluate, state, moving, direction, length, bounds, hook)
        else:
            step = _backtrack(evaluate, state, moving, direction, length, bounds)
        before = state.value[moving]
        _take(state, pairs, afresh, moving, step, settings)
        _stop_where_done(state, moving, step, before, settings, bounds)
        yield state


@dataclass
class _Step:
    """What a step of K problems led to. ``moves`` is what their pairs are made from."""

    points: Tensor
    moves: Tensor
    value: Tensor
    gradient: Tensor
    notes: Tensor
    length: Tensor
    accepted: Tensor


def _direction(
    state: LBFGSState, pairs: CurvaturePairs, afresh: Tensor, moving: Tensor, bounds: Bounds | None
) -> Tensor:
    gradient = state.gradient[moving]
    if bounds is None:
        return torch.where(afresh[moving, None], -gradient, pairs.times_negative(gradient, moving))
    # H restricted to the free entries is positive definite, so this is still a direction of descent.
    free = bounds.free(state.points[moving], gradient)
    return torch.where(afresh[moving, None], -gradient, pairs.times_negative(gradient * free, moving)) * free


def _full_step(
    evaluate: Evaluate,
    state: LBFGSState,
    moving: Tensor,
    direction: Tensor,
    length: Tensor,
    bounds: Bounds | None,
    before_evaluation: Callable[[Tensor], Tensor] | None = None,
) -> _Step:
    base = state.points[moving]
    moves = length[:, None] * direction
    points = base + moves
    if bounds is not None:
        points = bounds.clip(points)
        moves = points - base
    if before_evaluation is not None:
        points = before_evaluation(points)
    value, gradient, notes = evaluate(points, moving)
    state.evaluations[moving] += 1
    return _Step(points, moves, value, gradient, notes, length.clone(), _finite(value, gradient))


def _backtrack(
    evaluate: Evaluate,
    state: LBFGSState,
    moving: Tensor,
    direction: Tensor,
    length: Tensor,
    bounds: Bounds | None,
) -> _Step:
    """Shorten each problem's step, by the parabola through what is known, until the value falls enough."""
    base, slope = state.value[moving], state.gradient[moving]
    points, notes = state.points[moving], state.notes[moving]
    none = torch.zeros_like(base, dtype=torch.bool)
    found = _Step(points, torch.zeros_like(points), base.clone(), slope.clone(), notes, length.clone(), none)
    for _ in range(MOST_TRIALS):
        rest = (~found.accepted).nonzero()[:, 0]
        if not rest.numel():
            break
        tried = _full_step(evaluate, state, moving[rest], direction[rest], found.length[rest], bounds)
        promised = (slope[rest] * tried.moves).sum(dim=1).clamp_max(0)
        good = tried.accepted & (tried.value <= base[rest] + SUFFICIENT_DECREASE * promised)
        tried.accepted = good
        for name in vars(found):
            getattr(found, name)[rest[good]] = getattr(tried, name)[good]
        ratio = -promised / (2 * (tried.value - base[rest] - promised))
        shorter = ratio.nan_to_num(SHORTEST).clamp(SHORTEST, SHORTER)
        found.length[rest[~good]] *= shorter[~good]
    return found


def _take(
    state: LBFGSState, pairs: CurvaturePairs, afresh: Tensor, moving: Tensor, step: _Step, settings: LBFGSSettings
) -> None:
    """Move where a step was found; elsewhere begin afresh without pairs, and stop where that was tried already."""
    good = step.accepted
    chosen = moving[good]
    pairs.add(chosen, step.moves[good], step.gradient[good] - state.gradient[chosen])
    state.points[chosen], state.value[chosen] = step.points[good], step.value[good]
    state.gradient[chosen], state.notes[chosen] = step.gradient[good], step.notes[good]
    state.steps[chosen] += 1
    state.step_length[moving] = torch.where(good, step.length, 0)
    better = chosen[state.value[chosen] < state.best_value[chosen]]
    state.best_points[better], state.best_value[better] = state.points[better], state.value[better]
    state.best_notes[better] = state.notes[better]
    failed = moving[~good]
    if settings.line_search == "none":
        state.failed[failed] = True
        state.stop(failed, "the objective or its gradient became NaN or infinite")
    else:
        state.stop(failed[afresh[failed]], "no step length tried lowers the objective any more")
        pairs.drop(failed)
    afresh[moving] = ~good


def _stop_where_done(
    state: LBFGSState, moving: Tensor, step: _Step, before: Tensor, settings: LBFGSSettings, bounds: Bounds | None
) -> None:
    """The criteria of torch.optim.LBFGS, in its order."""
    moved, moves, before = moving[step.accepted], step.moves[step.accepted], before[step.accepted]
    if settings.most_evaluations is not None:
        spent = state.evaluations[moved] >= settings.most_evaluations
        state.stop(moved[spent], f"{settings.most_evaluations} evaluations are spent")
    gradient = state.gradient[moved]
    if bounds is not None:
        gradient = gradient * bounds.free(state.points[moved], gradient)
    state.stop(moved[gradient.abs().amax(dim=1) <= settings.tolerance_gradient], _flat(settings))
    change = f"changes by less than {settings.tolerance_change:g}"
    state.stop(moved[moves.abs().amax(dim=1) <= settings.tolerance_change], f"the iterate {change}")
    fallen = (state.value[moved] - before).abs()
    state.stop(moved[fallen < settings.tolerance_change], f"the objective {change}")
    slow = (fallen < settings.relative_change * before.abs()) & (state.steps[moved] > SHORT_STEPS)
    state.stop(moved[slow], CONVERGED)


def _finite(value: Tensor, gradient: Tensor) -> Tensor:
    return value.isfinite() & gradient.isfinite().all(dim=1)


def _flat(settings: LBFGSSettings) -> str:
    return f"the gradient is below {settings.tolerance_gradient:g} everywhere"
