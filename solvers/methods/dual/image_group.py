"""Images that ``dual`` iterates together: their iterate, who still runs, and the recording of iterations on a GPU."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from solvers.backends.cuda_graph import CapturedStep
from solvers.constraints.base import DualBlock
from solvers.constraints.ssim_windows.feasibility import averaged_projections
from solvers.methods.dual.anderson import AndersonAcceleration
from solvers.methods.dual.iteration import ANDERSON_MEMORY, WARMUP_ITERATIONS, DualIterate, DualIteration
from solvers.methods.dual.lagrangian import Lagrangian
from solvers.methods.dual.stall_schedule import StallSchedule
from solvers.methods.dual.warm_start import initial_multipliers, resumed
from solvers.methods.monitor import Monitor
from solvers.problem import Problem
from solvers.result import SolveResult
from solvers.windows.quadratic import Bounds

# After a warm start the iterates are near the solution: mixing begins after so many iterations.
WARM_WARMUP_ITERATIONS = 2


class ImageGroup:
    """Some images of a problem on their way.

    Args:
        scaled: the whole problem, its linear objective scaled to unit size, in the dtype of the iteration.
        monitor: of the whole problem.
        images: (K,), long, the images of this group.
        scale: (B,), what the objective was divided by.
        warm_start: an earlier result of the whole problem, or ``None``.

    Attributes:
        images: (K,), long, those of the group that still run.
        iterate: their :class:`~.iteration.DualIterate`. Its first two tensors stay in the same memory.
    """

    def __init__(
        self, scaled: Problem, monitor: Monitor, images: Tensor, scale: Tensor, warm_start: SolveResult | None
    ) -> None:
        self._scaled, self._all_scales = scaled, scale
        self.images = images
        self._has_iterated = False
        self._count = 0  # iterations that count for the warm-up of mixing and for stalls
        dtype, certifier = scaled.reference.dtype, monitor.certifier
        self._acceleration = AndersonAcceleration(ANDERSON_MEMORY)
        self._schedule = StallSchedule(images, dtype)
        self._box = Bounds(certifier.lower[images].to(dtype), certifier.upper[images].to(dtype))
        self._implied_box = Bounds(certifier.implied_lower[images].to(dtype), certifier.implied_upper[images].to(dtype))
        self._pose()
        multipliers, delta = initial_multipliers(self._lagrangian), torch.zeros_like(self._problem.reference)
        if warm_start is not None:
            earlier = resumed(self._lagrangian, multipliers, warm_start, images, self._scale)
            if earlier is not None:
                multipliers, point = earlier
                delta = self._lagrangian.bounds.clamp(point)
                self._count = WARMUP_ITERATIONS - WARM_WARMUP_ITERATIONS
        logs = multipliers.flat().clamp_min(torch.finfo(dtype).tiny).log()
        self.iterate = DualIterate(logs, delta, delta)
        self._captured: CapturedStep | None = None

    def _pose(self) -> None:
        """The problem, its Lagrangian and the iteration of the images that run."""
        self._problem = self._scaled.select(self.images)
        self._scale = self._all_scales[self.images].to(self._scaled.reference.dtype)
        self._lagrangian = Lagrangian(self._problem, self._implied_box)
        self._iteration = DualIteration(self._lagrangian, self._acceleration)

    # -- iterations ------------------------------------------------------------------------------------------

    def advance(self, count: int, monitor: Monitor) -> int:
        """Make ``count`` iterations, or fewer where time runs out, but at least the first one; return how many they
        were."""
        if self._has_iterated and monitor.plan.last_check_is_due:
            return 0
        for done in range(1, count + 1):
            self._has_iterated = True
            # Once the ring of the mixing is full, every iteration does the same operations on the same memory.
            if self._captured is None and self._acceleration.full and not self._lagrangian.windows.remembers:
                self._captured = CapturedStep(self._iterate, self.iterate.log_multipliers, warmup_calls=0)
            if self._captured is None:
                self._iterate()
            else:
                self._captured()
            self._count += 1
            if monitor.out_of_time():
                return done
        return count

    def _iterate(self) -> None:
        """One iteration, written back into the memory that the next one reads."""
        following = self._iteration.next(self.iterate, self._schedule.controls, self._count)
        self.iterate.log_multipliers.copy_(following.log_multipliers)
        self.iterate.delta.copy_(following.delta)
        self.iterate = replace(self.iterate, maximiser=following.maximiser)

    # -- what is certified -----------------------------------------------------------------------------------

    def feasible_point(self) -> Tensor:
        """The iterate, moved into the windows within the box, (K, C, H, W)."""
        windows = self._lagrangian.windows.bound
        return averaged_projections(windows, self.iterate.delta, self._box.lower, self._box.upper)

    def dual(self) -> list[DualBlock | None]:
        """The dual blocks at the iterate, in the units of the problem as it was given."""
        return self._lagrangian.dual(self.iterate.maximiser, self._scale)

    # -- who runs --------------------------------------------------------------------------------------------

    def review(self, gap: Tensor) -> None:
        """Adapt to the certified gaps (K,)."""
        self._schedule.review(self._count, gap)

    def drop_finished(self, monitor: Monitor) -> bool:
        """Let finished images leave, so that they cost nothing; return whether any image runs."""
        positions = monitor.running[self.images].nonzero()[:, 0]
        if 0 < len(positions) < len(self.images):
            windows, iterate = self._lagrangian.windows, self.iterate
            self.images = self.images[positions]
            self.iterate = DualIterate(
                iterate.log_multipliers[positions], iterate.delta[positions], iterate.maximiser[positions]
            )
            self._box = self._box.map(lambda bound: bound[positions])
            self._implied_box = self._implied_box.map(lambda bound: bound[positions])
            self._schedule.select(positions)
            self._acceleration.select(positions)
            self._pose()
            self._lagrangian.windows.follow(windows, positions)
            self._captured = None
        return len(positions) > 0
