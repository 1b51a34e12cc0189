"""Whether memory freed in forward passes stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A process of its own: any earlier backward pass would have had the effect already.
SCRIPT = """
import resource, torch
from ssimpert.analysis.freed_memory import keep_freed_memory
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a property of glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    # 20 times 24 MB anew would be 117 000 pages; once, and what the heap's layout wastes, 5 000 to 12 000.
    assert int(run.stdout) < 30_000
