"""Outlines of the sample objects: where they lie, what they hold, what they leave out."""

from __future__ import annotations

import fnmatch
import json
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from ssimpert.data import sample_array, samples
from ssimpert.data.cut_outs import OBJECTS, CompositeObject, cut_out_pixels, object_mask, tightest_box

BY_NAME = {item.name: item for item in OBJECTS}
EACH = pytest.mark.parametrize("item", OBJECTS, ids=[item.name for item in OBJECTS])

SHARES = {"chelsea": (0.6, 0.8), "coffee": (0.7, 0.85), "camera": (0.1, 0.25), "motorcycle": (0.4, 0.55)}
SHARES["shuttle"] = (0.55, 0.75)
"""Of the object's tightest box: a head, a round saucer, bars, wheels with air between the spokes, a stack."""

# (x, y) read off the photos.
ON_OBJECT = {
    "chelsea": [(170, 110), (260, 245), (45, 20), (390, 8)],
    "coffee": [(290, 150), (90, 220), (470, 230), (415, 80), (300, 380)],
    "camera": [(290, 160), (293, 280), (294, 400), (350, 406), (265, 400), (270, 470)],
    "motorcycle": [(400, 190), (260, 180), (205, 390), (650, 420), (535, 150), (333, 400), (345, 120), (572, 130)],
    "shuttle": [(412, 8), (447, 100), (388, 130), (360, 215), (448, 220), (375, 255)],
}
OFF_OBJECT = {
    "chelsea": [(10, 60), (420, 100), (380, 150), (340, 260), (60, 280)],
    "coffee": [(90, 60), (440, 60), (470, 350), (90, 350)],
    "camera": [(330, 420), (275, 430), (240, 120), (312, 200), (270, 260), (350, 200)],
    "motorcycle": [(140, 120), (600, 220), (330, 160), (420, 410), (165, 306), (620, 350), (630, 400)],
    "shuttle": [(470, 100), (360, 100), (421, 255), (400, 290), (431, 245)],
}


@EACH
def test_the_mask_covers_a_plausible_share_of_its_box(item: CompositeObject) -> None:
    mask = object_mask(item)
    assert mask.shape == sample_array(item.photo).shape[:2]
    x0, y0, x1, y1 = tightest_box(mask)
    low, high = SHARES[item.name]
    assert low <= mask[y0:y1, x0:x1].mean() <= high


@EACH
def test_the_mask_holds_the_object_and_leaves_its_surroundings(item: CompositeObject) -> None:
    mask = object_mask(item)
    assert [point for point in ON_OBJECT[item.name] if not mask[point[1], point[0]]] == []
    assert [point for point in OFF_OBJECT[item.name] if mask[point[1], point[0]]] == []


def test_the_motorcycle_stands_nearer_than_what_is_around_it() -> None:
    from skimage import data

    disparity = data.stereo_motorcycle()[2]
    known = np.isfinite(disparity)
    mask = object_mask(BY_NAME["motorcycle"])
    assert (disparity[mask & known] > 37).mean() > 0.97  # bench and shelf are at 30 or less
    rows = np.arange(mask.shape[0])[:, None]
    near_and_off_the_floor = known & (disparity > 37) & (rows < 280)
    assert mask[near_and_off_the_floor].mean() > 0.97


@EACH
def test_a_pixel_belongs_to_the_mask_if_its_centre_lies_within_the_outline(item: CompositeObject) -> None:
    outline = json.loads((files("ssimpert.data") / "outlines.json").read_text(encoding="utf-8"))[item.name]

    def inside(x: float, y: float, polygon: list[list[float]]) -> bool:
        crossings = 0
        for (xa, ya), (xb, yb) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            if (ya > y) != (yb > y):
                crossings += x < xa + (y - ya) / (yb - ya) * (xb - xa)
        return crossings % 2 == 1

    mask = object_mask(item)
    x0, y0, x1, y1 = tightest_box(mask)
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.integers(x0, x1, 150), rng.integers(y0, y1, 150)])
    for x, y in points:
        # Which side an edge right through the centre counts to is the rasteriser's choice: either will do.
        answers = {
            any(inside(x + 0.5 + dx, y + 0.5 + dy, part) for part in outline["parts"])
            and not any(inside(x + 0.5 + dx, y + 0.5 + dy, hole) for hole in outline["holes"])
            for dx in (-1e-6, 1e-6)
            for dy in (-1e-6, 1e-6)
        }
        assert mask[y, x] in answers, (x, y)


@EACH
def test_the_cut_out_is_the_photo_with_the_mask_as_opacity(item: CompositeObject) -> None:
    pixels, mask = cut_out_pixels(item), object_mask(item)
    x0, y0, x1, y1 = tightest_box(mask)
    assert np.array_equal(pixels[:, :, 3] == 255, mask[y0:y1, x0:x1])
    assert set(np.unique(pixels[:, :, 3])) == {0, 255}
    assert np.array_equal(pixels[:, :, :3], sample_array(item.photo)[y0:y1, x0:x1])
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 0


def test_outlines_exist_for_the_objects_alone_and_stay_within_their_photos() -> None:
    outlines = json.loads((files("ssimpert.data") / "outlines.json").read_text(encoding="utf-8"))
    assert list(outlines) == [item.name for item in OBJECTS]
    assert {item.photo for item in OBJECTS} <= {sample.name for sample in samples() if sample.kind == "photo"}
    for item in OBJECTS:
        height, width = sample_array(item.photo).shape[:2]
        for polygon in outlines[item.name]["parts"] + outlines[item.name]["holes"]:
            assert len(polygon) >= 3
            assert all(0 <= x <= width and 0 <= y <= height for x, y in polygon)


def test_the_wheel_contains_the_outlines() -> None:
    root = Path(__file__).parents[3]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["ssimpert"]
    assert any(fnmatch.fnmatch("data/outlines.json", pattern) for pattern in patterns)
    assert (root / "ssimpert/data/outlines.json").stat().st_size < 50_000


def test_the_tightest_box_has_exclusive_ends() -> None:
    mask = np.zeros((5, 7), dtype=bool)
    mask[1:4, 2] = mask[2, 2:6] = True
    assert tightest_box(mask) == (2, 1, 6, 4)
