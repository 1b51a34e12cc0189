"""The windows of SSIM: where they lie on an image, their linear operators, and the kernels that compute these.

Files build on one another in this order: ``lattice`` (positions and weights), ``separable_plan`` (the same for compiled
code), ``kernels_*`` (products), ``covariance_*``, ``conjugate_gradients_*``, ``choose_backend``, ``operator``,
``window``.
"""

from solvers.windows.operator import WindowOperator
from solvers.windows.window import Border, Window

__all__ = ["Border", "Window", "WindowOperator"]
