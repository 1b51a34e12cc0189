"""ImageNet-S: masks of colours, read into the model's pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import write_mask, write_photo

# 300 synsets, so that numbers need two bytes.
SYNSETS = [f"n{10_000_000 + number}" for number in range(1, 301)]
PHOTO = "ILSVRC2012_val_00000007"


def numbers(number: int) -> np.ndarray:
    """48 rows and 32 columns: the class in rows 16 to 32 and columns 8 to 24, then some other and ignored pixels."""
    mask = np.zeros((48, 32), dtype=np.int64)
    mask[16:32, 8:24] = number
    mask[16:32, 24:26] = 5
    mask[:8] = 1000
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "ImageNetS300"
    write_photo(base / "validation" / SYNSETS[257] / f"{PHOTO}.JPEG", 32, 48)
    write_mask(base / "validation-segmentation" / SYNSETS[257] / f"{PHOTO}.png", numbers(258))
    (tmp_path / "ImageNetS_categories_im300.txt").write_text("\n".join(reversed(SYNSETS)))
    return base


def test_masks_are_split_by_class_and_get_boxes(root: Path) -> None:
    options = {"path": root, "categories": root.parent / "ImageNetS_categories_im300.txt"}
    item = open_dataset("imagenet-s", options).item(0, 16)
    other, own = item.objects
    assert (item.class_names, own.class_name, other.class_name) == ((SYNSETS[257],), SYNSETS[257], SYNSETS[4])
    # Halved to 24 rows of which 4 to 20 are seen: rows 16 to 32 become 4 to 12, columns 8 to 24 become 4 to 12.
    assert own.box == (4, 4, 12, 12)
    expected = np.zeros((16, 16), dtype=bool)
    expected[4:12, 4:12] = True
    assert own.mask is not None
    assert own.mask.numpy().tolist() == expected.tolist()


def test_all_folders_of_synsets_number_the_classes(root: Path) -> None:
    with pytest.raises(InputError, match="has 1 synsets, and masks number all 50, 300 or 919; give the option"):
        open_dataset("imagenet-s", {"path": root})
    for synset in SYNSETS:
        (root / "validation" / synset).mkdir(exist_ok=True)
    assert open_dataset("imagenet-s", {"path": root}).item(0, 16).objects[1].class_name == SYNSETS[257]


def test_bad_masks_and_folders_are_named(root: Path) -> None:
    options = {"path": root, "categories": root.parent / "ImageNetS_categories_im300.txt"}
    mask = root / "validation-segmentation" / SYNSETS[257] / f"{PHOTO}.png"
    write_mask(mask, numbers(301))
    with pytest.raises(InputError, match=r"00000007\.png' has class 301; 1 to 300 are valid"):
        open_dataset("imagenet-s", options).item(0, 16)
    write_mask(mask, numbers(5))
    with pytest.raises(InputError, match=f"has {SYNSETS[4]}, but the photo's class is '{SYNSETS[257]}'"):
        open_dataset("imagenet-s", options).item(0, 16)
    write_mask(mask, numbers(258).T)
    with pytest.raises(InputError, match=r"has 32x48 pixels, .* are of 48x32"):
        open_dataset("imagenet-s", options).item(0, 16)
    mask.unlink()
    with pytest.raises(InputError, match=rf"lacks 1 of the files listed: '{PHOTO}\.png'"):
        open_dataset("imagenet-s", options)
    with pytest.raises(InputError, match="split of ImageNet-S must be one of validation, train-semi, got 'test'"):
        open_dataset("imagenet-s", {**options, "split": "test"})
    with pytest.raises(InputError, match="train-semi' does not exist"):
        open_dataset("imagenet-s", {**options, "split": "train-semi"})
