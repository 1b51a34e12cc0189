"""``closed_form``: one ball over the whole image, with or without pixel bounds."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import BoundConstraint
from solvers.constraints.global_ssim import BoundGlobalSSIM, GlobalSSIM
from solvers.constraints.lp_ball import BoundLpBall, LpBall
from solvers.constraints.ssim_windows.single_window_solver import Groups, solve_groups
from solvers.problem import LinearProblem, Problem, ProjectionProblem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings


def _single_ball(problem: Problem) -> str | None:
    curved = [
        constraint
        for constraint in problem.constraints
        if isinstance(constraint, GlobalSSIM) or (isinstance(constraint, LpBall) and constraint.p != math.inf)
    ]
    if len(curved) > 1:
        names = " and ".join(c.kind if isinstance(c, GlobalSSIM) else f"LpBall({c.p:g})" for c in curved)
        return f"takes one l1, l2 or GlobalSSIM ball beside elementwise sets, got {names}"
    l1 = any(isinstance(constraint, LpBall) and constraint.p == 1 for constraint in curved)
    if l1 and isinstance(problem, ProjectionProblem) and len(problem.constraints) > 1:
        return "projects onto an l1 ball only where it stands alone"
    if not curved and "Support" in problem.kinds() and not {"Box", "LpBall"} & set(problem.kinds()):
        return "needs a bounded set beside Support"
    return None


@register_method(
    "closed_form",
    problems=(LinearProblem, ProjectionProblem),
    any_of={"LpBall", "GlobalSSIM", "Box"},
    optional={"Support"},
    exact=True,
    accepts=_single_ball,
)
def closed_form(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact, one ball over the image (l1, l2, l-infinity, GlobalSSIM): closed form, or a root search with a box."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    lower, upper = elementwise_bounds(exact, sets)
    curved = [k for k, bound in enumerate(sets) if not bound.is_elementwise]
    setup_time = time.perf_counter() - started
    blocks: list[Tensor | None] = [None] * len(sets)
    if not curved:
        delta = _elementwise(exact, lower, upper)
    else:
        delta, blocks[curved[0]] = _ball(exact, sets[curved[0]], lower, upper)
    return MethodOutput(
        delta=delta,
        dual=tuple(blocks),
        status=(Status.OPTIMAL,) * problem.batch,
        iterations=(1,) * problem.batch,
        setup_time=setup_time,
    )


def _elementwise(problem: Problem, lower: Tensor, upper: Tensor) -> Tensor:
    if isinstance(problem, ProjectionProblem):
        return problem.point.clamp(lower, upper)
    gradient = problem.vector
    corner = torch.where(gradient > 0, upper, lower)
    return torch.where(gradient == 0, torch.zeros_like(corner), corner)


def _ball(problem: Problem, bound: BoundConstraint, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The optimum and the ball's dual block."""
    if isinstance(bound, BoundGlobalSSIM):
        return _global_ssim(problem, bound, lower, upper)
    assert isinstance(bound, BoundLpBall)
    if bound.p == 2:
        linear = isinstance(problem, LinearProblem)
        delta, theta = l2_ball(problem.vector, bound.radius, lower, upper, linear=linear)
        return delta, per_image(theta) * delta
    if isinstance(problem, ProjectionProblem):
        delta = bound.project(problem.point)
        return delta, problem.point - delta
    return _l1(problem.vector, bound, lower, upper)


def _global_ssim(problem: Problem, bound: BoundGlobalSSIM, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The ball is one window over all pixels with equal weights and its mean kept."""
    linear = isinstance(problem, LinearProblem)
    shape, pixels = problem.reference.shape, problem.reference[0].numel()
    target = problem.vector.flatten(1)
    zero = torch.zeros_like(bound.radius)
    groups = Groups(
        target=target * pixels if linear else target,
        weights=torch.full_like(target, 1 / pixels),
        center=bound.center.flatten(1),
        radius=bound.radius / math.sqrt(pixels),
        mean_lower=zero,
        mean_upper=zero,
        lower=lower.flatten(1),
        upper=upper.flatten(1),
    )
    solution = solve_groups(groups, linear=linear)
    delta = solution.delta.reshape(shape)
    block = per_image(solution.ball / pixels) * (delta - bound.center) + per_image(solution.mean / pixels)
    return delta, block


def l2_ball(vector: Tensor, radius: Tensor, lower: Tensor, upper: Tensor, *, linear: bool) -> tuple[Tensor, Tensor]:
    """The optimum over an l2 ball and a box, for a gradient (``linear``) or a point to project, (B, C, H, W).

    ``d = clip(tau g)``, or ``clip(q tau/(tau + 1))``, with tau from ``|d| = radius``; the norm grows with tau. Returned
    with the ball's multiplier theta, (B,), whose dual block is ``theta d``; 0 where the box alone keeps d inside.
    """
    limit = torch.where(vector > 0, upper, lower)
    limit = torch.where(vector == 0, torch.zeros_like(limit), limit) if linear else vector.clamp(lower, upper)
    size = norm(limit)
    slack = size <= radius
    # |clip(tau v)|^2 = sum_i min(tau |v_i|, |limit_i|)^2: sort by the tau at which a pixel reaches its limit.
    magnitude = vector.flatten(1).abs()
    reach = torch.where(vector > 0, upper, lower).flatten(1).abs() / magnitude.clamp_min(1e-300)
    reach = torch.where(magnitude > 0, reach, torch.inf)
    order = reach.argsort(dim=1)
    sorted_reach = reach.gather(1, order)
    energy = magnitude.square().gather(1, order)
    capped = torch.where(sorted_reach.isfinite(), sorted_reach.square() * energy, 0.0).cumsum(dim=1)
    free = energy.flip(1).cumsum(dim=1).flip(1)
    # With the first k pixels at their limits: tau^2 = (radius^2 - capped_k)/free_k.
    before = torch.cat([torch.zeros_like(capped[:, :1]), capped[:, :-1]], dim=1)
    trial = ((radius.square()[:, None] - before).clamp_min(0) / free.clamp_min(1e-300)).sqrt()
    fits = trial <= sorted_reach
    fits[:, -1] = True  # rounding may leave none where the ball only just cuts the corner
    first = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    tau = trial.gather(1, first)[:, 0]
    delta = (vector * per_image(tau)).clamp(lower, upper)
    delta = torch.where(per_image(slack), limit, delta)
    # Linear: g = y + z with y = d/tau on free pixels. Projection: q = d + y, y = theta d, theta = 1/tau - 1.
    theta = 1 / tau.clamp_min(1e-300) if linear else 1 / tau.clamp_min(1e-300) - 1
    return delta, torch.where(slack, 0.0, theta)


def _l1(gradient: Tensor, bound: BoundLpBall, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """A fractional knapsack: fill the pixels of largest |g| to their limits until the radius is spent."""
    limit = torch.where(gradient > 0, upper, lower).flatten(1).abs()
    magnitude = gradient.flatten(1).abs()
    order = magnitude.argsort(dim=1, descending=True, stable=True)
    room = torch.where(magnitude > 0, limit, 0.0).gather(1, order)
    room = torch.minimum(room, bound.radius[:, None])
    spent = room.cumsum(dim=1) - room
    filled = torch.minimum(room, (bound.radius[:, None] - spent).clamp_min(0))
    delta = torch.zeros_like(magnitude).scatter_(1, order, filled) * gradient.flatten(1).sign()
    # The threshold: |g| of the pixel at which the radius is spent; 0 where it never is.
    last = (spent + room < bound.radius[:, None]).sum(dim=1, keepdim=True)
    padded = torch.cat([magnitude.gather(1, order), torch.zeros_like(magnitude[:, :1])], dim=1)
    threshold = padded.gather(1, last)
    block = gradient.flatten(1).clamp(-threshold, threshold)
    return delta.reshape(gradient.shape), block.reshape(gradient.shape)
