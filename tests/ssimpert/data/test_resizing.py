"""Long pictures are cut before they are resized, which changes nothing but rounding."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.data import Frame, load_image, load_photo

LONG = np.random.default_rng(0).integers(0, 256, (20, 400, 3), dtype=np.uint8)


@pytest.mark.parametrize("is_tall", [False, True])
@pytest.mark.parametrize("size", [16, 20, 37])
def test_cutting_first_gives_what_cutting_last_gives(is_tall: bool, size: int, tmp_path: Path) -> None:
    pixels = LONG.transpose(1, 0, 2) if is_tall else LONG
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", pixels / 255)
    height, width = pixels.shape[:2]
    frame = Frame(width, height, size)
    rows = Image.fromarray(pixels).resize((frame.resized_width, height), Image.Resampling.BICUBIC)
    whole = rows.resize((frame.resized_width, frame.resized_height), Image.Resampling.BICUBIC)
    box = (frame.left, frame.top, frame.left + size, frame.top + size)
    expected = np.asarray(whole.crop(box)).transpose(2, 0, 1) / 255
    assert np.abs(load_image(tmp_path / "a.png", size)[0].numpy() - expected).max() <= 1.01 / 255
    assert np.abs(load_image(tmp_path / "a.npy", size)[0].numpy() - expected).max() <= 1.6 / 255


@pytest.mark.parametrize("size", [(100000, 16), (16, 100000)])
def test_a_ribbon_takes_little_memory(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (10, 200, 30)).save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png", size=224)
    assert photo.image.shape == (1, 3, 224, 224)
    assert (photo.image[0, :, 7, 100] * 255).round().tolist() == [10, 200, 30]
    long_side = "1400000x224" if size[0] > size[1] else "224x1400000"
    assert photo.notes[0] == f"resized from {size[0]}x{size[1]} to {long_side} pixels"


def test_a_long_array_is_resized_in_little_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((16, 20000), 0.25, dtype=np.float32))
    tracemalloc.start()
    image = load_image(tmp_path / "a.npy", size=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (image - 0.25).abs().max() < 1e-6
    assert peak < 30e6
