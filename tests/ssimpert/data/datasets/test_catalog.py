"""The kinds of data sets and their options, and what needs no files of a benchmark: samples, folders, composites."""

from __future__ import annotations

from dataclasses import MISSING
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.data.composites import composites
from ssimpert.data.datasets.catalog import DATASETS, dataset_options, open_dataset
from ssimpert.errors import InputError
from tests.ssimpert.data.datasets.fixtures import write_photo, write_voc


def test_every_option_is_explained() -> None:
    for kind in DATASETS:
        for option in dataset_options(kind).values():
            assert option.doc, (kind, option.name)
            assert option.type
    options = dataset_options("voc")
    assert list(options) == ["path", "year", "split", "label_table"]
    assert options["path"].default is MISSING
    assert options["label_table"].doc.endswith("the shipped one for ImageNet's labels")


def test_unknown_kinds_and_options_are_named() -> None:
    with pytest.raises(InputError, match="unknown kind of data 'vocc'; did you mean voc"):
        open_dataset("vocc", {})
    with pytest.raises(InputError, match="unknown option of data 'coco' 'splitt'; did you mean split"):
        open_dataset("coco", {"path": ".", "splitt": "val2017"})
    with pytest.raises(InputError, match="data 'cub' needs the option 'path'"):
        open_dataset("cub", {})
    with pytest.raises(InputError, match="path must be a path, got 3"):
        open_dataset("cub", {"path": 3})


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    for synset in ("n01440764", "n01443537"):
        write_photo(tmp_path / "imagenet" / synset / "1.JPEG", 32, 32)
    with pytest.raises(InputError, match=r"two photos that are called '1': .*n01440764/1.JPEG' and .*n01443537/1.JPEG"):
        open_dataset("imagenet", {"path": tmp_path / "imagenet"})
    write_voc(tmp_path / "voc", {"000001": (32, 32, [("cat", (1, 1, 9, 9), 0)])})
    (tmp_path / "voc" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").write_text("000001\n000001\n")
    with pytest.raises(InputError, match="two photos that are called '000001'"):
        open_dataset("voc", {"path": tmp_path / "voc"})


def test_folders_are_read_upright_and_named_by_their_paths(tmp_path: Path) -> None:
    write_photo(tmp_path / "img10.png", 20, 30)
    write_photo(tmp_path / "img2.png", 20, 30, 1)
    write_photo(tmp_path / "more" / "x.png", 20, 30, 2)
    (tmp_path / "notes.txt").write_text("no picture")
    data = open_dataset("folder", {"path": str(tmp_path)})
    assert [data.name_of(index) for index in range(len(data))] == ["img2.png", "img10.png"]
    assert (data.has_objects, data.files_of(0)) == (False, (tmp_path / "img2.png",))
    assert len(open_dataset("folder", {"path": tmp_path, "recursive": True})) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty' is a folder without pictures"):
        open_dataset("folder", {"path": tmp_path / "empty"})
    with pytest.raises(InputError, match=r"data folder '.*notes\.txt' is a file"):
        open_dataset("folder", {"path": tmp_path / "notes.txt"})


def test_a_cameras_rotation_is_applied_to_ones_own_photos_only(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    synset = tmp_path / "n01440764"
    synset.mkdir()
    Image.fromarray(pixels).save(synset / "a.png", exif=exif)
    own, stored = open_dataset("folder", {"path": synset}), open_dataset("imagenet", {"path": tmp_path})
    assert (own.item(0, 16).frame.width, own.item(0, 16).frame.height) == (20, 30)
    assert (stored.item(0, 16).frame.width, stored.item(0, 16).frame.height) == (30, 20)


def test_samples_are_photos_without_objects() -> None:
    data = open_dataset("samples", {"names": ["coffee"]})
    item = data.item(0, 32)
    assert (len(data), item.name, item.objects, data.has_objects, data.files_of(0)) == (1, "coffee", (), False, ())
    assert item.identity == data.identity_of(0)
    with pytest.raises(InputError, match="unknown sample 'cofee'; did you mean coffee"):
        open_dataset("samples", {"names": ["cofee"]})


def test_composites_have_exact_masks() -> None:
    data = open_dataset("composites", {"n": 2, "seed": 3})
    item = data.item(1, 64)
    (entry,) = item.objects
    assert entry.mask is not None
    rows, columns = entry.mask.nonzero().T
    assert entry.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert set(item.columns) == {"object", "scene"}
    assert item.identity == open_dataset("composites", {"n": 2, "seed": 3}).identity_of(1) != data.identity_of(0)


def test_composites_are_made_one_by_one_and_equal_those_of_a_set() -> None:
    data = open_dataset("composites", {"n": 1_000_000, "seed": 3, "objects": ["coffee", "chelsea"]})
    made = composites(2, 3, size=64, objects=["coffee", "chelsea"])
    for index in range(2):
        item = data.item(index, 64)
        assert item.image.equal(made.images[index])
        assert item.objects[0].mask is not None
        assert item.objects[0].mask.equal(made.masks[index])
        assert item.columns == {"object": made.objects[index], "scene": made.textures[index]}
    with pytest.raises(InputError, match="'cofee'"):
        open_dataset("composites", {"n": 1, "objects": ["cofee"]})
