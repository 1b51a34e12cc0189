"""Composites as a data set."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from ssimpert.data.composites import CompositeSet, composite_at
from ssimpert.data.cut_outs import named_objects
from ssimpert.data.datasets.item import Dataset, Item, ObjectAnnotation
from ssimpert.data.frame import Frame
from ssimpert.validation import Names, check_count, check_names

IDENTITY_SIZE = 224


class CompositesDataset(Dataset):
    """Objects of sample photos pasted on textures, with exact boxes and masks.

    Args:
        n: how many
        seed: of the choice of objects, textures, sizes and places
        objects: the names of the objects to paste, as a list; default all
    """

    kind = "composites"

    def __init__(self, n: int, seed: int = 0, objects: Names | None = None) -> None:
        self._n, self._seed = check_count("n", n), check_count("seed", seed, 0)
        self._objects = None if objects is None else check_names("objects", objects)
        named_objects(self._objects)  # names are checked before any composite is made

    def __len__(self) -> int:
        return self._n

    def name_of(self, index: int) -> str:
        return f"composite-{index:06d}"

    def files_of(self, index: int) -> tuple[Path, ...]:
        return ()

    def identity_of(self, index: int) -> str:
        made = self._composite(index, IDENTITY_SIZE)
        content = made.images[0].numpy().tobytes() + made.masks[0].numpy().tobytes()
        return hashlib.sha256(content).hexdigest()

    def item(self, index: int, size: int) -> Item:
        made = self._composite(index, size)
        name = made.objects[0]
        x0, y0, x1, y1 = (float(value) for value in made.boxes[0].tolist())
        return Item(
            self.name_of(index),
            self.identity_of(index),
            made.images[0],
            Frame(size, size, size),
            (name,),
            (ObjectAnnotation(name, (x0, y0, x1, y1), made.masks[0]),),
            {"object": name, "scene": made.textures[0]},
        )

    def _composite(self, index: int, size: int) -> CompositeSet:
        return _made(index, self._seed, size, self._objects)


@lru_cache(maxsize=16)
def _made(index: int, seed: int, size: int, objects: tuple[str, ...] | None) -> CompositeSet:
    return composite_at(index, seed, size=size, objects=objects)
