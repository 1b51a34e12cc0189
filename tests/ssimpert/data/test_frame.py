"""The frame has the geometry of the resampling: boxes, points and masks go to the model's pixels and back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssimpert.data import Frame, load_photo, photo_frame
from ssimpert.errors import InputError

SIZES = [(60, 90, 30), (90, 61, 45), (30, 47, 60), (451, 300, 224), (400, 17, 16), (33, 33, 16), (24, 24, 24)]


@pytest.mark.parametrize(("width", "height", "size"), SIZES)
def test_a_point_lands_where_the_resampling_puts_the_light(width: int, height: int, size: int, tmp_path: Path) -> None:
    frame = Frame(width, height, size)
    x0, y0, x1, y1 = frame.seen_box
    centre = np.array([x0 + 0.55 * (x1 - x0), y0 + 0.45 * (y1 - y0)])
    spread = min(x1 - x0, y1 - y0) / 10
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    light = np.exp(-((columns - centre[0]) ** 2 + (rows[:, None] - centre[1]) ** 2) / (2 * spread**2))
    np.save(tmp_path / "light.npy", light)
    photo = load_photo(tmp_path / "light.npy", size=size)
    assert photo.frame == frame
    seen = photo.image[0, 0].double().numpy()
    middle = np.arange(size) + 0.5
    found = [(seen.sum(axis=0) * middle).sum() / seen.sum(), (seen.sum(axis=1) * middle).sum() / seen.sum()]
    np.testing.assert_allclose(found, frame.points_to_model([centre])[0].numpy(), atol=0.02)


@pytest.mark.parametrize(("width", "height", "size"), SIZES)
def test_boxes_are_carried_clipped_and_reported(width: int, height: int, size: int) -> None:
    frame = Frame(width, height, size)
    shorter = min(width, height)
    resized_width = max(size, round(width * (size / shorter)))
    resized_height = max(size, round(height * (size / shorter)))
    left, top = (resized_width - size) // 2, (resized_height - size) // 2
    generator = np.random.default_rng(0)
    corners = generator.integers(0, [width, height, width, height], (40, 4))
    boxes = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:]) + 1], 1
    )
    expected, kept, clipped = [], [], []
    for index, box in enumerate(boxes.tolist()):
        x0, x1 = (Fraction(x) * resized_width / width - left for x in box[::2])
        y0, y1 = (Fraction(y) * resized_height / height - top for y in box[1::2])
        inside = [max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)]
        if inside[0] < inside[2] and inside[1] < inside[3]:
            expected.append([float(value) for value in inside])
            kept.append(index)
            if inside != [x0, y0, x1, y1]:
                clipped.append(index)
    framed = frame.boxes_to_model(boxes)
    assert framed.kept == tuple(kept)
    assert framed.clipped == tuple(clipped)
    assert set(framed.vanished) == set(range(40)) - set(kept)
    np.testing.assert_allclose(framed.boxes.numpy(), expected, atol=1e-9)
    # There and back, a box becomes its seen part.
    back = frame.boxes_to_photo(framed.boxes).boxes.numpy()
    x0, y0, x1, y1 = frame.seen_box
    seen = np.stack([np.clip(boxes[kept][:, k], (x0, y0)[k % 2], (x1, y1)[k % 2]) for k in range(4)], axis=1)
    np.testing.assert_allclose(back, seen, atol=1e-9)


@pytest.mark.parametrize(("width", "height", "size"), SIZES)
def test_a_mask_takes_the_pixel_that_the_centre_lies_in(width: int, height: int, size: int) -> None:
    frame = Frame(width, height, size)
    mask = torch.from_numpy(np.random.default_rng(1).random((height, width)) < 0.5)
    seen = frame.mask_to_model(mask)
    for row in range(0, size, 7):
        for column in range(0, size, 5):
            ((x, y),) = frame.points_to_photo([[column + 0.5, row + 0.5]]).tolist()
            if min(abs(x - round(x)), abs(y - round(y))) > 1e-9:
                assert seen[row, column] == mask[int(y), int(x)]
    back = frame.mask_to_photo(seen)
    assert back.shape == mask.shape
    if (width, height) == (size, size):
        assert torch.equal(back, mask)
    x0, y0, x1, y1 = frame.seen_box
    outside = np.ones((height, width), bool)
    outside[int(np.floor(y0)) : int(np.ceil(y1)), int(np.floor(x0)) : int(np.ceil(x1))] = False
    assert not back.numpy()[outside].any()


def test_a_mask_stays_in_register_with_its_photo(tmp_path: Path) -> None:
    row, column = np.mgrid[:120, :200]
    disc = (row - 50) ** 2 + (column - 110) ** 2 < 30**2
    Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(tmp_path / "disc.png")
    photo = load_photo(tmp_path / "disc.png", size=64)
    mask = photo.frame.mask_to_model(torch.from_numpy(disc))
    clear = (photo.image[0, 0] - 0.5).abs() > 0.4
    assert clear.double().mean() > 0.8
    assert torch.equal(mask[clear], photo.image[0, 0][clear] > 0.5)


def test_a_photo_that_keeps_its_size_keeps_its_coordinates() -> None:
    frame = Frame(40, 30)
    assert frame.seen_box == (0, 0, 40, 30)
    assert frame.notes() == ()
    assert frame.boxes_to_model([[1, 2, 3.5, 4]]).boxes.tolist() == [[1, 2, 3.5, 4]]
    assert frame.boxes_to_model([]).boxes.shape == (0, 4)


def test_what_is_done_is_said() -> None:
    assert Frame(600, 400, 224).notes() == (
        "resized from 600x400 to 336x224 pixels",
        "cut to the central 224x224 pixels",
    )
    assert Frame(300, 300, 224).notes() == ("resized from 300x300 to 224x224 pixels",)
    assert Frame(300, 224, 224).notes() == ("cut to the central 224x224 pixels",)


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_the_header_gives_the_frame_that_loading_gives(name: str, tmp_path: Path) -> None:
    assert photo_frame(name, 64) == load_photo(name, 64).frame
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("png", "jpg", "tif"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"turned.{ending}", exif=exif)
        assert (
            photo_frame(tmp_path / f"turned.{ending}")
            == load_photo(tmp_path / f"turned.{ending}").frame
            == Frame(30, 40)
        )


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: Frame(0, 3), "width must be an integer of at least 1, got 0"),
        (lambda: Frame(3, 3, 2.5), "size must be an integer of at least 1, got 2.5"),
        (lambda: Frame(9, 9).boxes_to_model([[1, 2, 3]]), "shape (n, 4), got (1, 3)"),
        (lambda: Frame(9, 9).boxes_to_model([[3, 2, 3, 4]]), "x0 < x1 and y0 < y1, got [3.0, 2.0, 3.0, 4.0] in row 0"),
        (lambda: Frame(9, 9).points_to_model([[0, float("nan")]]), "finite, got [0.0, nan] in row 0"),
        (lambda: Frame(9, 9).points_to_model("ab"), "rows of 2 numbers"),
        (lambda: Frame(9, 8).mask_to_model(torch.zeros(9, 8)), "(8, 9), height and width, got (9, 8)"),
        (lambda: Frame(9, 8, 4).mask_to_photo(torch.zeros(9, 8)), "(4, 4), height and width"),
    ],
)
def test_what_is_no_frame_box_point_or_mask_is_refused(call: object, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert reason in str(caught.value)
