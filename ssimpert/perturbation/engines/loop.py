"""The loop that all engines share. It raises the margin of a batch of images step by step::

    for k = 0, 1, ...:
        g_k     = gradient of the margin at x_k                        linearize_active
        x_{k+1} = the engine's step from x_k along g_k                 move
        best    = x_{k+1} if its margin is the largest so far          keep_best
        stop the images that are done                                  stop_finished

Every image has its own state. An image that has stopped is neither linearised nor moved again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.history import SolverChecks, SolverRow, StepRow
from ssimpert.perturbation.results import FinalIterate

# From gradients (K, C, H, W), references (K, C, H, W) and the images' indices in the batch (K,) to a solver's step.
StepRule = Callable[[Tensor, Tensor, Tensor], solvers.SolveResult]
# From candidates (K, C, H, W) and the images' indices (K,) to images that lie in the constraint set.
Retraction = Callable[[Tensor, Tensor], Tensor]
# The step lengths that the line search tries, the longest first, against the true margin.
STEP_LENGTHS = (1.0, 0.5, 0.25, 0.125, 0.0625)


@dataclass
class AscentState:
    """Where a batch stands. ``images`` is float64, so that the rounding errors of many small steps do not add up.

    Attributes:
        images: the iterates, (B, C, H, W) in [0, 1].
        margin: (B,), at the iterates.
        label: (B,), the model's label of the iterates.
        active: (B,) bool, images that have not stopped.
        steps: (B,) long, steps taken.
        messages: why an image stopped early, or empty.
        best: the iterates of largest margin so far, (B, C, H, W).
        best_margin, best_label: (B,), margin and label of ``best``.
        history: one row per step and image.
    """

    images: Tensor
    margin: Tensor
    label: Tensor
    active: Tensor
    steps: Tensor
    messages: list[str]
    best: Tensor
    best_margin: Tensor
    best_label: Tensor
    history: list[StepRow] = field(default_factory=list)

    def keep_best(self, indices: Tensor) -> None:
        """Compare the images at ``indices`` (long, (K,)) with the best ones, and keep the better of the two."""
        margin = self.margin[indices]
        better = indices[margin.isfinite() & (margin > self.best_margin[indices])]
        self.best[better], self.best_margin[better] = self.images[better], self.margin[better]
        self.best_label[better] = self.label[better]

    def stop(self, indices: Tensor, message: str) -> None:
        """Stop the images at ``indices`` (long, (K,)). Images that have a message already keep that one."""
        for k in indices.tolist():
            self.messages[k] = self.messages[k] or message
        self.active[indices] = False

    def return_to_best(self) -> None:
        """Make the best iterates the current ones."""
        self.images, self.margin, self.label = self.best, self.best_margin, self.best_label

    def final(self) -> FinalIterate:
        """The current iterates, ready to be measured."""
        return FinalIterate(self.images, self.steps, self.messages, self.history)


# The engine's step. It moves the images at ``active`` (long, (K,)) along gradients (K, C, H, W). It returns the
# solver's result and the step lengths, (K,).
Move = Callable[[AscentState, Tensor, Tensor], tuple[solvers.SolveResult, Tensor]]


def start(goal: Goal, image: Tensor, *, stop_at_success: bool) -> AscentState:
    """The state at the clean images (B, C, H, W)."""
    images = image.detach().to(torch.float64, copy=True)  # the loop changes this tensor, never the caller's
    clean = goal.decide(images)
    finite = clean.margin.isfinite()
    active = finite & (clean.margin <= 0) if stop_at_success else finite
    messages = ["" if sound else "logits are NaN or infinite" for sound in finite.tolist()]
    if stop_at_success:
        for k in clean.success.nonzero()[:, 0].tolist():
            messages[k] = "the goal is reached by the clean image already"
    return AscentState(
        images=images,
        margin=clean.margin,
        label=clean.label,
        best=images.clone(),
        best_margin=clean.margin.clone(),
        best_label=clean.label,
        active=active,
        steps=torch.zeros_like(goal.label),
        messages=messages,
    )


def ascend(
    goal: Goal, state: AscentState, move: Move, *, steps: int, stop_at_success: bool = True
) -> Iterator[AscentState]:
    """Run the loop for at most ``steps`` steps. Yields the state after every step.

    Args:
        goal: the margin to raise. Only its gradients are asked for here, and they need not be exact.
        state: where the batch stands; changed in place.
        move: the engine's step.
        steps: most steps, at least 1.
        stop_at_success: whether an image stops once its goal is reached.
    """
    for number in range(1, steps + 1):
        began = time.perf_counter()
        active, gradient = linearize_active(goal, state)
        if not active.numel():
            return
        solution, length = move(state, active, gradient)
        state.keep_best(active)
        stop_finished(state, active, stop_at_success=stop_at_success)
        _record(state, active, number, length, solution, time.perf_counter() - began)
        yield state


def linearize_active(goal: Goal, state: AscentState) -> tuple[Tensor, Tensor]:
    """The indices of the active images, (K,), and the margin's gradients there, (K, C, H, W).

    An image whose gradient is zero, or not finite, stops with a message and is left out.
    """
    active = state.active.nonzero()[:, 0]
    if not active.numel():
        return active, state.images[active]
    gradient = goal.select(active).linearize(state.images[active]).gradient
    bad_count = (~gradient.isfinite()).flatten(1).sum(dim=1)
    flat = (gradient == 0).flatten(1).all(dim=1)
    for k, image in enumerate(active.tolist()):
        if bad_count[k]:
            state.messages[image] = f"gradient has {int(bad_count[k])} NaN or infinite values; last sound iterate kept"
        elif flat[k]:
            state.messages[image] = "gradient is zero everywhere: the network is saturated here"
    sound = (bad_count == 0) & ~flat
    state.active[active[~sound]] = False
    return active[sound], gradient[sound]


def stop_finished(state: AscentState, active: Tensor, *, stop_at_success: bool) -> None:
    """Stop those of the images at ``active`` that reached their goal or whose margin is not finite any more."""
    margin = state.margin[active]
    for k in active[~margin.isfinite()].tolist():
        state.messages[k] = "logits became NaN or infinite"
    unfinished = margin.isfinite()
    if stop_at_success:
        unfinished &= margin <= 0
    state.active[active] &= unfinished


def stop_unsolved(state: AscentState, active: Tensor, solution: solvers.SolveResult) -> Tensor:
    """Stop the images for which the solver found no step, with the solver's own message.

    Returns:
        Which of the images at ``active`` these are, (K,) bool.
    """
    unsolved = (torch.as_tensor(solution.delta) == 0).flatten(1).all(dim=1)
    for k in unsolved.nonzero()[:, 0].tolist():
        reason = solution.messages[k] or f"{solution.method} returned no step"
        state.messages[int(active[k])] = f"{solution.status[k].value}: {reason}"
    state.active[active[unsolved]] = False
    return unsolved


def line_search(
    goal: Goal,
    state: AscentState,
    active: Tensor,
    direction: Tensor,
    *,
    longest: Tensor | None = None,
    retract: Retraction | None = None,
    allowed: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Move each image by the longest step length tried that raises its true margin.

    Args:
        goal: of the whole batch.
        state: where the batch stands; changed in place.
        active: indices of the images to move, (K,) long.
        direction: the whole step of each image, (K, C, H, W).
        longest: the first length tried, (K,); the others are shares of it. Default 1.
        retract: brings candidates onto a set that is not convex, before they are judged; default: as they are.
        allowed: says of candidates (K, C, H, W) and their images' indices (K,) which may be taken, (K,) bool;
            default: all.

    Returns:
        The lengths taken, (K,); 0 where no length raises the margin.
    """
    length = torch.zeros_like(state.margin[active])
    longest = torch.ones_like(length) if longest is None else longest
    base = state.images[active]
    for share in STEP_LENGTHS:
        remaining = (length == 0).nonzero()[:, 0]
        if not remaining.numel():
            break
        indices, trial = active[remaining], share * longest[remaining]
        candidate = (base[remaining] + per_image(trial) * direction[remaining]).clamp(0, 1)
        if retract is not None:
            candidate = retract(candidate, indices)
        decision = goal.select(indices).decide(candidate)
        better = decision.margin > state.margin[indices]
        if allowed is not None:
            better &= allowed(candidate, indices)
        taken = indices[better]
        state.images[taken], state.margin[taken] = candidate[better], decision.margin[better]
        state.label[taken] = decision.label[better]
        state.steps[taken] += 1
        length[remaining[better]] = trial[better]
    return length


def advance(goal: Goal, state: AscentState, indices: Tensor, images: Tensor) -> None:
    """Put ``images`` (K, C, H, W) in the place of those at ``indices`` (K,), whatever their margin."""
    decision = goal.select(indices).decide(images)
    state.images[indices] = images
    state.margin[indices] = decision.margin
    state.label[indices] = decision.label
    state.steps[indices] += 1


def _record(
    state: AscentState, active: Tensor, number: int, length: Tensor, solution: solvers.SolveResult, seconds: float
) -> None:
    gaps = torch.as_tensor(solution.rel_gap).tolist()
    for k, image in enumerate(active.tolist()):
        row = SolverRow(
            step=number,
            image=image,
            margin=float(state.margin[image]),
            label=int(state.label[image]),
            step_length=float(length[k]),
            rel_gap=gaps[k],
            status=solution.status[k].value,
            checks=_checks(solution, k),
            seconds=seconds,
        )
        state.history.append(row)


def _checks(solution: solvers.SolveResult, k: int) -> SolverChecks:
    """The solver's checks of the image at position ``k`` of a solve."""
    # The rows are of the images without a defect only, so with a defect nobody knows which image is at which position.
    rows = [row for row in solution.history if len(row.objective) == len(solution.status)]
    return SolverChecks(
        iteration=[row.iteration for row in rows],
        seconds=[row.time for row in rows],
        objective=[row.objective[k] for row in rows],
        bound=[row.bound[k] for row in rows],
    )
