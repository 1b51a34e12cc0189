"""``dual``: overlapping SSIM windows by one multiplier a constraint, updated by how much of its radius it uses.

The iteration itself, as equations, is in :mod:`.iteration`, and its page of mathematics is docs/methods/dual.md. This
file scales the problem, splits the batch into groups that fit the cache, and certifies the iterates at the checks.

What the iteration leaves unfinished does not hurt the certificate. The bound takes any multipliers, and the implied box
keeps small what is left of the stationarity residual. The point is moved into the set by accelerated averaged
projections (:mod:`solvers.constraints.ssim_windows.feasibility`).

The set of :class:`~solvers.ProductSSIM` is not convex, but the bound is of the exact set, and the point lies in it.

Memory: some tens of copies of the image, whatever the window, and no window vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from solvers import clock
from solvers.batch_algebra import per_image
from solvers.constraints.dual_blocks import map_dual_block
from solvers.constraints.lp_ball import LpBall
from solvers.constraints.product_ssim import ProductSSIM
from solvers.constraints.window_ssim import WindowSSIM
from solvers.methods.dual.image_group import ImageGroup
from solvers.methods.dual.warm_start import certify_start, of_this_form
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

PRODUCT_NOTE = "not convex; global bound by the windows' support functions"  # of ProductSSIM, in the messages
PROJECTIONS_TIME_SHARE = 0.5  # of the time that is left for a check: the most that the projections before it take
CACHED_PIXELS = 49_152  # pixels, channels counted, that iterate together on a CPU: 3x128x128


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
    compiled=True,
    accepts=_refuses,
)
def dual(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """One multiplier a window, inner conjugate gradients, mixing; overlapping windows, with fixed or own splits."""
    monitor = Monitor(problem, settings)
    scaled, scale = _scaled(problem, monitor, settings)
    monitor.setup_done()
    chunk = _images_in_cache(problem)
    _check_trivial_point(problem, monitor, chunk)
    if warm_start is not None:
        warm_start = of_this_form(problem, warm_start)
        certify_start(monitor, warm_start, chunk)
    groups = [
        ImageGroup(scaled, monitor, images[monitor.running[images]], scale, warm_start)
        for images in torch.arange(problem.batch, device=problem.reference.device).split(chunk)
        if bool(monitor.running[images].any())
    ]
    iteration = 0
    while groups:
        # Each group goes on to the next check by itself: in turns, it would leave the cache every time.
        count = min(settings.check_interval - iteration % settings.check_interval, settings.max_iter - iteration)
        iteration += max(group.advance(count, monitor) for group in groups)
        monitor.begin_check()
        _check(monitor, groups, iteration, chunk)
        groups = [group for group in groups if group.drop_finished(monitor)]
        for group in groups:
            group.review(monitor.rel_gap[group.images])
    return _with_note(problem, monitor.output())


def _scaled(problem: Problem, monitor: Monitor, settings: Settings) -> tuple[Problem, Tensor]:
    """The problem in the dtype of the iteration, and what its linear objective was divided by, (B,).

    A linear objective is scaled to unit size: multipliers must fit single precision whatever the gradient's size.
    """
    exact = monitor.problem
    size = exact.vector.flatten(1).abs().amax(dim=1)
    linear = isinstance(problem, LinearProblem)
    scale = torch.where(size > 0, size, 1.0) if linear else torch.ones_like(size)
    scaled = exact._replace(
        reference=exact.reference,
        vector=exact.vector / per_image(scale),
        constraints=exact.constraints,
        defects={},
    )
    return scaled.to(dtype=settings.dtype or problem.reference.dtype), scale


def _images_in_cache(problem: Problem) -> int:
    """How many images fit a CPU's cache, where a larger group would only be slower; all of them on a GPU."""
    reference = problem.reference
    return max(CACHED_PIXELS // reference[0].numel(), 1) if reference.device.type == "cpu" else problem.batch


def _check_trivial_point(problem: Problem, monitor: Monitor, chunk: int) -> None:
    """Certify d = 0, or for a projection the point itself, without multipliers."""
    if isinstance(problem, LinearProblem):
        monitor.check_best()
    else:
        none: list[Any] = [None] * len(problem.constraints)
        monitor.check(0, monitor.problem.vector, none, chunk=chunk)


def _check(monitor: Monitor, groups: list[ImageGroup], iteration: int, chunk: int) -> None:
    """One check of all groups together: one row of history, one call of the callback."""
    if monitor.too_late_to_certify(iteration):
        monitor.check_best(iteration)
        return
    with clock.deadline(monitor.plan.share_of_check(PROJECTIONS_TIME_SHARE)):
        points = torch.cat([group.feasible_point() for group in groups])
    duals = [group.dual() for group in groups]
    blocks = [
        None if group_blocks[0] is None else map_dual_block(lambda *parts: torch.cat(parts), *group_blocks)
        for group_blocks in zip(*duals, strict=True)
    ]
    monitor.check(iteration, points, blocks, torch.cat([group.images for group in groups]), chunk)


def _with_note(problem: Problem, output: MethodOutput) -> MethodOutput:
    """The output, whose messages say of ProductSSIM what its bound is worth."""
    if not problem.find(ProductSSIM):
        return output
    notes = [f"{message}; {PRODUCT_NOTE}" if message else PRODUCT_NOTE for message in output.messages]
    return replace(output, messages=tuple(notes))
