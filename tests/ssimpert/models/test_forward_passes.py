"""What happens when memory runs out in a pass through a model."""

from __future__ import annotations

import pytest

from ssimpert.models.forward_passes import by_halves


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
