"""``frank_wolfe``: projection by calls to an exact linear oracle; a baseline (Frank and Wolfe 1956).

To minimise ``|d - q|^2/2`` over a convex set C, from a feasible v and the vertex s of the call before::

    s+  =  argmax { (q - v)'s : s in C }                    the linear oracle, closed_form or tiles
    v+  =  the point nearest to q of the triangle v, s+, s

The triangle fights the zigzag of the plain method, which takes the nearest point of the segment v, s+. (Away steps
would need the list of all s: many images of memory.) Convergence stays sublinear on faces of curved sets. Points close
to the set take thousands of calls, and ``closed_form``, ``tiles`` or ``admm`` are faster wherever this method runs.

The oracle's dual y proves ``(q - v)'d <= (q - v)'s+`` for all feasible d. By convexity, then,

    |d - q|^2/2 >= |v - q|^2/2 - (q - v)'(s+ - v),

which is the Frank-Wolfe gap. As a dual of the projection the same y proves at least as much, so y is the certificate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers import clock
from solvers.batch_algebra import inner, per_image
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import MethodInfo, methods, register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# The exact methods that may serve as oracle, in order of preference.
ORACLES = ("closed_form", "tiles")
# A triangle whose angle has a squared sine below this share counts as flat: the nearest point is sought on its edges.
FLAT_TRIANGLE = 1e-12


def _find_oracle(linear: Problem) -> MethodInfo | None:
    """The first of ORACLES that takes ``linear``."""
    registered = {info.name: info for info in methods()}
    able = (registered[name] for name in ORACLES if registered[name].refusal(linear) is None)
    return next(able, None)


def _without_oracle(problem: Problem) -> str | None:
    """Why there is no oracle for ``problem``, or ``None`` where there is one."""
    if _find_oracle(_linear_problem(problem, problem.vector)) is not None:
        return None
    return f"needs an exact linear oracle, {' or '.join(ORACLES)}, and neither takes these sets"


@register_method(
    "frank_wolfe",
    problems=(ProjectionProblem,),
    any_of={"WindowSSIM", "LpBall", "GlobalSSIM", "Box"},
    optional={"Support"},
    warm_start=True,
    accepts=_without_oracle,
)
def frank_wolfe(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """A baseline, projections only: Frank-Wolfe with closed_form or tiles as linear oracle."""
    # Start from 0, or from an earlier result repaired for this problem.
    monitor = Monitor(problem, settings)
    remaining = monitor.problem
    images = torch.arange(problem.batch, device=problem.reference.device)
    delta = torch.zeros_like(remaining.reference)
    if warm_start is not None:
        delta = monitor.certifier.repair(torch.as_tensor(warm_start.delta).to(delta).nan_to_num(0.0))
    vertex = delta
    oracle = _find_oracle(_linear_problem(remaining, remaining.vector))
    assert oracle is not None  # _without_oracle has made sure of that
    monitor.setup_done()
    monitor.check(0, delta, (None,) * len(problem.constraints), images)
    iteration = 0
    while monitor.any_running:
        # Finished images leave.
        keep = monitor.still_running(images)
        if keep is not None:
            images, delta, vertex, remaining = images[keep], delta[keep], vertex[keep], remaining.select(keep)

        # Call the oracle along the negative gradient.
        iteration += 1
        with clock.deadline(monitor.plan.iterations_end):
            answer = oracle.run(_linear_problem(remaining, remaining.vector - delta), settings)

        # Certify the point with the oracle's dual.
        if monitor.due(iteration):
            monitor.check(iteration, delta, answer.dual, images)

        # Go to the nearest point of the triangle.
        delta, vertex = _nearest_in_triangle(remaining.vector, delta, answer.delta, vertex), answer.delta
    return monitor.output()


def _linear_problem(problem: Problem, gradient: Tensor) -> LinearProblem:
    """The problem that maximises ``gradient'd`` over the same sets."""
    return LinearProblem(gradient, problem.reference, problem.constraints)


def _nearest_in_triangle(target: Tensor, corner: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The point nearest to ``target`` in the triangle of the other three, image by image; (B, C, H, W) each."""
    # Points of the triangle are corner + a u + b v, with a, b >= 0 and a + b <= 1.
    u, v, w = first - corner, second - corner, target - corner
    uu, uv, vv, wu, wv = inner(u, u), inner(u, v), inner(v, v), inner(w, u), inner(w, v)
    tiny = torch.finfo(uu.dtype).tiny
    # The nearest point of the whole plane.
    determinant = (uu * vv - uv.square()).clamp_min(tiny)
    a, b = (vv * wu - uv * wv) / determinant, (uu * wv - uv * wu) / determinant
    inside = (a >= 0) & (b >= 0) & (a + b <= 1) & (determinant > FLAT_TRIANGLE * uu * vv)
    # Where that lies outside the triangle, the nearest point lies on an edge: (a, b) of the nearest point of each edge.
    along_u = (wu / uu.clamp_min(tiny)).clamp(0, 1)
    along_v = (wv / vv.clamp_min(tiny)).clamp(0, 1)
    across = ((wv - wu - uv + uu) / (uu - 2 * uv + vv).clamp_min(tiny)).clamp(0, 1)
    zero = torch.zeros_like(along_u)
    all_a = torch.stack([a, along_u, zero, 1 - across])
    all_b = torch.stack([b, zero, along_v, across])
    # Half of |w - a u - b v|^2 - |w|^2.
    value = all_a.square() * uu / 2 + all_b.square() * vv / 2 + all_a * all_b * uv - all_a * wu - all_b * wv
    value[0] = torch.where(inside, value[0], torch.inf)
    best = value.argmin(dim=0, keepdim=True)
    a, b = all_a.gather(0, best)[0], all_b.gather(0, best)[0]
    return corner + per_image(a) * u + per_image(b) * v
