"""The index of items: what is decoded again, what changed, and what is there twice."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.data.datasets.catalog import open_dataset
from ssimpert.data.datasets.folder import FolderDataset
from ssimpert.data.datasets.item import Dataset
from ssimpert.study.item_index import changed_items, index_items, read_item_index, write_item_index


def folder_of_photos(path: Path, *brightness: int) -> Dataset:
    for number, level in enumerate(brightness):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path / f"{number}.png")
    return open_dataset("folder", {"path": path})


def test_an_index_comes_back_from_its_file(tmp_path: Path) -> None:
    index = index_items([folder_of_photos(tmp_path, 10, 20)])
    write_item_index(tmp_path, index)
    read = read_item_index(tmp_path)
    assert read is not None
    assert read.table.equals(index.table)
    assert read.places == [(0, 0), (0, 1)]
    assert [Path(name).name for name in read.names] == ["0.png", "1.png"]


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_bytes(b"PAR1?")
    assert read_item_index(tmp_path) is None
    assert read_item_index(tmp_path / "nowhere") is None


def test_only_photos_whose_files_changed_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = index_items([folder_of_photos(tmp_path, 10, 20, 30)])
    decoded = []
    identity_of = FolderDataset.identity_of
    monkeypatch.setattr(
        FolderDataset, "identity_of", lambda self, index: decoded.append(index) or identity_of(self, index)
    )
    again = index_items([open_dataset("folder", {"path": tmp_path})], before)
    assert (decoded, again.table.equals(before.table)) == ([], True)
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / "1.png")
    os.utime(tmp_path / "1.png", ns=(1, 1))
    after = index_items([open_dataset("folder", {"path": tmp_path})], before)
    assert decoded == [1]
    assert [Path(name).name for name in changed_items(before, after)] == ["1.png"]


def test_a_photo_that_was_only_touched_keeps_its_identity(tmp_path: Path) -> None:
    before = index_items([folder_of_photos(tmp_path, 10, 20)])
    os.utime(tmp_path / "0.png", ns=(5, 5))
    after = index_items([open_dataset("folder", {"path": tmp_path})], before)
    assert after.identities == before.identities
    assert changed_items(before, after) == []


def test_copies_count_once_and_are_named(tmp_path: Path) -> None:
    index = index_items([folder_of_photos(tmp_path, 10, 20, 10)])
    assert [place for _, place in index.places] == [0, 1]
    assert [Path(name).name for name in index.copies] == ["2.png"]
    assert len(set(index.identities)) == len(index) == 2


def test_a_photo_that_can_not_be_read_has_an_identity_until_its_file_changes(tmp_path: Path) -> None:
    dataset = folder_of_photos(tmp_path, 10, 20)
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    broken = index_items([dataset])
    assert broken.identities == index_items([dataset]).identities
    assert len(set(broken.identities)) == 2
    Image.fromarray(np.full((8, 8, 3), 20, np.uint8)).save(tmp_path / "1.png")
    assert index_items([dataset]).identities[1] != broken.identities[1]
