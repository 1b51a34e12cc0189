"""The search for the least level: brackets, walks along the border, and the other near classes at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssimpert.linearization import Margin
from ssimpert.perturbation.budget_search.attempt import Attempt
from ssimpert.perturbation.budget_search.boundary_cut import cut_to_border
from ssimpert.perturbation.budget_search.boundary_walk import Border, BorderWalk
from ssimpert.perturbation.budget_search.levels import ROOM, least_level
from ssimpert.perturbation.results import StepRow

# A bracket without a failing end is searched downwards by this factor, one without a success upwards by 2.
DOWN = 4.0
# A bracket that the engine closes aims this share of the tolerance below the level found.
SHARE = 0.9
# Classes that are tried after the nearest one, and how much farther, to first order, they may be: the border is curved.
RIVALS, FARTHER = 2, 1.3
# Walks, and climbs towards rivals from the clean image, may take so many times the steps of a climb at a level.
PATIENT = 2


@dataclass(frozen=True)
class Aim:
    """What the engine climbs: positive only where the goal is reached.

    Attributes:
        margin: climbed.
        label: (B,) long, its labels.
        rivals: (B, N) long, further labels to climb towards, nearest first; N may be 0.
        distance: (B, N), of the rivals, to first order, over that of ``label``.
    """

    margin: Margin
    label: Tensor
    rivals: Tensor
    distance: Tensor


@dataclass
class Search:
    """The brackets, (B,) each, and the best perturbations, (B, C, H, W) float64 but on the images' own grid.

    Attributes:
        low: the largest level that failed, below ``high``; 0 for none.
        high: the least level that succeeded; infinite for none.
        start: where the next climb begins: at the best perturbation; without any, where the last climb failed.
        rounds: levels tried; steps: gradients spent on them and on walks.
        walked: whether the best perturbation is where a walk ended.
        failed: the levels that failed, per image.
    """

    low: Tensor
    high: Tensor
    delta: Tensor
    start: Tensor
    rounds: Tensor
    steps: Tensor
    walked: Tensor
    failed: list[list[float]]
    history: list[StepRow] = field(default_factory=list)

    @classmethod
    def of(cls, reference: Tensor, clean: Tensor) -> Search:
        """The widest brackets; those of images that reach the goal already, (B,) margins ``clean``, are closed."""
        zero = torch.zeros_like(clean, dtype=torch.float64)
        none = torch.zeros(len(clean), dtype=torch.long, device=clean.device)
        return cls(
            low=zero.clone(),
            high=torch.full_like(zero, torch.inf).masked_fill(clean > 0, 0.0),
            delta=torch.zeros_like(reference),
            start=torch.zeros_like(reference),
            rounds=none.clone(),
            steps=none.clone(),
            walked=torch.zeros_like(none, dtype=torch.bool),
            failed=[[] for _ in range(len(clean))],
        )


@dataclass(frozen=True)
class LevelSearch:
    """How levels are looked for; one for a batch.

    Attributes:
        attempt: model, families, engine and solver.
        image: (B, C, H, W); label: (B,); margin: decides about success; clean: (B,), its value at
            ``image``.
        aim: what is climbed.
        first, largest: the first level tried and the last.
        rounds: most levels tried per image.
        tolerance: relative width of a closed bracket.
        observer: called with the search so far after every level tried, for whichever images, and the walk from it.
    """

    attempt: Attempt
    image: Tensor
    label: Tensor
    margin: Margin
    clean: Tensor
    aim: Aim
    first: float
    largest: float
    rounds: int
    tolerance: float
    observer: Callable[[Search], None] | None = None

    def run(self, search: Search, wanted: Tensor) -> None:
        """Close the brackets of the images at ``wanted`` (long, (K,)), then let the rivals try to go below."""
        towards = self.aim.label.clone()
        self._close(search, wanted, towards)
        for n in range(min(RIVALS, self.aim.rivals.shape[1])):
            near = wanted[(self.aim.distance[wanted, n] <= FARTHER) & search.high[wanted].isfinite()]
            near = near[search.rounds[near] < self.rounds]
            if not near.numel():
                continue
            before = search.high[near].clone()
            trial, clean = towards.clone(), torch.zeros_like(search.delta[near])
            trial[near] = self.aim.rivals[near, n]
            self._try(search, self._below(search), near, trial, clean, PATIENT * self.attempt.steps)
            won = near[search.high[near] < before]
            towards[won] = trial[won]
            self._close(search, won, towards)

    def _close(self, search: Search, wanted: Tensor, towards: Tensor) -> None:
        """Try levels for the images at ``wanted`` until their brackets are within the tolerance."""
        while True:
            high, low = search.high[wanted], search.low[wanted]
            open_ = (high > (1 + self.tolerance) * low) & ~(high.isinf() & (low >= self.largest))
            pending = wanted[open_ & (search.rounds[wanted] < self.rounds)]
            if not pending.numel():
                return
            self._try(search, self._next(search), pending, towards, search.start[pending], self.attempt.steps)

    def _below(self, search: Search) -> Tensor:
        return search.high / (1 + SHARE * self.tolerance)

    def _next(self, search: Search) -> Tensor:
        """The level to try next, (B,): the first one, twice a failing one, a quarter of a successful one, or the
        bracket's geometric mean; where a walk ended, just below."""
        upwards = (2 * search.low).clamp_max(self.largest)
        upwards = torch.where(search.rounds == 0, self.first, upwards)
        between = torch.where(search.low > 0, (search.low * search.high).sqrt(), search.high / DOWN)
        between = torch.where(search.walked, self._below(search), between)
        return torch.where(search.high.isinf(), upwards, between)

    def _try(self, search: Search, level: Tensor, pending: Tensor, towards: Tensor, start: Tensor, steps: int) -> None:
        """Try ``level`` (B,) for the images at ``pending`` (long, (K,)) from ``start`` (K, C, H, W), walk on from what
        succeeds, and move the brackets."""
        attempt, label = self.attempt, self.label[pending]
        reference = self.image[pending].to(torch.float64)
        sets = attempt.sets(level[pending], pending)
        state = attempt.run(reference, towards[pending], self.aim.margin, sets, start, pending, stop=True, steps=steps)
        search.rounds[pending] += 1
        search.steps[pending] += state.steps
        search.history += [{**row, "image": int(pending[row["image"]])} for row in state.history]
        delta, reached = cut_to_border(
            attempt.model, self.image[pending], state.images, label, self.margin, self.clean[pending]
        )
        for k in (~reached).nonzero()[:, 0].tolist():
            search.failed[int(pending[k])].append(float(level[pending[k]]))
        better = []
        for k in reached.nonzero()[:, 0].tolist():
            place = int(pending[k])
            least = least_level(
                attempt.families[place], reference[k : k + 1], delta[k : k + 1], ROOM * float(level[place])
            )
            if least < float(search.high[place]):
                search.high[place], search.delta[place], search.walked[place] = least, delta[k], False
                better.append(place)
        failed = pending[search.high[pending].isinf()]
        search.start[failed] = (state.images - reference)[search.high[pending].isinf()]
        if better and attempt.engine == "projected_gradient":
            self._walk(search, torch.tensor(better, device=pending.device), towards)
        found = pending[search.high[pending].isfinite()]
        search.start[found] = search.delta[found]
        for place in pending.tolist():
            # The best may lie below a level that failed from elsewhere: that failure says nothing any more.
            high = float(search.high[place])
            search.low[place] = max((value for value in search.failed[place] if value < high), default=0.0)
        if self.observer is not None:
            self.observer(search)

    def _walk(self, search: Search, numbers: Tensor, towards: Tensor) -> None:
        """Walk on from the best perturbations of the images at ``numbers`` (long, (K,))."""
        walk = BorderWalk(
            self.attempt,
            self.image[numbers],
            self.label[numbers],
            self.margin,
            self.clean[numbers],
            self.aim.margin,
            towards[numbers],
            numbers,
        )
        border = Border(search.delta[numbers], search.high[numbers], torch.zeros_like(numbers), [])
        walk.run(border, steps=PATIENT * self.attempt.steps, tolerance=self.tolerance)
        search.delta[numbers], search.high[numbers] = border.delta, border.level
        search.steps[numbers] += border.steps
        search.walked[numbers] = True
        search.history += [{**row, "image": int(numbers[row["image"]])} for row in border.history]
