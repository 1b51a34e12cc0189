"""Record an iteration once as a CUDA graph and replay it, so that a GPU does not wait for Python between small kernels.

A CUDA graph repeats the same kernels on the same memory. So the recorded function must read its state from tensors that
stay where they are, and write the new state back into them. It must take the same branches at every call, and it must
not copy anything from the device.
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
        self.by_device: dict[torch.device, torch.cuda.Stream] = {}


_streams = _Streams()


class CapturedStep:
    """A method that is called as usual on a CPU, and on a GPU recorded after some calls and replayed from then on.

    Attributes that the method sets hold the latest call's values, as long as this object lives. A method that can't be
    recorded is called as usual, after a warning that says why.

    Args:
        method: a method without arguments of the object that owns this step; see the module for what it may do. The
            step refers to it weakly: a reference cycle is freed late, and until then its graphs would fill the device.
        like: a tensor on the device where the method computes.
        warmup_calls: how many usual calls come before the recording. They compile kernels and set libraries up.
    """

    def __init__(self, method: Callable[[], None], like: Tensor, warmup_calls: int = 1) -> None:
        self._method, self._like = WeakMethod(method), like
        self._warmup_calls, self._calls = warmup_calls, 0
        self._recordable = like.is_cuda
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def recorded(self) -> bool:
        """Whether further calls replay a recording."""
        return self._graph is not None

    def __call__(self) -> None:
        """Run the method, or replay it. On a GPU the call returns before the kernels are done."""
        if self._graph is None and self._recordable and self._calls >= self._warmup_calls:
            self._record()
        self._calls += 1
        if self._graph is None:
            self._call()
        else:
            self._graph.replay()

    def _call(self) -> None:
        method = self._method()
        if method is None:
            raise ReferenceError("the object whose method this step calls is gone")
        method()

    def _record(self) -> None:
        """Record the method. Nothing is computed during a recording, so a failure leaves the state as it was."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device_of(self._like):
                _make_room(self._like.device)
                _capture(graph, self._call, self._like.device)
        except RuntimeError as error:
            self._recordable = False
            reason = (str(error).splitlines() or [""])[0]
            warnings.warn(f"an iteration can't be recorded as a CUDA graph ({reason}): it is slower", stacklevel=4)
        else:
            self._graph = graph


def _make_room(device: torch.device) -> None:
    """Give the memory of deleted recordings back to the device, where it is too much to keep.

    Torch keeps this memory reserved, where no other program can use it, and can't give it back during a recording. It
    is too much once it is a quarter of the device's memory, or more than the device has free.
    """
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free, total = torch.cuda.mem_get_info(device)
    if idle > min(free, total // 4):
        torch.cuda.empty_cache()


def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which this thread makes all its recordings on ``device``.

    cuBLAS keeps a workspace (32 MiB on recent devices) for each thread and stream. With a new stream for each
    recording, cuBLAS would allocate a workspace during the recording, and keep some of that recording's memory for
    good (pytorch/pytorch#99196).
    """
    if device not in _streams.by_device:
        _streams.by_device[device] = torch.cuda.Stream(device)
        with torch.cuda.stream(_streams.by_device[device]):
            square = torch.ones(8, 8, device=device)
            square @ square  # allocates the workspace, outside any recording
    return _streams.by_device[device]


def _capture(graph: torch.cuda.CUDAGraph, function: Callable[[], None], device: torch.device) -> None:
    recording, current = _recording_stream(device), torch.cuda.current_stream(device)
    recording.wait_stream(current)
    collecting = gc.isenabled()
    gc.disable()  # the collector could free another graph's memory, which would spoil the recording
    try:
        with torch.cuda.stream(recording):
            # Relaxed: a kernel may have to be loaded first, which the stricter modes do not allow.
            graph.capture_begin(capture_error_mode="relaxed")
            try:
                function()
            finally:
                graph.capture_end()
    finally:
        if collecting:
            gc.enable()
    current.wait_stream(recording)
