"""Agreement with an object's mask against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssimpert.analysis import mask_agreement
from ssimpert.errors import InputError


def example(count: int = 4, height: int = 24, width: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    maps = torch.rand(count, height, width, generator=generator) ** 4
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for k in range(count):
        masks[k, 2 + k : 9 + k, 3 * k : 3 * k + 6] = True
        masks[k, 12 + k, 3 * k + 8] = True  # apart from the rest: the box holds both
        maps[k, 3 + k : 8 + k, 3 * k : 3 * k + 7] += 0.6
    return maps, masks


def naive(maps: np.ndarray, mask: np.ndarray, tolerance: float) -> tuple[float, float, float]:
    height, width = mask.shape
    inside = total = 0.0
    for i in range(height):
        for j in range(width):
            total += maps[i, j]
            inside += maps[i, j] if mask[i, j] else 0
    energy = (inside / total) / (mask.sum() / (height * width))

    row, column = divmod(int(maps.argmax()), width)
    hit = any((i - row) ** 2 + (j - column) ** 2 < tolerance**2 for i, j in np.argwhere(mask).tolist())

    def box(present: np.ndarray) -> set[tuple[int, int]]:
        rows, columns = np.where(present)
        return {(i, j) for i in range(rows.min(), rows.max() + 1) for j in range(columns.min(), columns.max() + 1)}

    found, scaled = box(mask), (maps - maps.min()) / (maps.max() - maps.min())
    ious = []
    for k in range(20):
        estimate = box(scaled >= k * 0.05 - 1e-12)
        ious.append(len(found & estimate) / len(found | estimate))
    return energy, float(hit), max(ious)


@pytest.mark.parametrize("tolerance", [1.0, 5.0, 15.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measures_equal_loops_over_pixels(tolerance: float, dtype: torch.dtype) -> None:
    maps, masks = example()
    maps[3].fill_(0.1)
    maps[3, 0, 29] = 1.0  # far from its object
    found = mask_agreement(maps.to(dtype), masks, tolerance=tolerance)
    for k in range(4):
        energy, hit, iou = naive(maps[k].to(dtype).double().numpy(), masks[k].numpy(), tolerance)
        assert float(found.values["energy_over_area"][k]) == pytest.approx(energy, rel=1e-12)
        assert float(found.values["pointing_hit"][k]) == hit
        assert float(found.values["best_box_iou"][k]) == pytest.approx(iou, abs=1e-12)
    assert float(found.values["pointing_hit"][3]) == 0
    assert all(reason == "" for reasons in found.reasons.values() for reason in reasons)


def test_the_scale_of_a_map_does_not_matter() -> None:
    maps, masks = example()
    exact = maps.double()
    plain = mask_agreement(exact, masks).values
    for scale in (1e-300, 1e300):
        for metric, values in mask_agreement(exact * scale, masks).values.items():
            assert torch.allclose(values, plain[metric], rtol=1e-9), metric


def test_maps_that_say_nothing_are_nan_with_a_reason() -> None:
    maps, masks = example()
    maps[0] = 0.5
    maps[1, 3, 4] = float("nan")
    maps[2, 0, 0] = -0.1
    found = mask_agreement(maps, masks)
    expected = {
        "energy_over_area": (
            "the map is constant",
            "the map has values that are not finite",
            "the map has negative values",
            "",
        ),
        "pointing_hit": ("the map is constant", "the map has values that are not finite", "", ""),
        "best_box_iou": ("the map is constant", "the map has values that are not finite", "", ""),
    }
    assert found.reasons == expected
    for metric, values in found.values.items():
        assert [math.isnan(value) for value in values.tolist()] == [reason != "" for reason in expected[metric]]


def test_errors_name_the_value() -> None:
    maps, masks = example()
    with pytest.raises(InputError, match=r"masks must be \(4, 24, 30\) bool, one an image, got \(3, 24, 30\)"):
        mask_agreement(maps, masks[:3])
    with pytest.raises(InputError, match="float32"):
        mask_agreement(maps, masks.float())
    masks[2] = False
    with pytest.raises(InputError, match="mask 2 has no pixel"):
        mask_agreement(maps, masks)
    with pytest.raises(InputError, match="tolerance must be positive"):
        mask_agreement(maps, example()[1], tolerance=0)
