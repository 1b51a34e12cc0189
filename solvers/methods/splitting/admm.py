"""``admm``: the splitting iteration with over-relaxation and a weight per window.

The iteration is in :mod:`solvers.methods.splitting.iteration`, with z = (d, y) and T the plain iteration::

    z  <-  z + rho (T z - z),      rho = RELAXATION

The weights adapt after 20, 40, 80, ... iterations. The page docs/methods/splitting.md has the mathematics.
"""

from __future__ import annotations

from solvers.methods.splitting.iteration import FIRST_ADAPTATION, begin, register_splitting_method
from solvers.problem import Problem
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# Over-relaxation rho. The iteration converges for 0 < rho < 2.
RELAXATION = 1.9


@register_splitting_method("admm")
def admm(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Any windows, l1, l2 and feature balls: splitting with adaptive penalties per window; memory image x window."""
    monitor, split, point = begin(problem, settings, warm_start)
    iteration, adapted_at, next_adaptation = 0, point, FIRST_ADAPTATION
    while monitor.any_running:
        # Finished images leave.
        keep = monitor.still_running(split.images)
        if keep is not None:
            split, point, adapted_at = split.select(keep), point[keep], adapted_at[keep]

        # One plain iteration.
        iteration += 1
        new = split.advance(point)

        # Certify. The plain iterate makes better certificates than the relaxed one.
        if monitor.due(iteration):
            monitor.check(iteration, new.delta, split.dual_blocks(new), split.images)

        # Adapt the weights, at intervals that double.
        if iteration == next_adaptation:
            split.adapt(new.minus(adapted_at))
            adapted_at, next_adaptation = new, 2 * next_adaptation

        # Over-relax.
        point = point.lerp(new, RELAXATION)
    return monitor.output()
