"""A folder of pictures as a data set."""

from __future__ import annotations

from pathlib import Path

from ssimpert.data.datasets.layout import need_folder
from ssimpert.data.datasets.photo_dataset import PhotoDataset
from ssimpert.data.photo_search import find_photos
from ssimpert.validation import check_flag


class FolderDataset(PhotoDataset):
    """Pictures in a folder, without annotation.

    Args:
        path: the folder; hidden files and files that are no pictures by their names are left out
        recursive: whether folders within the folder are searched, too
    """

    kind = "folder"
    upright = True
    has_objects = False

    def __init__(self, path: Path, recursive: bool = False) -> None:
        self._folder = need_folder("data folder", path, "a folder of pictures")
        found = find_photos([str(path)], recursive=check_flag("recursive", recursive), strict=True)
        self._photos = [Path(name) for name in found.names]

    def name_of(self, index: int) -> str:
        return self._photos[index].relative_to(self._folder).as_posix()
