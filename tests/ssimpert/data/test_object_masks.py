"""Masks of objects: PNG files and COCO outlines, carried to the model's pixels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssimpert.data import Frame, find_masks, mask_of_photo
from ssimpert.errors import InputError
from tests.ssimpert.data.test_box_files import coco

FRAME = Frame(40, 30, 30)


def rectangle(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((30, 40), bool)
    mask[rows, columns] = True
    return mask


SEEN = rectangle(slice(4, 20), slice(10, 25))
# A photo of 40x30 at size 30 is not resized; 5 columns are cut off on either side.
EXPECTED = SEEN[:, 5:35]


def test_bright_pixels_are_the_object(tmp_path: Path) -> None:
    Image.fromarray(np.where(SEEN, 255, 20).astype(np.uint8)).save(tmp_path / "cat.png")
    masks = find_masks(tmp_path)
    assert np.array_equal(mask_of_photo("photos/cat.jpg", masks, FRAME).numpy(), EXPECTED)
    with pytest.raises(InputError, match=r"'dog\.jpg' has no mask in"):
        mask_of_photo("dog.jpg", masks, FRAME)


def test_in_a_label_map_every_label_but_background_and_void_is_the_object(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[4:20, 10:18], labels[4:20, 18:25], labels[0:3] = 1, 15, 255
    picture = Image.fromarray(labels, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0] + [9] * 762)
    picture.save(tmp_path / "cat.png")
    assert np.array_equal(mask_of_photo("cat", find_masks(tmp_path), FRAME).numpy(), EXPECTED)


def test_a_mask_of_other_proportions_or_without_a_seen_pixel_is_refused(tmp_path: Path) -> None:
    pictures = {
        "wide": np.full((20, 40), 255),
        "dark": np.full((30, 40), 1),
        "rim": np.where(rectangle(slice(None), slice(0, 5)), 255, 0),
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    masks = find_masks(tmp_path)
    for name, reason in (
        ("wide", "is 40x20 pixels, image 'wide' 40x30"),
        ("dark", "marks no object"),
        ("rim", "lies outside of the central square"),
    ):
        with pytest.raises(InputError, match=reason):
            mask_of_photo(name, masks, FRAME)


def test_places_without_masks_are_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "without .png files"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=reason):
            find_masks(path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="is a file; give a folder of PNG files"):
        find_masks(tmp_path / "a.txt")


def test_without_pycocotools_outlines_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r"pip install 'ssimpert\[coco\]'"):
        find_masks(coco(tmp_path / "a.json", [], []))


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's run lengths: down the columns, beginning with those of the background."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *lengths] if flat[0] else lengths


def test_polygons_and_run_lengths_become_masks(tmp_path: Path) -> None:
    codes = pytest.importorskip("pycocotools.mask", reason="pip install 'ssimpert[coco]'")
    compressed = codes.encode(np.asfortranarray(SEEN.astype(np.uint8)))
    outlines: dict[str, Any] = {
        "polygon": [[10, 4, 25, 4, 25, 20, 10, 20]],
        "plain": {"size": [30, 40], "counts": run_lengths(SEEN)},
        "compressed": {"size": [30, 40], "counts": compressed["counts"].decode()},
    }
    images = [{"id": k, "file_name": f"{name}.jpg", "width": 40, "height": 30} for k, name in enumerate(outlines)]
    annotations = [{"image_id": k, "segmentation": outline} for k, outline in enumerate(outlines.values())]
    masks = find_masks(coco(tmp_path / "a.json", images, annotations))
    for name in ("polygon", "plain", "compressed"):
        assert np.array_equal(mask_of_photo(name, masks, FRAME).numpy(), EXPECTED), name
    with pytest.raises(InputError, match=r"its outlines in .* are of 40x30 pixels"):
        mask_of_photo("plain", masks, Frame(50, 30, 30))


def test_outlines_may_leave_the_photo_a_little(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools.mask", reason="pip install 'ssimpert[coco]'")
    images = [{"id": 1, "file_name": "x.jpg", "width": 40, "height": 30}]
    outline = [[-3, -2, 25, -2, 25, 20, -3, 20]]
    masks = find_masks(coco(tmp_path / "a.json", images, [{"image_id": 1, "segmentation": outline}]))
    seen = mask_of_photo("x.jpg", masks, Frame(40, 30))
    assert seen[:20, :25].all()
    assert seen.sum() == 20 * 25


@pytest.mark.parametrize(
    "outline",
    [
        None,
        [],
        [[1, 2, 3]],
        [["a"] * 6],
        # On these pycocotools ends the process, or takes all memory.
        [[5, 5, 1e300, 5, 5, 9]],
        [[5, 5, float("inf"), 5, 5, 9]],
        [[5, 5, 9, float("nan"), 5, 9]],
        [[5, 5, 9, -31, 5, 9]],
        {"size": [30, 40], "counts": [5, 7]},
        {"size": [30, 40], "counts": [-1200, 2400]},
        {"size": [3000000, 4000000], "counts": [12]},
        {"size": [30, 40]},
        {"counts": "abc"},
    ],
)
def test_outlines_that_can_not_be_used_are_named(outline: Any, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools.mask", reason="pip install 'ssimpert[coco]'")
    images = [{"id": 1, "file_name": "x.jpg", "width": 40, "height": 30}]
    masks = find_masks(coco(tmp_path / "a.json", images, [{"image_id": 1, "segmentation": outline}]))
    with pytest.raises(InputError, match="annotation 0 has"):
        mask_of_photo("x.jpg", masks, FRAME)


@pytest.mark.parametrize("counts", ["abc", "z" * 13, "0" * 50, "~" * 30, ""])
def test_compressed_run_lengths_of_nonsense_are_named_or_empty(counts: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools.mask", reason="pip install 'ssimpert[coco]'")
    images = [{"id": 1, "file_name": "x.jpg", "width": 40, "height": 30}]
    annotation = {"image_id": 1, "segmentation": {"size": [30, 40], "counts": counts}}
    masks = find_masks(coco(tmp_path / "a.json", images, [annotation]))
    with pytest.raises(InputError, match=r"annotation 0 has|marks no object"):
        mask_of_photo("x.jpg", masks, FRAME)
