"""The sample photos as a data set."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ssimpert.data.datasets.item import Dataset, Item
from ssimpert.data.photos import load_photo
from ssimpert.data.samples import sample_array, samples
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import Names, check_names


class SamplesDataset(Dataset):
    """The photos that are installed with scikit-image; ``names``: some of them, default all photos."""

    kind = "samples"

    def __init__(self, names: Names | None = None) -> None:
        known = [sample.name for sample in samples()]
        photos = [sample.name for sample in samples() if sample.kind == "photo"]
        chosen = tuple(photos) if names is None else check_names("names", names)
        for name in chosen:
            if name not in known:
                raise unknown_name("sample", name, known)
        if len(set(chosen)) < len(chosen) or not chosen:
            raise InputError(f"names must be different samples, at least one, got {chosen!r}")
        self._names = chosen

    def __len__(self) -> int:
        return len(self._names)

    def name_of(self, index: int) -> str:
        return self._names[index]

    def files_of(self, index: int) -> tuple[Path, ...]:
        return ()

    def identity_of(self, index: int) -> str:
        pixels = sample_array(self._names[index])
        return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()

    def item(self, index: int, size: int) -> Item:
        photo = load_photo(self._names[index], size)
        return Item(photo.name, self.identity_of(index), photo.image[0], photo.frame)
