"""``frank_wolfe``: projection by calls to an exact linear oracle, a baseline (Frank and Wolfe 1956).

At v the objective ``|v - q|^2/2`` has the gradient ``v - q``, and s, the feasible point that maximises ``(q - v)'s``,
comes from a method that is exact for LinearProblem: ``closed_form`` or ``tiles``. The next v is the point nearest to q
of the triangle of v, s and the s of before: that is what fights the zigzag. Away steps would need the list of all s,
many images of memory. Convergence stays sublinear on faces of curved sets: points close to the set take thousands of
calls, and `closed_form`, `tiles` or `admm` are faster wherever this runs.

The oracle's dual y proves ``(q - v)'d <= (q - v)'s`` for all feasible d, hence, by convexity,

    |d - q|^2/2 >= |v - q|^2/2 - (q - v)'(s - v),

the Frank-Wolfe gap. As a dual of the projection the same y proves at least as much, so it is the certificate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import inner, per_image
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import MethodInfo, methods, register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# The exact methods that may serve as oracle, in order of preference.
ORACLES = ("closed_form", "tiles")


def _oracle(linear: Problem) -> MethodInfo | None:
    known = {info.name: info for info in methods()}
    able = (known[name] for name in ORACLES if known[name].refusal(linear) is None)
    return next(able, None)


def _without_oracle(problem: Problem) -> str | None:
    if _oracle(_linear(problem, problem.vector)) is not None:
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
    monitor = Monitor(problem, settings)
    part = monitor.problem
    images = torch.arange(problem.batch, device=problem.reference.device)
    delta = torch.zeros_like(part.reference)
    if warm_start is not None:
        # Feasible for the earlier problem, and repaired for this one.
        delta = monitor.certifier.repair(torch.as_tensor(warm_start.delta).to(delta).nan_to_num(0.0))
    vertex = delta
    oracle = _oracle(_linear(part, part.vector))
    assert oracle is not None  # accepts() has seen to it
    monitor.setup_done()
    monitor.check(0, delta, (None,) * len(problem.constraints), images)
    iteration = 0
    while bool(monitor.running.any()):
        keep = monitor.running[images]
        if not bool(keep.all()):
            index = keep.nonzero()[:, 0]
            images, delta, vertex, part = images[index], delta[index], vertex[index], part.select(index)
        checked = False
        while not checked:
            iteration += 1
            output = oracle.run(_linear(part, part.vector - delta), settings)
            checked = monitor.due(iteration)
            if checked:
                monitor.check(iteration, delta, output.dual, images)
            delta, vertex = _nearest(part.vector, delta, output.delta, vertex), output.delta
    return monitor.output()


def _linear(problem: Problem, gradient: Tensor) -> LinearProblem:
    return LinearProblem(gradient, problem.reference, problem.constraints)


def _nearest(target: Tensor, corner: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The point nearest to ``target`` in the triangle of three feasible points, image by image."""
    u, v, w = first - corner, second - corner, target - corner
    uu, uv, vv, wu, wv = inner(u, u), inner(u, v), inner(v, v), inner(w, u), inner(w, v)
    tiny = torch.finfo(uu.dtype).tiny
    determinant = (uu * vv - uv.square()).clamp_min(tiny)
    a, b = (vv * wu - uv * wv) / determinant, (uu * wv - uv * wu) / determinant
    inside = (a >= 0) & (b >= 0) & (a + b <= 1) & (determinant > 1e-12 * uu * vv)
    # Otherwise the nearest point lies on an edge; (a, b) of the nearest point of each.
    along_u = (wu / uu.clamp_min(tiny)).clamp(0, 1)
    along_v = (wv / vv.clamp_min(tiny)).clamp(0, 1)
    across = ((wv - wu - uv + uu) / (uu - 2 * uv + vv).clamp_min(tiny)).clamp(0, 1)
    zero = torch.zeros_like(along_u)
    firsts = torch.stack([a, along_u, zero, 1 - across])
    seconds = torch.stack([b, zero, along_v, across])
    # |w - a u - b v|^2 less |w|^2, halved.
    value = firsts.square() * uu / 2 + seconds.square() * vv / 2 + firsts * seconds * uv - firsts * wu - seconds * wv
    value[0] = torch.where(inside, value[0], torch.inf)
    best = value.argmin(dim=0, keepdim=True)
    a, b = firsts.gather(0, best)[0], seconds.gather(0, best)[0]
    return corner + per_image(a) * u + per_image(b) * v
