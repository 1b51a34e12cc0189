"""The windows of SSIM: their lattice, their products with images, and the compiled kernels of both."""

from solvers.windows.window import Border, Window, WindowOperator

__all__ = ["Border", "Window", "WindowOperator"]
