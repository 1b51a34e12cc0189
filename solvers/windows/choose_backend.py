"""Which compiled window products serve on a device: numba's on the CPU, Triton's on a GPU, none elsewhere.

Compilers are imported at the first use, as that is slow. Where Triton can't work, torch's own products do.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch

# Pixels of a plane from which on numba's products beat products with dense matrices (and are worth compiling).
SMALLEST_COMPILED = 48 * 48


def compiled_products(device: torch.device, pixels: int) -> ModuleType | None:
    """A module with ``mean_planes``, ``adjoint_planes``, ``normal_planes`` and ``ascend_planes`` for planes of so many
    ``pixels`` on a device, or ``None``."""
    if device.type == "cpu":
        return import_module("solvers.windows.conjugate_gradients_numba") if pixels >= SMALLEST_COMPILED else None
    return import_module("solvers.windows.conjugate_gradients_triton") if triton_serves(device) else None


@lru_cache(maxsize=16)
def triton_serves(device: torch.device) -> bool:
    """Whether Triton is installed and can compile for a CUDA device; where it is but can't, a warning says why."""
    if device.type != "cuda":
        return False
    try:
        kernels = import_module("solvers.windows.kernels_triton")
    except ImportError:  # no Triton: a platform that it does not support
        return False
    try:
        kernels.try_out(device)
    except torch.OutOfMemoryError:  # says nothing about Triton
        raise
    except Exception as error:  # its compiler, or the C compiler that it needs, can fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        warnings.warn(f"Triton can't compile here ({reason}): window products take torch's slower ones", stacklevel=2)
        return False
    return True
