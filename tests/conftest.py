"""Settings and fixtures that every test shares."""

from __future__ import annotations

import os

# BLAS reads it when NumPy is loaded. Two threads for small matrices on busy cores are several times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import pytest
import torch

if not torch.cuda.is_available():
    # Triton reads it when Triton is imported: the kernels then run in Triton's interpreter, on the CPU.
    os.environ.setdefault("TRITON_INTERPRET", "1")

from ssimpert.models import Classifier, load_model

matplotlib.use("Agg")
# Small kernels on busy cores are many times slower with several threads, and sums then depend on the machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> Classifier:
    """The embedded classifier, efficientnet-lite0, on the CPU. Frozen: tests can share it."""
    return load_model("efficientnet-lite0", device="cpu")
