"""The windows of SSIM: where they lie, their products with images, and the compiled kernels of both."""

from solvers.windows.operator import WindowOperator
from solvers.windows.window import Border, Window

__all__ = ["Border", "Window", "WindowOperator"]
