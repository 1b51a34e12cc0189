"""Compile kernels with numba, and run them on as many threads as torch may use.

Kernels release the interpreter lock, so ordinary Python threads run them in parallel. Numba's own thread pools are not
used: they abort the process where two Python threads, or a forked child, use them at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba

from solvers.threads import kernel_threads

# The work, in multiplications, from which on a further thread saves time: about 0.2 ms.
MIN_WORK_PER_THREAD = 4_000_000


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled to machine code, which runs without the interpreter lock.

    The machine code is kept on disk where numba may write there. Sums may be reordered (``reassoc``), so that loops
    become SIMD; NaN and infinities keep their meaning.
    """
    return _compiled(function, {"contract", "reassoc", "nsz"})


def compiled_in_order(function: Callable[..., Any]) -> Any:
    """Like :func:`compiled`, but every operation is done as written.

    Code whose rounding errors are bounded by an argument about its operations needs this.
    """
    return _compiled(function, {"contract"})


def _compiled(function: Callable[..., Any], fastmath: set[str]) -> Any:
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable place for the cache
        return numba.njit(**options)(function)


def run_rows(kernel: Callable[..., None], arguments: tuple[Any, ...], rows: int, work: int) -> None:
    """Call ``kernel(*arguments, low, high)`` on ranges of rows that together are the rows from 0 to ``rows``.

    The ranges run on at most :func:`~solvers.threads.kernel_threads` threads, and on the caller's alone where there is
    little work.

    Args:
        kernel: a :func:`compiled` function; its calls must not write to the same memory.
        arguments: what comes before the range.
        rows: the number of rows.
        work: about how many multiplications all rows take together.
    """
    threads = min(kernel_threads(), work // MIN_WORK_PER_THREAD, rows)
    if threads <= 1:
        kernel(*arguments, 0, rows)
        return
    edges = [rows * part // threads for part in range(threads + 1)]
    futures = [_pool(threads - 1).submit(kernel, *arguments, edges[k], edges[k + 1]) for k in range(1, threads)]
    kernel(*arguments, 0, edges[1])
    for future in futures:
        future.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="solvers")


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads, so it needs pools of its own
    os.register_at_fork(after_in_child=_pool.cache_clear)
