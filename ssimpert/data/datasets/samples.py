"""The sample photos as a data set."""

from __future__ import annotations

from pathlib import Path

from ssimpert.data.datasets.photo_dataset import PhotoDataset
from ssimpert.data.samples import samples
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import Names, check_names


class SamplesDataset(PhotoDataset):
    """The photos that are installed with scikit-image.

    Args:
        names: some of the samples, as a list; default all photos
    """

    kind = "samples"
    has_objects = False

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

    def photo_of(self, index: int) -> str:
        return self._names[index]

    def files_of(self, index: int) -> tuple[Path, ...]:
        return ()
