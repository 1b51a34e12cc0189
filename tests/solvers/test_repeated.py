"""Repeating a method, on the CPU: it is called as it is, and what it belongs to can go."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from solvers.repeated import Repeated


class Counter:
    def __init__(self) -> None:
        self.state = torch.zeros(2)
        self.repeated = Repeated(self.add, self.state, plainly=0)

    def add(self) -> None:
        self.state += 1


def test_on_the_cpu_it_is_called_every_time() -> None:
    counter = Counter()
    for _ in range(5):
        counter.repeated()
    assert counter.state.tolist() == [5.0, 5.0]
    assert not counter.repeated.recorded


def test_the_owner_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        counter = Counter()
        seen, repeated = weakref.ref(counter), counter.repeated
        del counter
        assert seen() is None
    finally:
        gc.enable()
    with pytest.raises(ReferenceError, match="gone"):
        repeated()
