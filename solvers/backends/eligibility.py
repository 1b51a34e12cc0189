"""Which tensors compiled code may read, and whether Triton works on a device.

Compiled code reads a tensor's memory and leaves torch no trace of it, so torch must not be watching the tensor. And
Triton may be installed without a working compiler, which only a trial shows.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module

import torch
from torch import Tensor
from torch.autograd import forward_ad


def compiled_code_may_read(*values: Tensor) -> bool:
    """Whether compiled code may read all of ``values``.

    True where they are ordinary nonempty tensors of one dtype, float32 or float64, on the CPU or on one GPU, and torch
    watches none of them: no gradient is recorded or carried forward, and no ``torch.func`` transform, trace or
    compilation is under way.
    """
    dtype, device, recording = values[0].dtype, values[0].device, torch.is_grad_enabled()
    if dtype not in (torch.float32, torch.float64) or device.type not in ("cpu", "cuda") or _transforming():
        return False
    for value in values:
        if (recording and value.requires_grad) or value.dtype != dtype or value.device != device or value.numel() == 0:
            return False
        if type(value) is not Tensor and type(value) is not torch.nn.Parameter:
            return False
    return True


def _transforming() -> bool:
    return (
        forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    )


@lru_cache(maxsize=16)
def triton_serves(device: torch.device) -> bool:
    """Whether Triton is installed and can compile for ``device``; never on a CPU.

    A warning says why where Triton is installed and can't compile. The answer is kept for each device.
    """
    if device.type != "cuda":
        return False
    try:
        trial = import_module("solvers.backends.triton_trial")
    except ImportError:  # Triton is not made for every platform
        return False
    try:
        trial.try_out(device)
    except torch.OutOfMemoryError:  # this says nothing about Triton
        raise
    except Exception as error:  # Triton's compiler, or the C compiler that it needs, can fail in many ways
        reason = (str(error).splitlines() or [""])[0]
        warnings.warn(f"Triton can't compile here ({reason}): window products take torch's slower ones", stacklevel=2)
        return False
    return True
