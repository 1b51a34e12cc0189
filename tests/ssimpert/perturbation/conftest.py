"""What several tests of perturbations share."""

from __future__ import annotations

import pytest
from torch import Tensor

import ssimpert
from ssimpert.models import Classifier


@pytest.fixture(scope="session")
def photo(model: Classifier) -> Tensor:
    """Chelsea at the model's size, (1, 3, 224, 224) float32."""
    return ssimpert.load_image("chelsea", size=model.input_size)
