"""L-BFGS on a batch of independent problems. Without box and line search it takes the steps of ``torch.optim.LBFGS``::

    for k = 0, 1, ...:
        d_k     = -H_k g_k, H_k from the curvature pairs               _descent_direction
        x_{k+1} = x_k + t_k d_k, t_k by backtracking or the full step  _full_step, _backtrack
        add the pair (x_{k+1} - x_k, g_{k+1} - g_k)                    _take
        stop the problems that are done                                _stop_finished

Every problem has its own curvature pairs, step length and end. A problem that has stopped is neither evaluated nor
moved again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ssimpert.perturbation.perceptual_ball.curvature_pairs import CurvaturePairs

LineSearch = Literal["none", "backtracking"]
# From points (K, n) and their problems' indices (K,) to values (K,), gradients (K, n), and notes (K, q). Notes are
# further numbers that the caller wants to keep of each iterate; q may be 0.
Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

# Armijo's rule: the value must fall by this share of what the slope promises.
SUFFICIENT_DECREASE = 1e-4
# A step length found too long is multiplied by a factor between these two.
SMALLEST_LENGTH_CUT, LARGEST_LENGTH_CUT = 0.1, 0.5
MAX_BACKTRACKS = 20
# The relative change of the value is judged only after so many steps, since the first steps are short.
FIRST_STEPS = 5
CONVERGED = "the objective hardly falls any more"
ZERO_GRADIENT = "the gradient is zero everywhere at the start"


@dataclass(frozen=True)
class LBFGSSettings:
    """How to descend. All defaults except the number of iterations are those of ``torch.optim.LBFGS``.

    Attributes:
        iterations: most iterations, at least 1.
        history_size: curvature pairs kept of each problem, at least 1.
        line_search: "none" takes every step at full length, except the first, of length ``min(1, 1/|g|_1)``.
            "backtracking" shortens each step until the value falls by Armijo's rule.
        max_evaluations: stop a problem after this many evaluations; ``None``: no limit.
        tolerance_gradient: stop where no entry of the gradient is larger.
        tolerance_change: stop where no entry of the iterate changes by more, or the value does not, or the slope along
            the direction is less steep.
        relative_change: stop where the value changes by less than this share of itself, from the sixth step on; 0,
            which is torch's behaviour: never.
    """

    iterations: int = 100
    history_size: int = 100
    line_search: LineSearch = "none"
    max_evaluations: int | None = None
    tolerance_gradient: float = 1e-7
    tolerance_change: float = 1e-9
    relative_change: float = 0.0


@dataclass
class LBFGSState:
    """Where a batch stands, B problems in n unknowns.

    Attributes:
        points: (B, n), the last iterates with finite value and gradient.
        value, gradient, notes: (B,), (B, n), (B, q), as evaluated there.
        best_points, best_value, best_notes: the iterate of least value so far.
        active: (B,) bool, problems that have not stopped.
        failed: (B,) bool, problems that stopped at a value or gradient that is not finite.
        steps, evaluations: (B,) long, how many so far.
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
        """Stop ``problems``, (K,). Problems that have a message already keep that one."""
        self.active[problems] = False
        for k in problems.tolist():
            self.messages[k] = self.messages[k] or message


@dataclass(frozen=True)
class Bounds:
    """A box for the unknowns.

    Attributes:
        lower, upper: broadcast to (B, n).
    """

    lower: Tensor
    upper: Tensor

    def clip(self, points: Tensor) -> Tensor:
        """The nearest points of the box."""
        return torch.maximum(torch.minimum(points, self.upper), self.lower)

    def free(self, points: Tensor, gradient: Tensor) -> Tensor:
        """1 for the entries that descent along ``-gradient`` may move, 0 for those that it presses against a bound."""
        blocked = ((points <= self.lower) & (gradient > 0)) | ((points >= self.upper) & (gradient < 0))
        return (~blocked).to(points.dtype)


def start(evaluate: Evaluate, points: Tensor, settings: LBFGSSettings, bounds: Bounds | None = None) -> LBFGSState:
    """The state at the starting points (B, n), clipped to ``bounds`` and evaluated once."""
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
    """Run the iteration. Yields the state after every iteration.

    Args:
        evaluate: values, gradients and notes at points.
        state: from :func:`start`; changed in place.
        settings: how to descend.
        bounds: a box that iterates are projected onto. Entries that press against a bound take no part in the
            direction, the step is clipped, and pairs are made from the clipped steps (Bertsekas, SIAM J. Control
            Optim. 20(2), 1982).
        before_evaluation: changes points (K, n) before they are evaluated, as a closure of ``torch.optim.LBFGS`` may
            change its parameters. The pairs do not see the change. It is not called in the last iteration, which torch
            does not evaluate.
    """
    pairs = CurvaturePairs.none_yet(settings.history_size, state.points)
    steepest = torch.ones_like(state.active)  # the next step is a short one along the negative gradient
    for number in range(1, settings.iterations + 1):
        active = state.active.nonzero()[:, 0]
        if not active.numel():
            return
        direction = _descent_direction(state, pairs, steepest, active, bounds)
        steep = (state.gradient[active] * direction).sum(dim=1) <= -settings.tolerance_change
        state.stop(active[~steep], "no steeper descent is left")
        active, direction = active[steep], direction[steep]
        if not active.numel():
            return
        absolute = direction.abs().sum(dim=1)
        length = torch.where(steepest[active], (1 / absolute).clamp_max(1), torch.ones_like(absolute))
        if settings.line_search == "none":
            hook = before_evaluation if number < settings.iterations else None
            step = _full_step(evaluate, state, active, direction, length, bounds, hook)
        else:
            step = _backtrack(evaluate, state, active, direction, length, bounds)
        value_before = state.value[active]
        _take(state, pairs, steepest, active, step, settings)
        _stop_finished(state, active, step, value_before, settings, bounds)
        yield state


@dataclass
class _Step:
    """Where a step of K problems led; ``moves`` are the steps that the curvature pairs are made from."""

    points: Tensor
    moves: Tensor
    value: Tensor
    gradient: Tensor
    notes: Tensor
    length: Tensor
    accepted: Tensor


def _descent_direction(
    state: LBFGSState, pairs: CurvaturePairs, steepest: Tensor, active: Tensor, bounds: Bounds | None
) -> Tensor:
    """``-H g``, or ``-g`` where a problem is ``steepest``; 0 for entries that press against a bound."""
    gradient = state.gradient[active]
    if bounds is None:
        return torch.where(steepest[active, None], -gradient, pairs.times_negative(gradient, active))
    # H restricted to the free entries is positive definite, so this is still a direction of descent.
    free = bounds.free(state.points[active], gradient)
    return torch.where(steepest[active, None], -gradient, pairs.times_negative(gradient * free, active)) * free


def _full_step(
    evaluate: Evaluate,
    state: LBFGSState,
    active: Tensor,
    direction: Tensor,
    length: Tensor,
    bounds: Bounds | None,
    before_evaluation: Callable[[Tensor], Tensor] | None = None,
) -> _Step:
    """The step of this length; accepted where value and gradient are finite."""
    base = state.points[active]
    moves = length[:, None] * direction
    points = base + moves
    if bounds is not None:
        points = bounds.clip(points)
        moves = points - base
    if before_evaluation is not None:
        points = before_evaluation(points)
    value, gradient, notes = evaluate(points, active)
    state.evaluations[active] += 1
    return _Step(points, moves, value, gradient, notes, length.clone(), _finite(value, gradient))


def _backtrack(
    evaluate: Evaluate,
    state: LBFGSState,
    active: Tensor,
    direction: Tensor,
    length: Tensor,
    bounds: Bounds | None,
) -> _Step:
    """The step, shortened until the value falls enough, by the parabola through value, slope and trial value."""
    value, slope = state.value[active], state.gradient[active]
    points, notes = state.points[active], state.notes[active]
    none = torch.zeros_like(value, dtype=torch.bool)
    step = _Step(points, torch.zeros_like(points), value.clone(), slope.clone(), notes, length.clone(), none)
    for _ in range(MAX_BACKTRACKS):
        remaining = (~step.accepted).nonzero()[:, 0]
        if not remaining.numel():
            break
        trial = _full_step(evaluate, state, active[remaining], direction[remaining], step.length[remaining], bounds)
        promised = (slope[remaining] * trial.moves).sum(dim=1).clamp_max(0)
        trial.accepted &= trial.value <= value[remaining] + SUFFICIENT_DECREASE * promised
        accepted = trial.accepted
        for name in vars(step):
            getattr(step, name)[remaining[accepted]] = getattr(trial, name)[accepted]
        vertex = -promised / (2 * (trial.value - value[remaining] - promised))
        cut = vertex.nan_to_num(SMALLEST_LENGTH_CUT).clamp(SMALLEST_LENGTH_CUT, LARGEST_LENGTH_CUT)
        step.length[remaining[~accepted]] *= cut[~accepted]
    return step


def _take(
    state: LBFGSState, pairs: CurvaturePairs, steepest: Tensor, active: Tensor, step: _Step, settings: LBFGSSettings
) -> None:
    """Move the problems whose step was accepted.

    The other problems drop their pairs and go along the negative gradient next. They stop where they did so already.
    """
    accepted = step.accepted
    moved = active[accepted]
    pairs.add(moved, step.moves[accepted], step.gradient[accepted] - state.gradient[moved])
    state.points[moved], state.value[moved] = step.points[accepted], step.value[accepted]
    state.gradient[moved], state.notes[moved] = step.gradient[accepted], step.notes[accepted]
    state.steps[moved] += 1
    state.step_length[active] = torch.where(accepted, step.length, 0)
    better = moved[state.value[moved] < state.best_value[moved]]
    state.best_points[better], state.best_value[better] = state.points[better], state.value[better]
    state.best_notes[better] = state.notes[better]
    rejected = active[~accepted]
    if settings.line_search == "none":
        state.failed[rejected] = True
        state.stop(rejected, "the objective or its gradient became NaN or infinite")
    else:
        state.stop(rejected[steepest[rejected]], "no step length tried lowers the objective any more")
        pairs.drop(rejected)
    steepest[active] = ~accepted


def _stop_finished(
    state: LBFGSState,
    active: Tensor,
    step: _Step,
    value_before: Tensor,
    settings: LBFGSSettings,
    bounds: Bounds | None,
) -> None:
    """Stop problems by the criteria of torch.optim.LBFGS, in its order, then by the relative change."""
    moved, moves = active[step.accepted], step.moves[step.accepted]
    value_before = value_before[step.accepted]
    if settings.max_evaluations is not None:
        spent = state.evaluations[moved] >= settings.max_evaluations
        state.stop(moved[spent], f"{settings.max_evaluations} evaluations are spent")
    gradient = state.gradient[moved]
    if bounds is not None:
        gradient = gradient * bounds.free(state.points[moved], gradient)
    state.stop(moved[gradient.abs().amax(dim=1) <= settings.tolerance_gradient], _flat(settings))
    little = f"changes by less than {settings.tolerance_change:g}"
    state.stop(moved[moves.abs().amax(dim=1) <= settings.tolerance_change], f"the iterate {little}")
    change = (state.value[moved] - value_before).abs()
    state.stop(moved[change < settings.tolerance_change], f"the objective {little}")
    slow = (change < settings.relative_change * value_before.abs()) & (state.steps[moved] > FIRST_STEPS)
    state.stop(moved[slow], CONVERGED)


def _finite(value: Tensor, gradient: Tensor) -> Tensor:
    return value.isfinite() & gradient.isfinite().all(dim=1)


def _flat(settings: LBFGSSettings) -> str:
    return f"the gradient is below {settings.tolerance_gradient:g} everywhere"
