"""Whether tensors may be handed to compiled code, which reads their memory and leaves torch no trace."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def plain(*values: Tensor) -> bool:
    """Whether all are ordinary nonempty tensors of one dtype, float32 or float64, on the CPU or on one GPU, that
    nothing watches: no gradient is recorded or carried forward, no ``torch.func`` transform, trace or compilation is
    under way."""
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
