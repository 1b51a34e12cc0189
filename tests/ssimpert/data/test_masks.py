"""Masks from pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ssimpert.data import load_image, load_mask
from ssimpert.errors import InputError


def test_pixels_of_128_and_more_are_bright(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    assert np.array_equal(load_mask(tmp_path / "grey.png").numpy(), levels >= 128)
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(load_mask(tmp_path / "deep.png").numpy(), levels >= 128)
    deep = np.repeat(levels[:, :, None].astype(np.uint16) * 257, 3, axis=2)
    cv2.imwrite(str(tmp_path / "deep-colour.png"), deep)
    assert np.array_equal(load_mask(tmp_path / "deep-colour.png").numpy(), levels >= 128)
    Image.fromarray(levels >= 128).save(tmp_path / "one-bit.png")
    assert np.array_equal(load_mask(tmp_path / "one-bit.png").numpy(), levels >= 128)


def test_colours_count_by_their_luma(tmp_path: Path) -> None:
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[0, 0], colours[0, 1], colours[0, 2] = (0, 255, 0), (255, 0, 0), (255, 255, 0)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    assert load_mask(tmp_path / "colours.png")[0, :4].tolist() == [True, False, True, False]


@pytest.mark.parametrize(("height", "width", "size"), [(60, 90, 30), (90, 60, 45), (30, 47, 60), (33, 33, 16)])
def test_masks_are_resized_and_cut_like_images(tmp_path: Path, height: int, width: int, size: int) -> None:
    # A coarse picture, whose bicubic version is told apart from its nearest one only near edges.
    row, column = np.mgrid[:height, :width]
    bright = (row < 0.6 * height) & (column > 0.45 * width)
    Image.fromarray(np.where(bright, 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    mask = load_mask(tmp_path / "mask.png", size).numpy()
    picture = load_image(tmp_path / "mask.png", size=size)[0, 0].numpy()
    assert mask.shape == picture.shape
    inner = np.abs(picture - 0.5) > 0.45
    assert inner.mean() > 0.7
    assert np.array_equal(mask[inner], picture[inner] > 0.5)


def test_a_mask_of_the_right_size_is_kept_as_it_is(tmp_path: Path) -> None:
    bright = np.random.default_rng(0).random((24, 24)) < 0.5
    Image.fromarray(np.where(bright, 200, 50).astype(np.uint8)).save(tmp_path / "mask.png")
    assert np.array_equal(load_mask(tmp_path / "mask.png", 24).numpy(), bright)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.png' is not a file"):
        load_mask(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png"):
        load_mask(tmp_path / "text.png")
