"""Which compiled window products serve on a device: numba's on the CPU, Triton's on a GPU, none elsewhere.

Compilers are imported at the first use, as that is slow. Where Triton can't work, torch's own products do.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch

from solvers.backends.eligibility import triton_serves

# Pixels of a plane from which on numba's products beat products with dense matrices (and are worth compiling).
SMALLEST_COMPILED = 48 * 48


def compiled_products(device: torch.device, pixels: int) -> ModuleType | None:
    """A module with ``mean_planes``, ``adjoint_planes``, ``normal_planes`` and ``maximise_planes`` for planes of so
    many ``pixels`` on a device, or ``None``."""
    if device.type == "cpu":
        return import_module("solvers.windows.conjugate_gradients_numba") if pixels >= SMALLEST_COMPILED else None
    return import_module("solvers.windows.conjugate_gradients_triton") if triton_serves(device) else None
