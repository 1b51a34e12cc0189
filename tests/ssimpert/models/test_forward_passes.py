"""Passes through a model: halved where memory runs out, as many images at a time as fit, freed memory used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import batch_size_for, by_halves

# A process of its own: any earlier backward pass would have had the effect already.
SCRIPT = """
import resource, torch
from ssimpert.models.forward_passes import keep_freed_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [torch.ones(1_000_000) for _ in range(6)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.ones(1_000_000)
keep_freed_memory(torch.empty(1, device="meta"))
keep_freed_memory(torch.empty(1))
torch.ones(1_000_000)
print(faults())
"""


def test_a_cpu_that_is_out_of_memory_counts_too_and_other_errors_do_not() -> None:
    ran: list[slice] = []

    def run(part: slice) -> int:
        ran.append(part)
        if part.stop - part.start > 2:
            raise RuntimeError(word)
        return part.stop - part.start

    word = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    assert sum(by_halves(run, 5, 5)) == 5
    word = "mat1 and mat2 shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        by_halves(run, 5, 5)


def test_the_default_follows_size_and_device() -> None:
    for side, on_cpu, forward, elsewhere in ((224, 2, 4, 32), (600, 1, 1, 4), (3000, 1, 1, 1), (32, 98, 196, 256)):
        assert batch_size_for(None, torch.empty(1, 3, side, side)) == on_cpu
        assert batch_size_for(None, torch.empty(1, 3, side, side), forward_only=True) == forward
        for forward_only in (False, True):
            images = torch.empty(1, 3, side, side, device="meta")
            assert batch_size_for(None, images, forward_only=forward_only) == elsewhere


def test_a_number_is_taken_at_its_word() -> None:
    images = torch.empty(1, 3, 224, 224)
    assert batch_size_for(7, images) == 7
    assert batch_size_for(7, images, forward_only=True) == 7
    for wrong in (0, 2.0, True, "auto"):
        with pytest.raises(InputError, match="batch_size must be an integer of at least 1, got"):
            batch_size_for(wrong, images)  # type: ignore[arg-type]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a property of glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    # 20 times 24 MB anew would be 117 000 pages; once, and what the heap's layout wastes, 5 000 to 12 000.
    assert int(run.stdout) < 30_000
