"""A tiny Triton kernel that is compiled and run once, to see whether Triton works on a device.

This file imports Triton, so only :func:`solvers.backends.eligibility.triton_serves` imports this file, and at its first
call.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


def try_out(device: torch.device) -> None:
    """Compile and run one small kernel on ``device``. Raises whatever goes wrong."""
    ones = torch.ones(4, device=device)
    with torch.cuda.device_of(ones):
        _double[1,](ones, 4)


@triton.jit
def _double(values, COUNT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Double ``COUNT`` values in place."""
    at = values + tl.arange(0, COUNT)
    tl.store(at, 2 * tl.load(at))
