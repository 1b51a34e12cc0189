"""One photo gives one image at 8 and at 16 bits, grey or colour, PNG or TIFF, up to rounding."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ssimpert.data import load_image, load_photo
from ssimpert.errors import InputError

RNG = np.random.default_rng(3)
# Edges at which bicubic interpolation overshoots on both sides, and noise.
CHECKS = np.where(RNG.random((60, 84, 3)) < 0.5, 0, 65535).astype(np.uint16)
NOISE = RNG.integers(0, 65536, (60, 84, 3)).astype(np.uint16)
# The shallow file rounds the photo, the rows and the columns, each by up to half a level; the kernel's negative parts
# make that of the rows a little larger.
ROUNDING = 1.6 / 255


def png(pixels: NDArray[np.uint16], path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """A 16-bit PNG of pixels (H, W, C), by the letters of its specification; C = 1, 2, 3 or 4."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def shallow(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.rint(pixels / 257).astype(np.uint8)


@pytest.mark.parametrize("pixels", [CHECKS, NOISE], ids=["checks", "noise"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("size", [None, 24, 90])
def test_depth_changes_no_more_than_rounding(
    pixels: NDArray[np.uint16], kind: str, ending: str, size: int | None, tmp_path: Path
) -> None:
    if kind == "grey":
        pixels = pixels[:, :, :1]
    deep = tmp_path / f"deep.{ending}"
    if ending == "png":
        png(pixels, deep)
    else:
        tifffile.imwrite(deep, pixels.squeeze(), photometric="rgb" if kind == "colour" else "minisblack")
    Image.fromarray(shallow(pixels).squeeze()).save(tmp_path / f"shallow.{ending}")
    found, expected = load_image(deep, size=size), load_image(tmp_path / f"shallow.{ending}", size=size)
    assert (found - expected).abs().max() <= (0.51 / 255 if size is None else ROUNDING)
    if size is None:
        np.testing.assert_allclose(
            found[0].permute(1, 2, 0).numpy(), np.broadcast_to(pixels / 65535, (60, 84, 3)), atol=1e-7
        )


def test_an_array_is_resized_like_the_picture_of_its_pixels(tmp_path: Path) -> None:
    eight = shallow(CHECKS)
    Image.fromarray(eight).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", eight / 255)
    assert (load_image(tmp_path / "a.png", 24) - load_image(tmp_path / "a.npy", 24)).abs().max() <= ROUNDING


def test_deep_opacity_shows_white(tmp_path: Path) -> None:
    opacity = RNG.integers(0, 65536, (20, 30, 1)).astype(np.uint16)
    colours = NOISE[:20, :30]
    expected = (colours / 65535) * (opacity / 65535) + (1 - opacity / 65535)
    photo = load_photo(png(np.concatenate([colours, opacity], axis=2), tmp_path / "a.png"))
    np.testing.assert_allclose(photo.image[0].permute(1, 2, 0).numpy(), expected, atol=2e-5)
    assert photo.notes == ("transparent pixels shown on white",)
    grey = load_photo(png(np.concatenate([colours[:, :, :1], opacity], axis=2), tmp_path / "la.png"))
    np.testing.assert_allclose(grey.image[0].permute(1, 2, 0).numpy(), expected[:, :, :1].repeat(3, axis=2), atol=2e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_deep_level_that_is_transparent_shows_white(channels: int, tmp_path: Path) -> None:
    pixels = NOISE[:20, :30, :channels].copy()
    level = pixels[4, 5].astype(">u2").tobytes()
    photo = load_photo(png(pixels, tmp_path / "a.png", (b"tRNS", level)))
    expected = pixels / 65535
    expected[(pixels == pixels[4, 5]).all(axis=2)] = 1
    np.testing.assert_allclose(
        photo.image[0].permute(1, 2, 0).numpy(), np.broadcast_to(expected, (20, 30, 3)), atol=1e-7
    )
    assert "transparent pixels shown on white" in photo.notes


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_deep_pictures_are_turned_upright(kind: str, tmp_path: Path) -> None:
    pixels = NOISE[:20, :30, : 1 if kind == "grey" else 3]
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = load_photo(png(np.rot90(pixels, 1), tmp_path / "a.png", (b"eXIf", exif.tobytes()[6:])))
    expected = np.broadcast_to(pixels / 65535, (20, 30, 3))
    np.testing.assert_allclose(photo.image[0].permute(1, 2, 0).numpy(), expected, atol=1e-7)
    assert photo.notes == ("turned upright by its EXIF orientation 6",)


def test_a_deep_tiff_that_is_turned_is_read_upright(tmp_path: Path) -> None:
    stored = np.ascontiguousarray(np.rot90(NOISE[:20, :30], 1))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    image = load_image(tmp_path / "a.tif")
    np.testing.assert_allclose(image[0].permute(1, 2, 0).numpy(), NOISE[:20, :30] / 65535, atol=1 / 255)


def test_separate_planes_which_pillow_reads_wrongly_are_refused(tmp_path: Path) -> None:
    planes = NOISE[:20, :30].transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(InputError, match="separate planes; save it with interleaved channels"):
        load_image(tmp_path / "a.tif")


def test_a_truncated_deep_picture_is_refused(tmp_path: Path) -> None:
    path = png(NOISE, tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="truncated or damaged"):
        load_image(path)


def test_the_srgb_profile_keeps_the_depth(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    chunk = (b"iCCP", b"sRGB\0\0" + zlib.compress(profile))
    with_profile = load_photo(png(NOISE, tmp_path / "a.png", chunk))
    assert torch.equal(with_profile.image, load_image(png(NOISE, tmp_path / "b.png")))
    assert with_profile.notes == ()
