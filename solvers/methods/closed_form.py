"""``closed_form``: one ball over the whole image, with or without pixel bounds.

An l2 ball asks for one multiplier, found by sorting. An l1 ball is a fractional knapsack. GlobalSSIM is one window over
all pixels. The page docs/methods/tiles.md has the formulas.
"""

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
from solvers.windows.quadratic import Bounds


def _refusal(problem: Problem) -> str | None:
    """Why the problem has no closed form here, or ``None``."""
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
    accepts=_refusal,
)
def closed_form(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Exact, one ball over the image (l1, l2, l-infinity, GlobalSSIM): closed form, or a root search with a box."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    bounds = Bounds(*elementwise_bounds(exact, sets))
    curved = [k for k, bound in enumerate(sets) if not bound.is_elementwise]
    setup_time = time.perf_counter() - started
    blocks: list[Tensor | None] = [None] * len(sets)
    if not curved:
        delta = _over_bounds(exact, bounds)
    else:
        delta, blocks[curved[0]] = _over_ball(exact, sets[curved[0]], bounds)
    return MethodOutput(
        delta=delta,
        dual=tuple(blocks),
        status=(Status.OPTIMAL,) * problem.batch,
        iterations=(1,) * problem.batch,
        setup_time=setup_time,
    )


def _over_bounds(problem: Problem, bounds: Bounds) -> Tensor:
    """The optimum over the pixel bounds alone; a pixel with gradient 0 stays."""
    if isinstance(problem, ProjectionProblem):
        return bounds.clamp(problem.point)
    gradient = problem.vector
    corner = torch.where(gradient > 0, bounds.upper, bounds.lower)
    return torch.where(gradient == 0, torch.zeros_like(corner), corner)


def _over_ball(problem: Problem, bound: BoundConstraint, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """The optimum over one ball and the pixel bounds, and the ball's dual block."""
    if isinstance(bound, BoundGlobalSSIM):
        return _global_ssim(problem, bound, bounds)
    assert isinstance(bound, BoundLpBall)
    if bound.p == 2:
        linear = isinstance(problem, LinearProblem)
        delta, theta = l2_ball(problem.vector, bound.radius, bounds, linear=linear)
        return delta, per_image(theta) * delta
    if isinstance(problem, ProjectionProblem):
        delta = bound.project(problem.point)
        return delta, problem.point - delta
    return _l1_ball(problem.vector, bound, bounds)


def _global_ssim(problem: Problem, bound: BoundGlobalSSIM, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """GlobalSSIM is one window over all pixels, with equal weights and its mean kept."""
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
        lower=bounds.lower.flatten(1),
        upper=bounds.upper.flatten(1),
    )
    solution = solve_groups(groups, linear=linear)
    delta = solution.delta.reshape(shape)
    block = per_image(solution.ball / pixels) * (delta - bound.center) + per_image(solution.mean / pixels)
    return delta, block


def l2_ball(vector: Tensor, radius: Tensor, bounds: Bounds, *, linear: bool) -> tuple[Tensor, Tensor]:
    """The optimum over an l2 ball and pixel bounds, and the ball's multiplier.

    With a multiplier theta of ``(|d|^2 - radius^2)/2`` the optimum is ``d = clip(tau g)``, tau = 1/theta; for the
    projection of q it is ``d = clip(tau q)``, tau = 1/(1 + theta). Either norm grows with tau, and tau follows from
    ``|d| = radius`` by sorting.

    Args:
        vector: the gradient g (``linear``) or the point q to project, (B, C, H, W).
        radius: (B,); may be infinite for a projection.
        bounds: the pixel bounds, (B, C, H, W) each, which hold 0.
        linear: whether ``vector`` is a gradient.

    Returns:
        d, (B, C, H, W), and theta, (B,). The ball's dual block is ``theta d``. Where the bounds alone keep d inside the
        ball, theta is 0.
    """
    # The optimum without the ball: the limit of clip(tau v) for large tau, or clip(q).
    limit = torch.where(vector > 0, bounds.upper, bounds.lower)
    limit = torch.where(vector == 0, torch.zeros_like(limit), limit) if linear else bounds.clamp(vector)
    size = norm(limit)
    inactive = size <= radius
    # |clip(tau v)|^2 = sum_i min(tau |v_i|, |limit_i|)^2: sort by the tau at which a pixel reaches its limit.
    magnitude = vector.flatten(1).abs()
    reach = torch.where(vector > 0, bounds.upper, bounds.lower).flatten(1).abs() / magnitude.clamp_min(1e-300)
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
    delta = bounds.clamp(vector * per_image(tau))
    delta = torch.where(per_image(inactive), limit, delta)
    # Linear: g = theta d on free pixels. Projection: q = d + theta d on free pixels.
    theta = 1 / tau.clamp_min(1e-300) if linear else 1 / tau.clamp_min(1e-300) - 1
    return delta, torch.where(inactive, 0.0, theta)


def _l1_ball(gradient: Tensor, bound: BoundLpBall, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """A fractional knapsack: fill the pixels of largest |g| to their limits until the radius is spent."""
    limit = torch.where(gradient > 0, bounds.upper, bounds.lower).flatten(1).abs()
    magnitude = gradient.flatten(1).abs()
    order = magnitude.argsort(dim=1, descending=True, stable=True)
    room = torch.where(magnitude > 0, limit, 0.0).gather(1, order)
    room = torch.minimum(room, bound.radius[:, None])
    spent = room.cumsum(dim=1) - room
    filled = torch.minimum(room, (bound.radius[:, None] - spent).clamp_min(0))
    delta = torch.zeros_like(magnitude).scatter_(1, order, filled) * gradient.flatten(1).sign()
    # The threshold is |g| of the pixel at which the radius is spent, and 0 where the radius is never spent.
    last = (spent + room < bound.radius[:, None]).sum(dim=1, keepdim=True)
    padded = torch.cat([magnitude.gather(1, order), torch.zeros_like(magnitude[:, :1])], dim=1)
    threshold = padded.gather(1, last)
    block = gradient.flatten(1).clamp(-threshold, threshold)
    return delta.reshape(gradient.shape), block.reshape(gradient.shape)
