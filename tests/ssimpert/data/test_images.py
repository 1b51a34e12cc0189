"""Every kind of picture comes in right, or is refused in one line that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ssimpert.data import load_image, sample_array, save_array, save_image
from ssimpert.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _saved(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def _as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()[None] / 255


def test_a_sample_is_loaded_by_its_name_in_float32() -> None:
    image = load_image("chelsea")
    assert image.shape == (1, 3, 300, 451)
    assert image.dtype == torch.float32
    assert torch.equal(image, _as_tensor(sample_array("chelsea")))


def test_a_file_goes_before_a_sample_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(COLOUR).save("chelsea", format="PNG")
    assert load_image("chelsea").shape == (1, 3, 20, 30)
    (tmp_path / "coffee").mkdir()
    assert load_image("coffee").shape == (1, 3, 400, 600)


@pytest.mark.parametrize("size", [16, 64, 224])
def test_resizing_gives_a_square_on_the_8_bit_grid(size: int) -> None:
    image = load_image("chelsea", size=size, dtype=torch.float64)
    assert image.shape == (1, 3, size, size)
    levels = image * 255
    assert torch.equal(levels.round() / 255, image)
    assert image.min() >= 0
    assert image.max() <= 1


def test_shrinking_averages_stripes_and_keeps_the_centre(tmp_path: Path) -> None:
    row = np.concatenate([np.zeros(64), np.tile([0, 255], 32), np.full(64, 255)]).astype(np.uint8)
    path = _saved(Image.fromarray(np.tile(row, (64, 1))), tmp_path / "stripes.png")
    image = load_image(path, size=16)
    inner = image[..., 3:-3]
    # One-pixel stripes shrunk fourfold: aliasing would give black or white, an average gives mid-grey.
    assert (inner - 0.5).abs().max() < 0.05
    assert image[..., 0].mean() < image[..., -1].mean()


def test_size_none_or_equal_changes_nothing(tmp_path: Path) -> None:
    square = COLOUR[:, :20]
    path = _saved(Image.fromarray(square), tmp_path / "square.png")
    assert torch.equal(load_image(path, size=20), _as_tensor(square))
    assert torch.equal(load_image(str(path)), _as_tensor(square))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int, tmp_path: Path) -> None:
    # What a viewer sees must be COLOUR; the stored pixels undo each orientation (EXIF 2.3, tag 0x0112).
    undo = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: np.rot90(COLOUR, 1),
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(COLOUR, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation]))
    path = _saved(stored, tmp_path / "turned.png", exif=exif)
    assert torch.equal(load_image(path), _as_tensor(COLOUR))


def test_grey_and_black_and_white_become_three_equal_channels(tmp_path: Path) -> None:
    grey = COLOUR[:, :, 0]
    expected = _as_tensor(np.repeat(grey[:, :, None], 3, axis=2))
    assert torch.equal(load_image(_saved(Image.fromarray(grey), tmp_path / "grey.png")), expected)
    bits = Image.fromarray(((grey > 100) * 255).astype(np.uint8)).convert("1")
    image = load_image(_saved(bits, tmp_path / "bits.png"))
    assert torch.equal(image[0, 2], torch.from_numpy(grey > 100).float())


def test_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    opaque = np.dstack([COLOUR, np.full((20, 30), 255, dtype=np.uint8)])
    assert torch.equal(load_image(_saved(Image.fromarray(opaque), tmp_path / "a.png")), _as_tensor(COLOUR))


def test_transparency_shows_white(tmp_path: Path) -> None:
    alpha = np.full((20, 30), 255, dtype=np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 0, 128
    path = _saved(Image.fromarray(np.dstack([COLOUR, alpha])), tmp_path / "a.png")
    image = load_image(path)
    assert torch.equal(image[..., :10], torch.ones(1, 3, 20, 10))
    mixed = (COLOUR[:, 10:20].astype(float) * 128 + 255.0 * 127) / 255 / 255
    torch.testing.assert_close(image[0, :, :, 10:20].permute(1, 2, 0).double().numpy(), mixed, atol=1 / 255, rtol=0)
    assert torch.equal(image[..., 20:], _as_tensor(COLOUR)[..., 20:])


def test_transparent_grey_shows_white(tmp_path: Path) -> None:
    picture = Image.merge("LA", [Image.new("L", (16, 16), 0), Image.new("L", (16, 16), 0)])
    assert torch.equal(load_image(_saved(picture, tmp_path / "la.png")), torch.ones(1, 3, 16, 16))


def test_palette_colours_are_resolved_and_transparent_ones_show_white(tmp_path: Path) -> None:
    picture = Image.new("P", (16, 16), 1)
    picture.putpalette([255, 0, 0, 0, 51, 0])
    green = load_image(_saved(picture, tmp_path / "palette.png"))
    assert green[0, :, 3, 3].tolist() == pytest.approx([0, 0.2, 0])
    seen_through = load_image(_saved(picture, tmp_path / "clear.gif", transparency=1))
    assert torch.equal(seen_through, torch.ones(1, 3, 16, 16))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_grey_keeps_its_depth(name: str, tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    path = _saved(Image.fromarray(levels), tmp_path / name)
    image = load_image(path, dtype=torch.float64)
    np.testing.assert_allclose(image[0, 1].numpy(), levels / 65535, atol=1e-7)
    small = load_image(path, size=16)
    assert small.shape == (1, 3, 16, 16)
    assert small.max() <= 1
    assert len(small.unique()) > 200  # not quantised to 8 bits


def test_an_image_has_the_dtype_asked_for_and_unknown_ones_are_refused() -> None:
    assert load_image("camera", size=32, dtype=torch.float64, device="auto").dtype == torch.float64
    with pytest.raises(InputError, match=r"dtype torch\.uint8"):
        load_image("camera", dtype=torch.uint8)
    with pytest.raises(InputError, match="unknown device 'gpu'"):
        load_image("camera", device="gpu")


@pytest.mark.parametrize("size", [0, 15, -3, 22.5, True, "224"])
def test_sizes_that_make_no_sense_are_refused_with_their_value(size: object) -> None:
    with pytest.raises(InputError, match=f"size {size!r} is not valid"):
        load_image("chelsea", size=size)  # type: ignore[arg-type]


def _with_text_last(content: bytes) -> bytes:
    """A PNG file with its zTXt chunk moved behind the pixels."""
    chunks, place = [], 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big") + 12
        chunks.append(content[place : place + length])
        place += length
    texts = [chunk for chunk in chunks if chunk[4:8] == b"zTXt"]
    others = [chunk for chunk in chunks if chunk[4:8] != b"zTXt"]
    return content[:8] + b"".join([*others[:-1], *texts, others[-1]])


def _write_bad(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.png"
    picture = Image.fromarray(np.tile(COLOUR, (8, 8, 1)))
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("this is no picture\n")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        picture.save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind in ("long_text", "long_text_behind"):
        # The limit is of Pillow, 1 MiB; the chunk itself is small.
        texts = PngImagePlugin.PngInfo()
        texts.add_text("comment", "a" * 2**21, zip=True)
        picture.save(path, pnginfo=texts)
        if kind == "long_text_behind":
            path.write_bytes(_with_text_last(path.read_bytes()))
    elif kind == "truncated_jpeg":
        picture.save(path, format="JPEG")
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "one_pixel":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "narrow":
        Image.new("RGB", (15, 200)).save(path)
    elif kind == "float":
        path = path.with_suffix(".tif")
        Image.fromarray(np.ones((32, 32), np.float32)).save(path)
    elif kind == "int32":
        path = path.with_suffix(".tif")
        Image.fromarray(np.full((32, 32), 70000, np.int32)).save(path)
    elif kind == "negative":
        path = path.with_suffix(".tif")
        Image.fromarray(np.full((32, 32), -1, np.int32)).save(path)
    elif kind == "lab":
        path = path.with_suffix(".tif")
        Image.new("LAB", (32, 32)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "does not exist"),
        ("folder", "is a folder"),
        ("text", "is not an image file"),
        ("empty", "is not an image file"),
        ("truncated", "truncated or damaged"),
        ("truncated_jpeg", "truncated or damaged"),
        ("long_text", "MAX_TEXT_CHUNK); save the picture again without it"),
        ("long_text_behind", "holds a text or a colour profile beyond Pillow's limit"),
        ("one_pixel", "is 1x1 pixels; each side must have at least 16"),
        ("narrow", "is 15x200 pixels"),
        ("float", "'F': 32-bit float pixels have no fixed range"),
        ("int32", "from 70000 to 70000; valid: 0 to 65535"),
        ("negative", "from -1 to -1"),
        ("lab", "'LAB': Lab colours"),
    ],
)
def test_bad_pictures_are_refused_in_one_line(kind: str, reason: str, tmp_path: Path) -> None:
    path = _write_bad(kind, tmp_path)
    with pytest.raises(InputError) as caught:
        load_image(path)
    message = str(caught.value)
    assert reason in message
    assert str(path) in message
    assert "\n" not in message


def test_an_unknown_name_lists_near_samples() -> None:
    with pytest.raises(InputError, match="unknown sample or file 'chelse'; did you mean chelsea"):
        load_image("chelse")
    with pytest.raises(InputError, match="no usable path"):
        load_image("x" * 5000)
    with pytest.raises(InputError, match=r"'nowhere/chelsea' does not exist"):
        load_image("nowhere/chelsea")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_array_comes_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    image = torch.rand(1, 3, 32, 32, dtype=dtype, generator=torch.Generator().manual_seed(0))
    path = save_array(image, tmp_path / "new" / "result.npy")
    assert torch.equal(load_image(path, dtype=dtype), image)
    assert torch.equal(load_image(path, size=32, dtype=dtype), image)


@pytest.mark.parametrize("layout", ["hw", "hwc", "chw", "big_endian", "half"])
def test_arrays_of_every_layout_and_byte_order_are_read_alike(layout: str, tmp_path: Path) -> None:
    grey = RNG.random((20, 30)).astype(np.float32)
    colour = np.stack([grey, grey**2, grey**3])
    arrays = {
        "hw": grey,
        "hwc": colour.transpose(1, 2, 0),
        "chw": colour,
        "big_endian": colour.astype(">f4"),
        "half": colour.astype(np.float16),
    }
    np.save(tmp_path / "a.npy", arrays[layout])
    image = load_image(tmp_path / "a.npy")
    assert image.shape == (1, 3, 20, 30)
    expected = np.stack([grey] * 3) if layout == "hw" else colour
    np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-3 if layout == "half" else 0)


def test_arrays_are_resized_in_floating_point(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((40, 60), 0.123456789))
    image = load_image(tmp_path / "a.npy", size=16)
    assert image.shape == (1, 3, 16, 16)
    assert (image - 0.123456789).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((20, 20), np.nan), "from nan to nan"),
        (np.full((20, 20), 1.5), "from 1.5 to 1.5"),
        (np.full((20, 20, 3), -0.25), "[0, 1] is valid"),
        (np.zeros((20, 20), np.uint8), "holds uint8 values"),
        (np.zeros((2, 3, 20, 20)), "has shape (2, 3, 20, 20)"),
        (np.zeros((20, 20, 4)), "has shape (20, 20, 4)"),
        (np.zeros((3, 8, 8)), "is 8x8 pixels"),
        (np.zeros((0, 0, 3)), "is 0x0 pixels"),
        (np.array([{}], dtype=object), "is not a readable .npy array"),
    ],
)
def test_bad_arrays_are_refused(array: NDArray[np.generic], reason: str, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(InputError) as caught:
        load_image(tmp_path / "bad.npy")
    assert reason in str(caught.value)
    assert "bad.npy" in str(caught.value)


def test_a_png_holds_the_nearest_levels(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    path = save_image(image, tmp_path / "deep" / "er" / "a.png")
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
    assert (load_image(path) - image).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(load_image(save_image(load_image(path)[0], tmp_path / "b.png")), load_image(path))


@pytest.mark.parametrize(
    ("tensor", "name", "reason"),
    [
        (torch.rand(1, 3, 16, 16), "a.jpg", "must end in .png"),
        (torch.rand(2, 3, 16, 16), "a.png", "shape (2, 3, 16, 16)"),
        (torch.rand(1, 16, 16), "a.png", "shape (1, 16, 16)"),
        (torch.rand(3), "a.png", "shape (3,)"),
        (torch.rand(3, 0, 16), "a.png", "shape (3, 0, 16)"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), "a.png", "torch.uint8"),
        (torch.full((3, 16, 16), 1.5), "a.png", "from 1.5 to 1.5"),
        (torch.full((3, 16, 16), float("nan")), "a.png", "from nan to nan"),
    ],
)
def test_what_can_not_be_saved_as_an_image_is_refused_and_no_file_is_left(
    tensor: torch.Tensor, name: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        save_image(tensor, tmp_path / name)
    assert reason in str(caught.value)
    assert not (tmp_path / name).exists()


def test_places_and_types_that_can_not_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken.png").mkdir()
    image = torch.rand(3, 16, 16)
    with pytest.raises(InputError, match=r"can't write .*file/a\.png.*choose a writable folder"):
        save_image(image, tmp_path / "file" / "a.png")
    with pytest.raises(InputError, match=r"can't write .*taken\.png"):
        save_image(image, tmp_path / "taken.png")
    with pytest.raises(InputError, match=r"can't write .*file/a\.npy"):
        save_array(image, tmp_path / "file" / "a.npy")
    with pytest.raises(InputError, match=r"must end in \.npy"):
        save_array(image, tmp_path / "a.txt")
    with pytest.raises(InputError, match="bfloat16"):
        save_array(image.bfloat16(), tmp_path / "a.npy")
