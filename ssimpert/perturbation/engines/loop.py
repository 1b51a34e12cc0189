"""The loop that all engines share: linearise the margin, move, stop who is done, remember the best.

Per-image state advances with masks: an image that is done is neither linearised nor moved again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

import solvers
from ssimpert.linearization import Margin, linearize
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.results import SolverRow, StepRow

# Gradient, references and the images' numbers in the batch, (K,), to a step and the solver's verdict on it.
StepRule = Callable[[Tensor, Tensor, Tensor], solvers.SolveResult]
# Step lengths that a line search tries, longest first, against the true margin.
STEP_LENGTHS = (1.0, 0.5, 0.25, 0.125, 0.0625)


@dataclass
class AscentState:
    """Where a batch stands. ``images`` is float64 so that many small steps don't add up rounding.

    Attributes:
        images: the iterates, (B, C, H, W) in [0, 1].
        margin: (B,), at the iterates.
        label: (B,), the model's label of the iterates.
        active: (B,) bool, images still moving.
        steps: (B,) long, steps taken.
        messages: why an image stopped early.
        best: the iterates of largest margin so far, (B, C, H, W), and ``best_margin``, ``best_label``, (B,).
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

    def keep_best(self, moved: Tensor) -> None:
        """Note which of the images at ``moved`` (long, (K,)) are better than ever."""
        margin = self.margin[moved]
        better = moved[margin.isfinite() & (margin > self.best_margin[moved])]
        self.best[better], self.best_margin[better] = self.images[better], self.margin[better]
        self.best_label[better] = self.label[better]

    def stop(self, images: Tensor, message: str) -> None:
        """Stop the images at ``images`` (long, (K,)), for a reason unless they have one."""
        for k in images.tolist():
            self.messages[k] = self.messages[k] or message
        self.active[images] = False

    def return_to_best(self) -> None:
        """Make the best iterates the current ones."""
        self.images, self.margin, self.label = self.best, self.best_margin, self.best_label


# Moves the images at these numbers, (K,), along gradients (K, C, H, W); the solver's verdict and step lengths, (K,).
Move = Callable[[AscentState, Tensor, Tensor], tuple[solvers.SolveResult, Tensor]]


def start(model: Model, image: Tensor, label: Tensor, margin: Margin, *, stop_at_success: bool) -> AscentState:
    """The state at the clean images."""
    images = image.detach().to(torch.float64, copy=True)  # advanced in place: never the caller's own tensor
    logits = forward(model, images)
    value = margin(logits, label)
    finite = value.isfinite()
    active = finite & (value <= 0) if stop_at_success else finite
    messages = ["" if sound else "logits are NaN or infinite" for sound in finite.tolist()]
    if stop_at_success:
        for k in (value > 0).nonzero()[:, 0].tolist():
            messages[k] = "the goal is reached by the clean image already"
    own = logits.argmax(dim=1)
    return AscentState(
        images=images,
        margin=value,
        label=own,
        best=images.clone(),
        best_margin=value.clone(),
        best_label=own.clone(),
        active=active,
        steps=torch.zeros_like(label),
        messages=messages,
    )


def ascend(
    model: Model,
    state: AscentState,
    label: Tensor,
    margin: Margin,
    move: Move,
    *,
    steps: int,
    stop_at_success: bool = True,
) -> Iterator[AscentState]:
    """Linearise the images that still move, move them, stop those that are done; yields the state after every step.
    Of ``model`` only gradients are asked, which need not be exact."""
    for number in range(1, steps + 1):
        began = time.perf_counter()
        sound = _sound_gradients(model, state, label, margin)
        if sound is None:
            return
        moving, gradient = sound
        solution, length = move(state, moving, gradient)
        state.keep_best(moving)
        _stop_where_done(state, moving, stop_at_success=stop_at_success)
        _record(state, number, moving, length, solution, began)
        yield state


def stop_where_unsolved(state: AscentState, moving: Tensor, solution: solvers.SolveResult) -> Tensor:
    """Stop the images for which the solver found no step, with its own word; which of ``moving`` they are, (K,)
    bool."""
    unsolved = (torch.as_tensor(solution.delta) == 0).flatten(1).all(dim=1)
    for k in unsolved.nonzero()[:, 0].tolist():
        word = solution.messages[k] or f"{solution.method} returned no step"
        state.messages[int(moving[k])] = f"{solution.status[k].value}: {word}"
    state.active[moving[unsolved]] = False
    return unsolved


def _stop_where_done(state: AscentState, moving: Tensor, *, stop_at_success: bool) -> None:
    """Stop the images that reached their goal, and those whose margin is not finite any more."""
    margin = state.margin[moving]
    for k in moving[~margin.isfinite()].tolist():
        state.messages[k] = "logits became NaN or infinite"
    going = margin.isfinite()
    if stop_at_success:
        going &= margin <= 0
    state.active[moving] &= going


def search(
    model: Model,
    state: AscentState,
    label: Tensor,
    margin: Margin,
    moving: Tensor,
    towards: Tensor,
    allowed: Callable[[Tensor, Tensor], Tensor] | None = None,
    longest: Tensor | None = None,
    onto: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Move each image by the longest step length that raises its margin; returns the lengths, (K,), 0 for none.

    Args:
        allowed: says of candidates (K, C, H, W) and their numbers in the batch (K,) which may be taken, (K,) bool;
            default: all.
        longest: the first length tried, (K,); the others are shares of it. Default 1.
        onto: brings candidates onto the set where it is not convex, before they are judged; default: as they are.
    """
    length = torch.zeros_like(state.margin[moving])
    longest = torch.ones_like(length) if longest is None else longest
    base = state.images[moving]
    for trial in STEP_LENGTHS:
        rest = (length == 0).nonzero()[:, 0]
        if not rest.numel():
            break
        reach = trial * longest[rest]
        candidate = (base[rest] + reach[:, None, None, None] * towards[rest]).clamp(0, 1)
        if onto is not None:
            candidate = onto(candidate, moving[rest])
        logits = forward(model, candidate)
        value = margin(logits, label[moving[rest]])
        better = value > state.margin[moving[rest]]
        if allowed is not None:
            better &= allowed(candidate, moving[rest])
        chosen = moving[rest[better]]
        state.images[chosen], state.margin[chosen] = candidate[better], value[better]
        state.label[chosen] = logits.argmax(dim=1)[better]
        state.steps[chosen] += 1
        length[rest[better]] = reach[better]
    return length


def _sound_gradients(model: Model, state: AscentState, label: Tensor, margin: Margin) -> tuple[Tensor, Tensor] | None:
    """The active images' numbers and gradients; an image whose gradient is zero or not finite stops with a message."""
    moving = state.active.nonzero()[:, 0]
    if not moving.numel():
        return None
    gradient = linearize(model, state.images[moving], label[moving], margin).gradient
    bad = (~gradient.isfinite()).flatten(1).sum(dim=1)
    flat = (gradient == 0).flatten(1).all(dim=1)
    for k, image in enumerate(moving.tolist()):
        if bad[k]:
            state.messages[image] = f"gradient has {int(bad[k])} NaN or infinite values; last sound iterate kept"
        elif flat[k]:
            state.messages[image] = "gradient is zero everywhere: the network is saturated here"
    sound = (bad == 0) & ~flat
    state.active[moving[~sound]] = False
    moving = moving[sound]
    return (moving, gradient[sound]) if moving.numel() else None


def advance(model: Model, state: AscentState, label: Tensor, margin: Margin, moving: Tensor, moved: Tensor) -> None:
    """Put the images ``moved`` (K, C, H, W) in the place of those at ``moving`` (K,)."""
    logits = forward(model, moved)
    state.images[moving] = moved
    state.margin[moving] = margin(logits, label[moving])
    state.label[moving] = logits.argmax(dim=1)
    state.steps[moving] += 1


def _record(
    state: AscentState,
    number: int,
    moving: Tensor,
    length: Tensor,
    solution: solvers.SolveResult,
    began: float,
) -> None:
    seconds = time.perf_counter() - began
    gaps = torch.as_tensor(solution.rel_gap).tolist()
    for k, image in enumerate(moving.tolist()):
        state.history.append(
            SolverRow(
                step=number,
                image=image,
                margin=float(state.margin[image]),
                label=int(state.label[image]),
                step_length=float(length[k]),
                rel_gap=gaps[k],
                status=solution.status[k].value,
                seconds=seconds,
            )
        )
