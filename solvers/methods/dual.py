"""``dual``: overlapping SSIM windows by one multiplier a constraint, updated by how much of its radius it uses.

At multipliers b, n the Lagrangian is maximised over the box by a few conjugate gradients (:mod:`.dual_model`); then
every multiplier is multiplied by its constraint's ratio of use to radius, a fixed point of which is optimal (the
update of iteratively reweighted least squares). Scale-free, which on photos matters: radii vary tenfold between flat
and textured windows. Anderson mixing of the logarithms (:mod:`.mixing`) makes it fast.

What the iteration leaves unfinished does not hurt the certificate: the bound takes any multipliers, and the implied
box keeps small what is left of the stationarity residual; the point is brought into the set by accelerated averaged
projections (:mod:`solvers.constraints.window_repair`).

Memory: some forty images an image in the iterations' dtype, whatever the window.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from solvers.constraints.base import per_image
from solvers.constraints.lp import LpBall
from solvers.constraints.window_repair import pull
from solvers.constraints.window_ssim import WindowSSIM
from solvers.methods.box_gradients import ascend
from solvers.methods.dual_model import Lagrangian, Multipliers
from solvers.methods.mixing import Mixing
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

GRADIENTS = 5  # conjugate gradients an iteration
MEMORY = 5  # of the mixing
PLAIN = 10  # iterations before mixing begins
LONGEST = 1.5  # of a log step
FLOOR = 1e-3  # of a ratio
DEPTH = 20.0  # logarithms below the image's largest multiplier at which one counts as zero


def _refuses(problem: Problem) -> str | None:
    windows = [problem.constraints[k] for k in problem.find(WindowSSIM)]
    if len(windows) != 1:
        return f"takes one WindowSSIM, got {len(windows)}"
    assert isinstance(windows[0], WindowSSIM)
    if windows[0].beta == 0:
        return 'takes no WindowSSIM with luminance="preserve" (an equality has no finite multiplier update)'
    for k in problem.find(LpBall):
        if problem.constraints[k].p == 1:  # type: ignore[attr-defined]
            return "takes no LpBall with p=1"
    return None


@register_method(
    "dual",
    problems=(LinearProblem, ProjectionProblem),
    required={"WindowSSIM"},
    optional={"Box", "Support", "LpBall", "FeatureBall"},
    warm_start=True,
    accepts=_refuses,
)
def dual(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """One multiplier a window, inner conjugate gradients, mixing; the method for overlapping windows."""
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
    images = torch.arange(problem.batch, device=problem.reference.device)
    none: list[Any] = [None] * len(problem.constraints)
    monitor.setup_done()
    monitor.check(0, torch.zeros_like(exact.vector) if linear else exact.vector, none)

    def pose() -> Lagrangian:
        limits = monitor.certifier.implied_lower, monitor.certifier.implied_upper
        lower, upper = (limit[images].to(dtype) for limit in limits)
        return Lagrangian(scaled.select(images), lower, upper)

    state: _State | None = None
    iteration = 0
    while bool(monitor.running.any()):
        keep = monitor.running[images].nonzero()[:, 0]
        if state is None or len(keep) < len(images):
            # Finished images leave the batch, so that they cost nothing.
            images = images[keep]
            model = pose()
            if state is None:
                state = _start(model, warm_start, images, scale)
            else:
                state.select(keep)
        iteration += 1
        raw = _advance(model, state)
        if monitor.due(iteration):
            inside = pull(model.window, state.delta, *(limit[images].to(dtype) for limit in _box(monitor)))
            monitor.check(iteration, inside, model.dual(raw, scale[images].to(dtype)), images)
    return monitor.output()


class _State:
    """Where an image is: log multipliers (K, n), d within the box, and the mixing's memory."""

    def __init__(self, logs: Tensor, shape: Multipliers, delta: Tensor) -> None:
        self.logs, self.shape, self.delta = logs, shape, delta
        self.mixing = Mixing(MEMORY)
        self.steps = 0

    def select(self, keep: Tensor) -> None:
        self.logs, self.delta = self.logs[keep], self.delta[keep]
        self.mixing.select(keep)


def _start(model: Lagrangian, warm_start: SolveResult | None, images: Tensor, scale: Tensor) -> _State:
    delta = torch.zeros_like(model.problem.reference)
    multipliers = model.first_multipliers()
    if warm_start is not None and len(warm_start.dual) == len(model.sets):
        given = torch.as_tensor(warm_start.delta).to(delta)[images]
        if bool(given.isfinite().all()):
            blocks = [block if block is None else block[images] for block in warm_start.dual]
            multipliers = model.multipliers_of(blocks, given, scale[images].to(delta))
            delta = given.clamp(model.lower, model.upper)
    logs = multipliers.flat().clamp_min(torch.finfo(delta.dtype).tiny).log()
    return _State(logs, multipliers, delta)


def _advance(model: Lagrangian, state: _State) -> Tensor:
    """One iteration; returns the Lagrangian's maximiser before clipping, for the bound."""
    model.set(state.shape.unflat(state.logs.exp()))
    box = model.lower, model.upper
    raw = ascend(model.product, model.right, model.diagonal, state.delta, box, model.inner, GRADIENTS)
    state.delta = raw.clamp(*box)
    ratio, share = model.ratios(state.delta)
    residual = ratio.clamp(FLOOR, 1 / FLOOR).log_()
    step = residual
    if state.steps >= PLAIN:
        step = state.mixing.step(state.logs, residual, share)
    logs = state.logs + step.clamp(-LONGEST, LONGEST)
    state.logs = torch.maximum(logs, logs.amax(dim=1, keepdim=True) - DEPTH)
    state.steps += 1
    return raw


def _box(monitor: Monitor) -> tuple[Tensor, Tensor]:
    return monitor.certifier.lower, monitor.certifier.upper

