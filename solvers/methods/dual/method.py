"""``dual``: overlapping SSIM windows by one multiplier a constraint, updated by how much of its radius it uses.

At multipliers b, n the Lagrangian is maximised over the box by a few conjugate gradients (:mod:`.lagrangian`); then
every multiplier is multiplied by its constraint's ratio of use to radius, a fixed point of which is optimal (the
update of iteratively reweighted least squares). Scale-free, which on photos matters: radii vary tenfold between flat
and textured windows. Anderson mixing of the logarithms (:mod:`.anderson`) makes it fast.

What the iteration leaves unfinished does not hurt the certificate: the bound takes any multipliers, and the implied
box keeps small what is left of the stationarity residual; the point is brought into the set by accelerated averaged
projections (:mod:`solvers.constraints.ssim_windows.feasibility`).

Windows of :class:`~solvers.ProductSSIM` choose the split of their loss on the way (:mod:`.windows`). That set is
not convex, but the bound is of the exact set, and the point lies in it.

Memory: some tens of copies of the image, whatever the window: no window vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from solvers.backends.cuda_graph import CapturedStep
from solvers.batch_algebra import per_image
from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import finite_images, map_dual_block
from solvers.constraints.lp_ball import LpBall
from solvers.constraints.product_ssim import ProductSSIM
from solvers.constraints.ssim_windows.feasibility import averaged_projections
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.constraints.window_ssim import WindowSSIM
from solvers.methods.dual.anderson import AndersonAcceleration
from solvers.methods.dual.lagrangian import Lagrangian
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

GRADIENTS = 8, 5  # conjugate gradients an iteration; fewer after two stalls
MEMORY = 5  # of the mixing
PLAIN = 10  # iterations before mixing begins
LONGEST = 1.5  # of a log step
FLOOR = 1e-3  # of a ratio
DEPTH = 20.0  # logarithms below the image's largest multiplier at which one counts as zero
STALLED = 0.8  # of the gap of PATIENCE iterations ago: above it, mixing is halved, or made whole again
PATIENCE = 125
GLOBAL = "not convex; global bound by the windows' support functions"  # of ProductSSIM
CACHED = 49_152  # pixels, channels counted, that iterate together on a CPU: 3x128x128


def _refuses(problem: Problem) -> str | None:
    windows = [entry for entry in problem.constraints if isinstance(entry, (WindowSSIM, ProductSSIM))]
    if len(windows) != 1:
        return f"takes one WindowSSIM or ProductSSIM, got {len(windows)}"
    if windows[0].window.is_tiling:
        return f"is for windows that overlap, got size {windows[0].window.size} at the same stride"
    if isinstance(windows[0], WindowSSIM) and windows[0].beta == 0:
        return 'takes no WindowSSIM with luminance="preserve" (an equality has no finite multiplier update)'
    for k in problem.find(LpBall):
        if problem.constraints[k].p == 1:  # type: ignore[attr-defined]
            return "takes no LpBall with p=1"
    return None


@register_method(
    "dual",
    problems=(LinearProblem, ProjectionProblem),
    any_of={"WindowSSIM", "ProductSSIM"},
    optional={"Box", "Support", "LpBall"},
    warm_start=True,
    accepts=_refuses,
)
def dual(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """One multiplier a window, inner conjugate gradients, mixing; overlapping windows, with fixed or own splits."""
    monitor = Monitor(problem, settings)
    exact, linear = monitor.problem, isinstance(problem, LinearProblem)
    dtype = settings.dtype or problem.reference.dtype
    # A linear objective is scaled to unit size: multipliers must fit single precision whatever the gradient's size.
    size = exact.vector.flatten(1).abs().amax(dim=1)
    scale = torch.where(size > 0, size, 1.0) if linear else torch.ones_like(size)
    scaled = exact._replace(
        reference=exact.reference,
        vector=exact.vector / per_image(scale),
        constraints=exact.constraints,
        defects={},
    ).to(dtype=dtype)
    monitor.setup_done()
    warm_start = None if warm_start is None else _of_this_form(problem, warm_start)
    none: list[Any] = [None] * len(problem.constraints)
    monitor.check(0, torch.zeros_like(exact.vector) if linear else exact.vector, none, chunk=_together(problem))
    if warm_start is not None:
        _check_start(monitor, warm_start)
    parts: list[_Part] = []
    for images in torch.arange(problem.batch, device=problem.reference.device).split(_together(problem)):
        if bool(monitor.running[images].any()):
            parts.append(_Part(scaled, monitor, images[monitor.running[images]], scale, warm_start))
    iteration = 0
    while parts:
        # Each part goes on to the next check by itself: in turns, it would leave the cache every time.
        ahead = min(settings.check_interval - iteration % settings.check_interval, settings.max_iter - iteration)
        iteration += max(part.advance(ahead, monitor) for part in parts)
        _check(monitor, parts, iteration)
        parts = [part for part in parts if part.still_runs(monitor)]
        for part in parts:
            part.review(monitor.rel_gap[part.images])
    output = monitor.output()
    if problem.find(ProductSSIM):
        words = [f"{word}; {GLOBAL}" if word else GLOBAL for word in output.messages]
        output = replace(output, messages=tuple(words))
    return output


def _together(problem: Problem) -> int:
    """How many images fit a CPU's cache, where a larger group would only be slower; all of them on a GPU."""
    reference = problem.reference
    return max(CACHED // reference[0].numel(), 1) if reference.device.type == "cpu" else problem.batch


def _of_this_form(problem: Problem, warm_start: SolveResult) -> SolveResult:
    """Without the window duals of the other kind of windows, whose point means something else."""
    product = any(isinstance(constraint, ProductSSIM) for constraint in problem.constraints)
    foreign = [isinstance(block, WindowDual) and (block.reference is not None) != product for block in warm_start.dual]
    blocks = (None if other else block for other, block in zip(foreign, warm_start.dual, strict=True))
    return replace(warm_start, dual=tuple(blocks))


def _check_start(monitor: Monitor, warm_start: SolveResult) -> None:
    """Certify a warm start as it is: it may do already, and until the iteration passes it, it is the best there is."""
    delta = torch.as_tensor(warm_start.delta).to(monitor.delta)
    # Window vectors, of another method, are left out: with them the monitor would keep all duals in that form.
    known = all(block is None or isinstance(block, WindowDual) for block in warm_start.dual)
    dual = warm_start.dual if known and len(warm_start.dual) == len(monitor.dual) else [None] * len(monitor.dual)
    if bool(delta.isfinite().all()) and all(block is None or bool(finite_images(block).all()) for block in dual):
        monitor.check(0, delta, dual, chunk=_together(monitor.problem))


def _check(monitor: Monitor, parts: list[_Part], iteration: int) -> None:
    """One check of all parts together: one row of history, one call of the callback."""
    points = torch.cat([part.inside() for part in parts])
    duals = [part.dual() for part in parts]
    joined = [
        None if blocks[0] is None else map_dual_block(lambda *values: torch.cat(values), *blocks)
        for blocks in zip(*duals, strict=True)
    ]
    monitor.check(iteration, points, joined, torch.cat([part.images for part in parts]), _together(monitor.problem))


class _Part:
    """Some images on their way: log multipliers (K, n), d within the box, and the mixing's memory."""

    def __init__(
        self, scaled: Problem, monitor: Monitor, images: Tensor, scale: Tensor, warm_start: SolveResult | None
    ) -> None:
        self.scaled, self.images, self.all_scales = scaled, images, scale
        self.mixing = AndersonAcceleration(MEMORY)
        self.steps = 0
        self.mixed = torch.ones_like(images, dtype=scaled.reference.dtype)
        self.gradients = torch.full_like(images, GRADIENTS[0])
        self.gaps: list[tuple[int, Tensor]] = []  # of the last PATIENCE iterations, with the steps they are of
        self.changed = torch.full_like(images, -PATIENCE)  # the step at which the mixing last changed
        certifier, dtype = monitor.certifier, scaled.reference.dtype
        self.box = certifier.lower[images].to(dtype), certifier.upper[images].to(dtype)
        self.implied = certifier.implied_lower[images].to(dtype), certifier.implied_upper[images].to(dtype)
        self._pose()
        model = self.model
        self.delta = torch.zeros_like(model.problem.reference)
        multipliers = model.initial_multipliers()
        if warm_start is not None and len(warm_start.dual) == len(model.sets):
            blocks = [block if block is None else block[images] for block in warm_start.dual]
            given = torch.as_tensor(warm_start.delta).to(self.delta)[images]
            if bool(given.isfinite().all()):
                multipliers, given = model.resume(blocks, given, self.scale)
                self.delta = model.bounds.clamp(given)
                self.steps = PLAIN - 2  # near the solution already
        self.shape = multipliers
        self.logs = multipliers.flat().clamp_min(torch.finfo(dtype).tiny).log()
        self.raw = self.delta
        self.repeated: CapturedStep | None = None

    def _pose(self) -> None:
        self.model = Lagrangian(self.scaled.select(self.images), *self.implied)
        self.scale = self.all_scales[self.images].to(self.scaled.reference.dtype)

    def advance(self, steps: int, monitor: Monitor) -> int:
        """``steps`` iterations, fewer where time runs out; how many they were."""
        for step in range(steps):
            if self.repeated is None and self.mixing.full and not self.model.windows.remembers:
                self.repeated = CapturedStep(self._advance, self.logs, warmup_calls=0)
            if self.repeated is None:
                self._advance()
            else:
                self.repeated()
            self.steps += 1
            if monitor.out_of_time():
                return step + 1
        return steps

    def _advance(self) -> None:
        """An iteration. Its state stays in the same memory, and once the mixing is full its operations are the same
        every time: see :mod:`solvers.backends.cuda_graph`."""
        model = self.model
        model.set(self.shape.unflat(self.logs.exp()))
        # Not clipped: for the bound.
        self.raw = model.maximise(self.delta, self.gradients, max(GRADIENTS))
        self.delta.copy_(model.bounds.clamp(self.raw))
        ratio, share = model.ratios(self.delta)
        residual = ratio.clamp(FLOOR, 1 / FLOOR).log_()
        step = residual
        if self.steps >= PLAIN:
            step = torch.lerp(residual, self.mixing.step(self.logs, residual, share), self.mixed[:, None])
        logs = self.logs + step.clamp(-LONGEST, LONGEST)
        self.logs.copy_(torch.maximum(logs, logs.amax(dim=1, keepdim=True) - DEPTH))

    def inside(self) -> Tensor:
        """The iterate, brought into the windows."""
        return averaged_projections(self.model.windows.bound, self.delta, *self.box)

    def dual(self) -> list[DualBlock | None]:
        """The blocks at the iterate."""
        return self.model.dual(self.raw, self.scale)

    def review(self, gap: Tensor) -> None:
        """Where the certified gap (K,) stalls, mix half as much, or fully again: photos with slow modes need all of
        it, and on others it jumps. After both, another number of gradients."""
        self.gaps.append((self.steps, gap))
        while self.steps - self.gaps[0][0] >= PATIENCE:
            stalled = (gap > STALLED * self.gaps.pop(0)[1]) & (self.steps - self.changed >= PATIENCE)
            other = sum(GRADIENTS) - self.gradients
            # In place: a recorded iteration reads them where they are.
            self.gradients.copy_(torch.where(stalled & (self.mixed < 1), other, self.gradients))
            self.mixed.copy_(torch.where(stalled, 1.5 - self.mixed, self.mixed))
            self.changed = torch.where(stalled, self.steps, self.changed)

    def still_runs(self, monitor: Monitor) -> bool:
        """Whether any image does; those that are finished leave, so that they cost nothing."""
        keep = monitor.running[self.images].nonzero()[:, 0]
        if 0 < len(keep) < len(self.images):
            self.images, self.logs, self.delta, self.raw = (
                values[keep] for values in (self.images, self.logs, self.delta, self.raw)
            )
            self.mixed, self.changed, self.gradients = (
                values[keep] for values in (self.mixed, self.changed, self.gradients)
            )
            self.box = self.box[0][keep], self.box[1][keep]
            self.implied = self.implied[0][keep], self.implied[1][keep]
            self.gaps = [(step, gap[keep]) for step, gap in self.gaps]
            self.mixing.select(keep)
            windows = self.model.windows
            self._pose()
            self.model.windows.follow(windows, keep)
            self.repeated = None
        return len(keep) > 0
