"""``admm``: over-relaxed splitting with a penalty per window (:mod:`solvers.methods.splitting.iteration`)."""

from __future__ import annotations

from solvers.methods.splitting.iteration import FIRST_ADAPTATION, begin, refuses
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# Over-relaxation; the iteration converges below 2.
RELAXATION = 1.9


@register_method(
    "admm",
    problems=(LinearProblem, ProjectionProblem),
    any_of={"WindowSSIM", "LpBall", "GlobalSSIM", "FeatureBall"},
    optional={"Box", "Support"},
    warm_start=True,
    accepts=refuses,
)
def admm(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Any windows, l1, l2 and feature balls: splitting with adaptive penalties per window; memory image x window."""
    monitor, split, point = begin(problem, settings, warm_start)
    iteration, adapted, adapt_at = 0, point, FIRST_ADAPTATION
    while bool(monitor.running.any()):
        keep = monitor.running[split.images]
        if not bool(keep.all()):
            keep = keep.nonzero()[:, 0]
            split, point, adapted = split.narrowed(keep), point[keep], adapted[keep]
        # Only a check makes images finish.
        checked = False
        while not checked:
            iteration += 1
            new = split.advance(point)
            checked = monitor.due(iteration)
            if checked:
                # The plain iterate is better to certify than the relaxed one.
                monitor.check(iteration, new.delta, split.blocks_of(new), split.images)
            if iteration == adapt_at:
                split.adapt(new.minus(adapted))
                adapted, adapt_at = new, 2 * adapt_at
            point = point.towards(new, RELAXATION)
    return monitor.output()
