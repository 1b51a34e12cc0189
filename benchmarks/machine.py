"""The machine that a figure was measured on, and how much memory a solve takes there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RECORDED_PACKAGES = ("torch", "numpy", "cvxpy", "clarabel", "scs")


def machine() -> dict[str, object]:
    """Processor, cores, threads and versions. Nothing in the record identifies the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in RECORDED_PACKAGES},
    }


def memory_megabytes(probe: str) -> float:
    """Peak memory of one solve, beyond what torch and the problem take.

    ``probe`` is a Python script that prints this number in MB. It runs in its own process.
    """
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return float(result.stdout)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
