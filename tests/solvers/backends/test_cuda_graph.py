"""Repeating a method, on the CPU: it is called as it is, and what it belongs to can go."""

from __future__ import annotations

import contextlib
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from solvers.backends.cuda_graph import CapturedStep, _make_room, _recording_stream


class Counter:
    def __init__(self) -> None:
        self.state = torch.zeros(2)
        self.repeated = CapturedStep(self.add, self.state, warmup_calls=0)

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


@pytest.mark.parametrize(
    ("reserved", "allocated", "free", "gives_back"),
    [(30, 5, 70, True), (22, 2, 78, False), (22, 20, 1, True), (60, 50, 40, False)],
)
def test_memory_of_gone_recordings_is_given_back_where_it_is_much(
    monkeypatch: pytest.MonkeyPatch, reserved: int, allocated: int, free: int, gives_back: bool
) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    _make_room(torch.device("cuda", 0))
    assert bool(given_back) == gives_back


def test_each_thread_records_on_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    device = torch.device("cpu")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        first, again = (one.submit(_recording_stream, device).result() for _ in range(2))
        elsewhere = other.submit(_recording_stream, device).result()
    assert first is again
    assert elsewhere is not first
