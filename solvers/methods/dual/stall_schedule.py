"""How ``dual`` reacts where an image's certified gap stalls: less mixing, then another number of conjugate gradients.

Mixing is what makes most photos fast, and what makes a few of them jump. Photos with slow modes need all of it. So an
image whose gap has hardly fallen for a while switches between the whole mixed step and half of it; if the gap stalls
again, it also switches the number of conjugate gradients (docs/notes/overlapping-solvers.md has the measurements).
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.methods.dual.iteration import Controls

CG_STEPS = 8, 5  # conjugate gradients an iteration; the second number after two stalls
MIXING = 1.0, 0.5  # the share of the mixed step: at first, and after a stall
STALL_RATIO = 0.8  # a gap above this share of the gap of STALL_ITERATIONS ago has stalled
STALL_ITERATIONS = 125


class StallSchedule:
    """The controls of K images, and the certified gaps that decide them.

    Attributes:
        controls: for the iteration. Its tensors stay in the same memory: a recorded iteration reads them there.
    """

    def __init__(self, images: Tensor, dtype: torch.dtype) -> None:
        self.controls = Controls(
            cg_steps=torch.full_like(images, CG_STEPS[0]),
            max_cg_steps=max(CG_STEPS),
            mixing=torch.full_like(images, MIXING[0], dtype=dtype),
        )
        self._gaps: list[tuple[int, Tensor]] = []  # of the last STALL_ITERATIONS, with their iteration
        self._switched = torch.full_like(images, -STALL_ITERATIONS)  # the iteration of the last switch

    def review(self, iteration: int, gap: Tensor) -> None:
        """Take note of the certified gaps (K,) after ``iteration`` iterations, and switch where they stall."""
        controls = self.controls
        self._gaps.append((iteration, gap))
        while iteration - self._gaps[0][0] >= STALL_ITERATIONS:
            earlier_gap = self._gaps.pop(0)[1]
            stalled = (gap > STALL_RATIO * earlier_gap) & (iteration - self._switched >= STALL_ITERATIONS)
            second_stall = stalled & (controls.mixing < MIXING[0])
            controls.cg_steps.copy_(torch.where(second_stall, sum(CG_STEPS) - controls.cg_steps, controls.cg_steps))
            controls.mixing.copy_(torch.where(stalled, sum(MIXING) - controls.mixing, controls.mixing))
            self._switched = torch.where(stalled, iteration, self._switched)

    def select(self, positions: Tensor) -> None:
        """Keep the images at ``positions`` (long, (K',)) alone."""
        controls = self.controls
        self.controls = Controls(controls.cg_steps[positions], controls.max_cg_steps, controls.mixing[positions])
        self._switched = self._switched[positions]
        self._gaps = [(iteration, gap[positions]) for iteration, gap in self._gaps]
