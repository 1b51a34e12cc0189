"""An iteration recorded once and replayed, so that a GPU does not wait for Python between small kernels.

A CUDA graph repeats the same kernels on the same memory. What is recorded must therefore read its state from, and
write it back into, tensors that stay where they are, take the same branches every time, and ask the device for nothing.
"""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from weakref import WeakMethod

import torch
from torch import Tensor


class _Streams(threading.local):
    """The streams on which this thread records, by device."""

    def __init__(self) -> None:
        self.of: dict[torch.device, torch.cuda.Stream] = {}


_streams = _Streams()


class CapturedStep:
    """Calls ``method``; on a GPU, from the second call on, by replaying its kernels.

    Results that it leaves behind as attributes hold the values of the latest call, as long as this object lives. Where
    it can't be recorded, a warning says why, and it is called as before.

    Args:
        method: see above; of the object that this one belongs to. It is held weakly: in a cycle, which Python takes
            apart at leisure, graphs would fill the device with their memory.
        like: a tensor on the device.
        warmup_calls: calls before it is recorded, in which kernels are compiled and libraries set up.
    """

    def __init__(self, method: Callable[[], None], like: Tensor, warmup_calls: int = 1) -> None:
        self._method, self._like = WeakMethod(method), like
        self._plainly = warmup_calls
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def recorded(self) -> bool:
        """Whether calls are replays by now."""
        return self._graph is not None

    def __call__(self) -> None:
        """Run it; on a GPU it returns before the kernels are done."""
        if self._graph is None and self._plainly <= 0 and self._like.is_cuda:
            self._record()
        self._plainly -= 1
        if self._graph is None:
            self._call()
        else:
            self._graph.replay()

    def _call(self) -> None:
        method = self._method()
        if method is None:
            raise ReferenceError("the object whose method is repeated is gone")
        method()

    def _record(self) -> None:
        """Nothing runs while it is recorded, so a failure leaves the state as it was."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device_of(self._like):
                _make_room(self._like.device)
                _capture(graph, self._call, self._like.device)
        except RuntimeError as error:
            self._plainly = 1 << 62
            reason = (str(error).splitlines() or [""])[0]
            warnings.warn(f"an iteration can't be recorded as a CUDA graph ({reason}): it is slower", stacklevel=4)
        else:
            self._graph = graph


def _make_room(device: torch.device) -> None:
    """Give back the memory of recordings that are gone, once it is a quarter of the device, or more than is free there.

    It stays reserved for them, of no use to others, and during a recording none can be given back.
    """
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    if idle > min(free, total // 4):
        torch.cuda.empty_cache()


def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all recordings of this thread on ``device``.

    cuBLAS keeps a workspace (32 MiB on recent devices) for each thread and stream. With a new stream each time, it
    would be taken while recording, and keep a share of that recording's memory for good (pytorch/pytorch#99196).
    """
    if device not in _streams.of:
        _streams.of[device] = torch.cuda.Stream(device)
        with torch.cuda.stream(_streams.of[device]):
            square = torch.ones(8, 8, device=device)
            square @ square  # takes the workspace, outside any recording
    return _streams.of[device]


def _capture(graph: torch.cuda.CUDAGraph, function: Callable[[], None], device: torch.device) -> None:
    ours, theirs = _recording_stream(device), torch.cuda.current_stream(device)
    ours.wait_stream(theirs)
    collecting = gc.isenabled()
    gc.disable()  # freeing another graph's memory would spoil the recording
    try:
        with torch.cuda.stream(ours):
            # Relaxed: a kernel may have to be loaded, which a stricter recording does not allow.
            graph.capture_begin(capture_error_mode="relaxed")
            try:
                function()
            finally:
                graph.capture_end()
    finally:
        if collecting:
            gc.enable()
    theirs.wait_stream(ours)
