"""How many threads a solve uses: compiled kernels as many as torch may use, torch's own operations one.

Torch shares an operation among OpenMP's threads, which wait for one another by spinning. Where another process needs a
core, each of a solve's thousands of small operations waits for the thread that was put aside: a solve on two busy cores
took six times as long as on idle ones. Compiled kernels do most of the work, on threads that sleep while they wait. The
page docs/notes/threads.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_kernel_threads: ContextVar[int | None] = ContextVar("kernel_threads", default=None)


def kernel_threads() -> int:
    """On how many threads compiled kernels may run: as many as torch may use outside of the solve."""
    return _kernel_threads.get() or torch.get_num_threads()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Let torch's operations of this block run on one thread. The number of threads is set back at the end."""
    count = torch.get_num_threads()
    if count == 1:
        yield
        return
    token = _kernel_threads.set(kernel_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
        _kernel_threads.reset(token)
