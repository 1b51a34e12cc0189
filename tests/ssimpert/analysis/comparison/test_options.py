"""What the options of a comparison say of themselves."""

from __future__ import annotations

import pytest

from ssimpert.analysis.comparison.options import ComparisonOptions


@pytest.mark.parametrize(
    ("options", "uses"),
    [
        ({}, False),
        ({"attributions": ["gradient", "grad_cam_plus_plus"]}, False),
        ({"attributions": ["gradient", "rise"]}, True),
        ({"attributions": ("occlusion",)}, True),
        ({"insertion_deletion": True}, True),
        ({"insertion_deletion": 50}, True),
    ],
)
def test_a_copy_for_forward_passes_is_used_by_curves_and_by_attributions_without_gradients(
    options: dict, uses: bool
) -> None:
    assert ComparisonOptions(**options).uses_forward is uses
