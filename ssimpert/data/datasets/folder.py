"""A folder of pictures as a data set."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ssimpert.data.datasets.item import Dataset, Item
from ssimpert.data.photo_search import find_photos
from ssimpert.data.photos import load_photo
from ssimpert.errors import InputError


class FolderDataset(Dataset):
    """The pictures in the folder ``path``; ``recursive``: in its folders, too."""

    kind = "folder"

    def __init__(self, path: Path, recursive: bool = False) -> None:
        if not Path(path).is_dir():
            raise InputError(f"data folder {str(path)!r} does not exist; give a folder of pictures")
        self._folder = Path(path)
        self._files = [Path(name) for name in find_photos([str(path)], recursive=recursive).names]

    def __len__(self) -> int:
        return len(self._files)

    def name_of(self, index: int) -> str:
        return self._files[index].relative_to(self._folder).as_posix()

    def files_of(self, index: int) -> tuple[Path, ...]:
        return (self._files[index],)

    def identity_of(self, index: int) -> str:
        image = load_photo(self._files[index]).image
        return hashlib.sha256(str(tuple(image.shape)).encode() + image.numpy().tobytes()).hexdigest()

    def item(self, index: int, size: int) -> Item:
        photo = load_photo(self._files[index], size)
        return Item(self.name_of(index), self.identity_of(index), photo.image[0], photo.frame)
