"""Compiling a kernel, and running it on the threads that torch may use.

Kernels release the interpreter lock, so plain threads serve; numba's own pools abort the process where two Python
threads, or a forked child, use them at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import torch

# Work (rows times columns times taps) that a thread of its own pays for: about 0.2 ms.
WORTH_A_THREAD = 4_000_000


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` in machine code, without the interpreter lock; kept on disk where that can be written."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable place for the cache
        return numba.njit(**options)(function)


def run_rows(kernel: Callable[..., None], arguments: tuple[Any, ...], rows: int, work: int) -> None:
    """``kernel(*arguments, low, high)`` over ranges that make up ``rows`` rows, in at most ``torch.get_num_threads()``
    threads and in one where ``work`` is little."""
    threads = min(torch.get_num_threads(), work // WORTH_A_THREAD, rows)
    if threads <= 1:
        kernel(*arguments, 0, rows)
        return
    edges = [rows * part // threads for part in range(threads + 1)]
    others = [_pool(threads - 1).submit(kernel, *arguments, edges[k], edges[k + 1]) for k in range(1, threads)]
    kernel(*arguments, 0, edges[1])
    for other in others:
        other.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="solvers")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
