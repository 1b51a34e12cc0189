"""Settings and fixtures that every test shares."""

from __future__ import annotations

import matplotlib
import pytest
import torch

from ssimpert.models import Classifier, load_model

matplotlib.use("Agg")
# Small kernels on busy cores are many times slower with several threads, and sums then depend on the machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> Classifier:
    """The embedded classifier, efficientnet-lite0, on the CPU. Frozen: tests can share it."""
    return load_model("efficientnet-lite0", device="cpu")
