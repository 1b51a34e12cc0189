"""How many images go through the model at a time."""

from __future__ import annotations

import pytest
import torch

from ssimpert.analysis.images_a_pass import images_a_pass
from ssimpert.errors import InputError


def test_the_default_follows_size_and_device() -> None:
    for side, on_cpu, forward, elsewhere in ((224, 2, 4, 32), (600, 1, 1, 4), (3000, 1, 1, 1), (32, 98, 196, 256)):
        assert images_a_pass(None, torch.empty(1, 3, side, side)) == on_cpu
        assert images_a_pass(None, torch.empty(1, 3, side, side), forward_only=True) == forward
        for forward_only in (False, True):
            images = torch.empty(1, 3, side, side, device="meta")
            assert images_a_pass(None, images, forward_only=forward_only) == elsewhere


def test_a_number_is_taken_at_its_word() -> None:
    images = torch.empty(1, 3, 224, 224)
    assert images_a_pass(7, images) == 7
    assert images_a_pass(7, images, forward_only=True) == 7
    for wrong in (0, 2.0, True, "auto"):
        with pytest.raises(InputError, match="batch_size must be an integer of at least 1, got"):
            images_a_pass(wrong, images)  # type: ignore[arg-type]
