"""MaxBoxAcc against traced contours (scikit-image) and a loop over every threshold, as the released evaluator's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.measure import find_contours
from torch import Tensor

from ssimpert.analysis.localization.contours import contour_boxes
from ssimpert.analysis.localization.max_box_acc import max_box_acc
from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth
from ssimpert.data import composites
from ssimpert.errors import InputError

Box = tuple[int, int, int, int]


def traced(mask: NDArray[np.bool_]) -> tuple[list[Box], Box | None]:
    """Boxes of all contours, and the largest's, from polygons through pixel centres: no labels, no counting.

    At a level just under 1 the contours of a binary image run through the centres of its pixels, all but 0.001. Areas
    through centres are multiples of 1/2.
    """
    found = []
    for polygon in find_contours(np.pad(mask, 1).astype(float), 1 - 1e-3, fully_connected="high"):
        y, x = polygon[:, 0] - 1, polygon[:, 1] - 1
        signed = float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2  # positive around a component
        rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
        start = min(zip(rows.tolist(), columns.tolist(), strict=True))
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        found.append((signed > 0, round(abs(signed) * 2) / 2, start, box))
    # A hole's contour may tie with its component's, which precedes it in OpenCV's list.
    largest = max((entry for entry in found if entry[0]), default=None)
    assert largest is None or all(area <= largest[1] for _, area, _, _ in found)
    return [box for *_, box in found], largest[3] if largest else None


def inclusive_iou(first: Any, second: Any) -> float:
    """Ends inclusive, hence the + 1."""
    overlap = max(0, min(first[2], second[2]) - max(first[0], second[0]) + 1) * max(
        0, min(first[3], second[3]) - max(first[1], second[1]) + 1
    )
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (first, second)]
    return float(overlap / (sum(areas) - overlap))


def naive_accuracies(maps: Tensor, boxes: list[list[list[int]]]) -> tuple[float, float]:
    """MaxBoxAcc and MaxBoxAccV2 by the evaluator's loops; boxes with inclusive ends."""
    thresholds = np.arange(0, 1, 0.001)
    counts = {("v1", 0.5): np.zeros(1000)} | {("v2", least): np.zeros(1000) for least in (0.3, 0.5, 0.7)}
    for one, objects in zip(maps.double().numpy(), boxes, strict=True):
        height, width = one.shape
        image = ((one - one.min()) / (one.max() - one.min()) * 255).astype(np.uint8)
        known: dict[bytes, tuple[float, float]] = {}
        for place, threshold in enumerate(thresholds):
            mask = image > int(threshold * image.max())
            if mask.tobytes() not in known:
                every, largest = traced(mask)
                assert largest is not None
                scores = [
                    max(inclusive_iou((x0, y0, min(x1, width - 1), min(y1, height - 1)), item) for item in objects)
                    for x0, y0, x1, y1 in [largest, *every]
                ]
                known[mask.tobytes()] = scores[0], max(scores)
            first, best = known[mask.tobytes()]
            for (version, least), count in counts.items():
                count[place] += (first if version == "v1" else best) >= least
    maxima = {key: float(count.max()) / len(maps) for key, count in counts.items()}
    return maxima["v1", 0.5], sum(maxima["v2", least] for least in (0.3, 0.5, 0.7)) / 3


def test_contours_equal_traced_ones_on_random_masks() -> None:
    generator = np.random.default_rng(0)
    holes = ties = 0
    for index in range(150):
        density = (0.1, 0.3, 0.5, 0.7, 0.9)[index % 5]
        mask = generator.random((9, 11)) < density
        every, largest = traced(mask)
        found = contour_boxes(mask)
        assert sorted(map(tuple, found.all.tolist())) == sorted(every)
        assert tuple(found.all[found.largest].tolist()) == largest
        holes += len(every) > 8
        ties += density == 0.1
    assert holes > 10
    assert ties == 30


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # More pixels and less area: a long line encloses nothing, three pixels in a corner enclose 1/2.
        (["11111.", "......", "....1.", "....11"], (4, 2, 6, 4)),
        # 3x3 against a ring of 12 pixels that encloses 9: holes count as filled.
        (["1111...", "1..1...", "1..1.11", "1111.11"], (0, 0, 4, 4)),
        # Diagonal neighbours are one component.
        (["1....", ".1...", "..11.", "..11."], (0, 0, 4, 4)),
        # Two of area 0: the one that starts later in row-major order.
        (["1.1", "...", "..."], (2, 0, 3, 1)),
        (["..1", "...", "1.."], (0, 2, 1, 3)),
    ],
)
def test_the_largest_contour_has_the_box_found_by_hand(rows: list[str], expected: Box) -> None:
    mask = np.array([[pixel == "1" for pixel in row] for row in rows])
    found = contour_boxes(mask)
    assert tuple(found.all[found.largest].tolist()) == expected


def test_a_holes_contour_runs_around_it() -> None:
    mask = np.ones((7, 8), dtype=bool)
    mask[3, 3:5] = False
    assert contour_boxes(mask).all.tolist() == [[0, 0, 8, 7], [2, 2, 6, 5]]
    mask[0, 0] = False  # reaches the edge: no hole
    assert len(contour_boxes(mask).all) == 2


def test_an_empty_mask_has_no_contour() -> None:
    found = contour_boxes(np.zeros((3, 4), dtype=bool))
    assert found.all.shape == (0, 4)
    assert found.largest == -1


def test_both_versions_equal_the_loops_on_20_maps() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = gaussian_smooth(torch.rand(20, 8, 9, generator=generator), 0.8)
    boxes = []
    for index in range(20):
        corners = torch.randint(0, 4, (1 + index % 3, 2), generator=generator)
        boxes.append(torch.cat([corners, corners + torch.randint(3, 6, corners.shape, generator=generator)], dim=1))
    inclusive = [[[x0, y0, x1 - 1, y1 - 1] for x0, y0, x1, y1 in group.tolist()] for group in boxes]
    result = max_box_acc(maps, boxes)
    v1, v2 = naive_accuracies(maps, inclusive)
    assert result.v1 == pytest.approx(v1)
    assert result.v2 == pytest.approx(v2)
    assert 0.1 < v1 < 0.9
    assert v1 != v2


def test_the_maximum_is_over_the_data_set_and_not_for_each_image() -> None:
    # Each image has one threshold at which its 3x3 object is found, and they differ.
    maps = torch.zeros(2, 9, 9)
    maps[0, 2:7, 2:7] = 0.4  # 5x5 around the object
    maps[0, 3:6, 3:6] = 1.0
    maps[1, 3:6, 3:6] = 0.3
    maps[1, 8, 0] = maps[1, 4, 4] = 1.0
    boxes = torch.tensor([[3, 3, 6, 6]] * 2)
    result = max_box_acc(maps, boxes)
    assert (result.iou_largest >= 0.5).any(dim=1).all()
    assert result.v1 == 0.5
    assert result.v1_threshold == 0


def test_perfect_estimates_are_one_pixel_too_large() -> None:
    mask = torch.zeros(1, 30, 30)
    mask[0, 3:23, 4:24] = 1
    result = max_box_acc(mask, torch.tensor([[4, 3, 24, 23]]))
    assert result.iou_largest.unique().tolist() == pytest.approx([400 / 441])
    edge = torch.zeros(1, 30, 30)
    edge[0, 10:30, 10:30] = 1
    assert max_box_acc(edge, torch.tensor([[10, 10, 30, 30]])).iou_largest.unique().tolist() == [1]


def test_masks_as_saliency_localise_every_object() -> None:
    # Large enough for a tripod's legs to hang together in the mask.
    chosen = composites(5, seed=3)
    result = max_box_acc(chosen.masks.float(), chosen.boxes)
    assert result.v1 == 1
    assert result.v2 == 1
    assert all(row["v1_correct"] for row in result.records())


def test_a_constant_or_not_finite_map_is_wrong_and_says_why() -> None:
    maps = torch.zeros(4, 12, 12)
    maps[:, 2:8, 2:8] = 1
    maps[1] = 0.4
    maps[2, 0, 0] = float("nan")
    result = max_box_acc(maps, torch.tensor([[2, 2, 8, 8]] * 4))
    assert result.reasons == (None, "the map is constant", "the map has values that are not finite", None)
    assert result.v1 == 0.5
    assert result.iou_largest.isnan().all(dim=1).tolist() == [False, True, True, False]
    rows = result.records()
    assert math.isnan(rows[1]["v1_iou"])
    assert rows[1]["v1_correct"] is False
    assert [row["reason"] for row in rows] == list(result.reasons)


def test_scale_offset_and_company_change_nothing() -> None:
    generator = torch.Generator().manual_seed(5)
    maps = gaussian_smooth(torch.rand(3, 16, 16, generator=generator).double(), 1)
    boxes = torch.tensor([[2, 3, 9, 12]] * 3)
    result = max_box_acc(maps, boxes)
    assert torch.equal(max_box_acc(maps * 4 - 2, boxes).iou_best, result.iou_best)
    for index in range(3):
        alone = max_box_acc(maps[index : index + 1], boxes[index : index + 1])
        assert torch.equal(alone.iou_largest[0], result.iou_largest[index])


@pytest.mark.parametrize(
    ("maps", "boxes", "message"),
    [
        (torch.rand(2, 4), torch.rand(2, 4), r"maps must have shape \(B, H, W\), got \(2, 4\)"),
        (torch.rand(0, 4, 4), torch.rand(0, 4), "maps must not be empty"),
        (torch.rand(2, 4, 4), torch.tensor([[0, 0, 2, 2]]), r"boxes must have shape \(2, 4\)"),
        (torch.rand(1, 4, 4), torch.tensor([[0, 0, 0, 2]]), "image 0 must have x0 < x1"),
        (torch.rand(1, 4, 4).half(), torch.tensor([[0, 0, 2, 2]]), r"float32 or float64, got torch\.float16"),
    ],
)
def test_errors_name_the_value(maps: Tensor, boxes: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        max_box_acc(maps, boxes)
