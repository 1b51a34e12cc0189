"""What several tests of perturbations share."""

from __future__ import annotations

import pytest
from torch import Tensor

import ssimpert


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """Chelsea, (1, 3, 112, 112) float32: half the model's size, which the network takes in a quarter of the time."""
    return ssimpert.load_image("chelsea", size=112)
