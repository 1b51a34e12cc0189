"""The sums of :mod:`.anderson` on a GPU, in Triton: numbers are read once, where torch's products read them often."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048  # numbers of an image that one program works on
WARPS = 4


def weighted_sums(changes: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``C W C'`` (K, m, m) and ``C W f`` (K, m, 1) in float64, of contiguous changes C (K, m, n), residual f (K, n) and
    weights (K, n), the diagonal of W. Summed in a fixed order."""
    images, memory, count = changes.shape
    chunks = -(-count // BLOCK)
    parts = torch.zeros(images, chunks, memory, memory + 1, dtype=torch.float64, device=changes.device)
    with torch.cuda.device_of(changes):
        _sums[images, chunks](changes, residual, weight, parts, count, memory, BLOCK, num_warps=WARPS)
    sums = parts.sum(dim=1)
    lower = sums[..., :memory].tril()
    return lower + lower.mT.triu(1), sums[..., memory:]


def combined(residual: Tensor, moves: Tensor, share: Tensor) -> Tensor:
    """``f - sum_k share_k moves_k``: (K, n), (K, m, n) and (K, m) -> (K, n)."""
    images, memory, count = moves.shape
    out = torch.empty_like(residual)
    with torch.cuda.device_of(residual):
        _combine[images, -(-count // BLOCK)](
            residual, moves, share.contiguous(), out, count, memory, BLOCK, num_warps=WARPS
        )
    return out


@triton.jit
def _sums(  # type: ignore[no-untyped-def]
    changes, residual, weight, parts, count, MEMORY: tl.constexpr, BLOCK: tl.constexpr
):
    """Grid (images, chunks); parts (K, chunks, m, m + 1): the lower triangle of the Gram matrix, then C W f."""
    image, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    index = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    scale = tl.load(weight + image * count + index, inside, 0.0)
    target = tl.load(residual + image * count + index, inside, 0.0)
    place = parts + (image * tl.num_programs(1) + chunk) * (MEMORY * (MEMORY + 1))
    for first in tl.static_range(MEMORY):
        row = scale * tl.load(changes + (image * MEMORY + first) * count + index, inside, 0.0)
        tl.store(place + first * (MEMORY + 1) + MEMORY, tl.sum(row * target, axis=0).to(tl.float64))
        for second in tl.static_range(MEMORY):
            if second <= first:
                other = tl.load(changes + (image * MEMORY + second) * count + index, inside, 0.0)
                total = tl.sum(row * other, axis=0)
                tl.store(place + first * (MEMORY + 1) + second, total.to(tl.float64))


@triton.jit
def _combine(  # type: ignore[no-untyped-def]
    residual, moves, share, out, count, MEMORY: tl.constexpr, BLOCK: tl.constexpr
):
    """Grid (images, chunks)."""
    image, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    index = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    total = tl.load(residual + image * count + index, inside, 0.0)
    for k in tl.static_range(MEMORY):
        part = tl.load(share + image * MEMORY + k)
        total -= part * tl.load(moves + (image * MEMORY + k) * count + index, inside, 0.0)
    tl.store(out + image * count + index, total, inside)
