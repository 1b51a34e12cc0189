"""Colours become sRGB by their profile; inks, opacity and animations come out as a viewer shows them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ssimpert.data import load_image, load_photo
from tests.ssimpert.data.test_depth import png

COLOURS = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def as_levels(image: torch.Tensor) -> np.ndarray:
    """(H, W, 3), levels of 0 to 255."""
    return 255 * image[0].permute(1, 2, 0).double().numpy()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and blue exchanged: by this profile a file's red is shown blue."""
    return SRGB.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")


def icc_profile(device_class: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, by the letters of its specification."""
    white = struct.pack(">4s4xiii", b"XYZ ", 63190, 65536, 54061)  # D50
    text = b"test\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": description, b"cprt": b"text" + bytes(4) + text, b"wtpt": white, **tags}
    place = 132 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, place + len(bodies), len(body))
        bodies += padded
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4s8sI3i4s44x",
        place + len(bodies),
        b"none",
        0x02400000,
        device_class,
        space,
        connection,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        b"none",
        0,
        b"none",
        b"none",
        bytes(8),
        1,
        63190,
        65536,
        54061,
        b"none",
    )
    return header + table + bodies


def ink_profile() -> bytes:
    """Inks that give greys: lightness 100 - 20 C - 30 M - 40 Y - 10 K, for inks in [0, 1]; each colour of the grid."""
    grid = []
    for corner in range(16):
        c, m, y, k = (corner >> 3) & 1, (corner >> 2) & 1, (corner >> 1) & 1, corner & 1
        lightness = 100 - 20 * c - 30 * m - 40 * y - 10 * k
        grid.append(bytes([round(lightness * 2.55), 128, 128]))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + struct.pack("BBBx", 4, 3, 2) + identity + ramp * 4 + b"".join(grid) + ramp * 3
    return icc_profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return icc_profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})


def srgb_level(luminance: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, levels of 0 to 255."""
    return 255 * np.where(luminance <= 0.0031308, 12.92 * luminance, 1.055 * luminance ** (1 / 2.4) - 0.055)


def luminance_of(lightness: np.ndarray) -> np.ndarray:
    """CIE 1976: the luminance of a lightness of 0 to 100."""
    f = (lightness + 16) / 116
    return np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))


def test_a_profile_says_what_the_colours_are(tmp_path: Path) -> None:
    for name, mode in (("a.png", "RGB"), ("p.png", "P"), ("rgba.png", "RGBA")):
        picture = Image.fromarray(COLOURS).convert("P") if mode == "P" else Image.fromarray(COLOURS).convert(mode)
        picture.save(tmp_path / name, icc_profile=swapped_profile())
        photo = load_photo(tmp_path / name)
        expected = np.asarray(picture.convert("RGB"))[:, :, ::-1]
        assert np.abs(as_levels(photo.image) - expected).max() <= 1.01
        assert len(photo.notes) == 1
        assert photo.notes[0].startswith("converted from the colours of 'sRGB")


def test_the_profile_of_a_jpeg_and_of_deep_colours_is_used_too(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 30, 60)).save(tmp_path / "a.jpg", icc_profile=swapped_profile(), quality=100)
    assert np.abs(as_levels(load_image(tmp_path / "a.jpg"))[5, 5] - [60, 30, 200]).max() <= 3
    deep = COLOURS.astype(np.uint16) * 257
    path = png(deep, tmp_path / "deep.png", (b"iCCP", b"x\0\0" + zlib.compress(swapped_profile())))
    assert np.abs(as_levels(load_image(path)) - COLOURS[:, :, ::-1]).max() <= 1.01


def test_a_profile_of_srgb_changes_no_pixel(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=SRGB)
    photo = load_photo(tmp_path / "a.png")
    assert np.array_equal(as_levels(photo.image).round(), COLOURS)
    assert photo.notes == ()


@pytest.mark.parametrize("is_deep", [False, True])
def test_the_curve_of_a_grey_profile_is_used(is_deep: bool, tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    profile = grey_profile(1.0)
    if is_deep:
        chunk = (b"iCCP", b"x\0\0" + zlib.compress(profile))
        path = png(levels[:, :, None].astype(np.uint16) * 257, tmp_path / "a.png", chunk)
    else:
        path = tmp_path / "a.png"
        Image.fromarray(levels).save(path, icc_profile=profile)
    found = as_levels(load_image(path))
    assert np.abs(found - srgb_level(levels / 255)[:, :, None]).max() <= 1.01


def test_inks_are_converted_by_the_profile_in_the_file(tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[0, 0], inks[0, 1], inks[0, 2], inks[0, 3] = (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 255), (255, 255, 0, 0)
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "a.tif", icc_profile=ink_profile())
    photo = load_photo(tmp_path / "a.tif")
    lightness = 100 - (inks.astype(float) / 255) @ np.array([20, 30, 40, 10])
    expected = srgb_level(luminance_of(lightness))
    assert np.abs(as_levels(photo.image) - expected[:, :, None]).max() <= 2
    assert photo.notes == ("converted from the inks of 'test' to sRGB",)


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_inks_without_a_profile_are_converted_by_the_plain_formula(name: str, tmp_path: Path) -> None:
    inks = np.array([50, 120, 200, 30], np.uint8)
    Image.fromarray(np.tile(inks, (16, 16, 1)), mode="CMYK").save(tmp_path / name, quality=100)
    photo = load_photo(tmp_path / name)
    expected = (255 - inks[:3].astype(float)) * (255 - 30) / 255
    assert np.abs(as_levels(photo.image) - expected).max() <= (1 if name == "a.tif" else 4)
    assert photo.notes[0].startswith("converted from inks (CMYK) by the plain formula (1 - ink)(1 - black)")


@pytest.mark.parametrize(
    ("profile", "reason"),
    [(b"no profile at all", "is damaged"), (SRGB[:300], "is damaged"), (grey_profile(2.2), "is for GRAY, not for RGB")],
)
def test_a_profile_that_can_not_be_used_is_named_and_the_pixels_stay(
    profile: bytes, reason: str, tmp_path: Path
) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png", icc_profile=profile)
    photo = load_photo(tmp_path / "a.png")
    assert np.array_equal(as_levels(photo.image).round(), COLOURS)
    assert len(photo.notes) == 1
    assert reason in photo.notes[0]


def test_the_first_frame_is_read_and_said(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    for name in ("a.gif", "a.png", "a.tif"):
        red.save(tmp_path / name, save_all=True, append_images=[blue])
        photo = load_photo(tmp_path / name)
        assert photo.image[0, :, 5, 5].tolist() == [1, 0, 0]
        assert photo.notes == ("the first of several frames",)


def test_transparency_is_said_only_where_a_pixel_is_transparent(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOURS).convert("RGBA")
    picture.save(tmp_path / "opaque.png")
    assert load_photo(tmp_path / "opaque.png").notes == ()
    picture.putpixel((3, 4), (10, 20, 30, 0))
    picture.save(tmp_path / "clear.png")
    photo = load_photo(tmp_path / "clear.png", size=20)
    assert photo.notes == ("transparent pixels shown on white", "cut to the central 20x20 pixels")


def test_a_tall_picture_is_converted_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opacity = np.random.default_rng(1).integers(0, 256, (20, 30, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([COLOURS, opacity], axis=2)).save(tmp_path / "a.png", icc_profile=swapped_profile())
    whole = load_image(tmp_path / "a.png")
    monkeypatch.setattr("ssimpert.data.colour._STRIP_PIXELS", 100)
    assert torch.equal(load_image(tmp_path / "a.png"), whole)


def test_a_program_that_draws_is_not_run(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, format="EPS")
    (tmp_path / "a.eps").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="is PostScript, a program that draws; save it as a PNG"):
        load_image(tmp_path / "a.eps")
