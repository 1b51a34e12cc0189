"""Choose the compiled window products for a device: numba's on a CPU, Triton's on a GPU.

Where neither serves, :class:`~solvers.windows.operator.WindowOperator` uses torch's matrix products. The compilers are
imported at the first use, because importing them is slow.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch

from solvers.backends.eligibility import triton_serves

# From so many pixels a plane on, numba's products are faster than products with dense matrices, and worth compiling.
MIN_COMPILED_PIXELS = 48 * 48


def compiled_products(device: torch.device, pixels: int) -> ModuleType | None:
    """The module of compiled products to use on ``device`` for planes of ``pixels`` pixels, or ``None`` for torch's.

    The module has ``mean_planes``, ``adjoint_planes``, ``normal_planes``, ``covariance_planes`` and
    ``maximise_planes``.
    """
    if device.type == "cpu":
        return import_module("solvers.windows.conjugate_gradients_numba") if pixels >= MIN_COMPILED_PIXELS else None
    return import_module("solvers.windows.conjugate_gradients_triton") if triton_serves(device) else None
