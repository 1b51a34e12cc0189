"""Sets of perturbations: frozen descriptions that bind to a batch of images."""

from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.constraints.box import Box, Support
from solvers.constraints.feature_ball import FeatureBall, LinearOperator
from solvers.constraints.global_ssim import GlobalSSIM
from solvers.constraints.intersection import Intersection
from solvers.constraints.lp_ball import LpBall
from solvers.constraints.mean_ssim import MeanSSIM
from solvers.constraints.product_ssim import ProductSSIM
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.constraints.window_ssim import WindowSSIM

__all__ = [
    "BoundConstraint",
    "Box",
    "ConicForm",
    "Constraint",
    "FeatureBall",
    "GlobalSSIM",
    "Intersection",
    "LinearOperator",
    "LpBall",
    "MeanSSIM",
    "ProductSSIM",
    "Support",
    "WindowDual",
    "WindowSSIM",
]
