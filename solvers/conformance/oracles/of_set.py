"""The oracle that stands for a constraint set."""

from __future__ import annotations

import numpy as np
import torch

from solvers.conformance.oracles.base import Oracle
from solvers.conformance.oracles.image_sets import BoxOracle, FeatureOracle, GlobalOracle, LpOracle
from solvers.conformance.oracles.window_ssim import WindowOracle
from solvers.constraints import Box, Constraint, FeatureBall, GlobalSSIM, LpBall, Support, WindowSSIM
from solvers.problem import Problem


def oracle_for(constraint: Constraint, problem: Problem, image: int) -> Oracle:
    """The oracle of one constraint for image number ``image`` of the problem.

    Raises:
        TypeError: a set that the suite does not know.
    """
    x = problem.reference[image].double().cpu().numpy()
    if isinstance(constraint, Box):
        return BoxOracle(constraint.lower - x, constraint.upper - x)
    if isinstance(constraint, Support):
        mask = np.broadcast_to(constraint.mask.cpu().numpy(), tuple(problem.reference.shape))[image]
        return BoxOracle(np.where(mask, -np.inf, 0.0), np.where(mask, np.inf, 0.0))
    if isinstance(constraint, WindowSSIM):
        return WindowOracle(constraint, x)
    if isinstance(constraint, GlobalSSIM):
        return GlobalOracle(constraint, x)
    if isinstance(constraint, (LpBall, FeatureBall)):
        radius = float(torch.as_tensor(constraint.radius, dtype=torch.float64).expand(problem.batch)[image])
        if isinstance(constraint, LpBall):
            return LpOracle(constraint.p, radius, x.shape)
        return FeatureOracle(constraint, radius, problem.reference, image)
    raise TypeError(f"the conformance suite knows no set {constraint.kind}")
