"""Whether tensors may be handed to compiled code, which reads their memory and leaves torch no trace."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def plain(*values: Tensor) -> bool:
    """Whether all are ordinary nonempty CPU tensors of one dtype, float32 or float64, that nothing watches: no gradient
    is recorded or carried forward, no ``torch.func`` transform, trace or compilation is under way."""
    dtype, recording = values[0].dtype, torch.is_grad_enabled()
    return (
        dtype in (torch.float32, torch.float64)
        and all(
            type(value) in (Tensor, torch.nn.Parameter)
            and value.device.type == "cpu"
            and value.dtype == dtype
            and value.numel() > 0
            and not (recording and value.requires_grad)
            for value in values
        )
        and not _transforming()
    )


def _transforming() -> bool:
    return (
        forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    )
