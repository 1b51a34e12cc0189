"""An iteration recorded once and replayed, so that a GPU does not wait for Python between small kernels.

A CUDA graph repeats the same kernels on the same memory. What is recorded must therefore read its state from, and
write it back into, tensors that stay where they are, take the same branches every time, and ask the device for nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor


class Recorded:
    """``function`` as a CUDA graph; it is not run while it is recorded.

    Results that it leaves behind as attributes hold the values of the latest replay, as long as this object lives.

    Raises:
        RuntimeError: something in it can't be recorded; the state is then as it was before.
    """

    def __init__(self, function: Callable[[], None], like: Tensor) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device_of(like):
            ours, theirs = torch.cuda.Stream(), torch.cuda.current_stream()
            ours.wait_stream(theirs)
            collecting = gc.isenabled()
            gc.disable()  # freeing another graph's memory would spoil the recording
            try:
                with torch.cuda.stream(ours):
                    self._graph.capture_begin(capture_error_mode="thread_local")
                    try:
                        function()
                    finally:
                        self._graph.capture_end()
            finally:
                if collecting:
                    gc.enable()
            theirs.wait_stream(ours)

    def replay(self) -> None:
        """Run it, in the current stream; returns at once."""
        self._graph.replay()
