"""An item of a data set, its objects, and what every data set can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ssimpert.data.frame import Frame


@dataclass(frozen=True, eq=False)
class ObjectAnnotation:
    """One object in an item's image.

    Attributes:
        class_name: as the data set calls the class.
        box: (x0, y0, x1, y1), ends exclusive, in pixels of the image; ``None`` where there is none.
        mask: (H, W) bool, in pixels of the image; ``None`` where there is none.
        difficult: whether the data set calls the object difficult.
        crowd: whether the annotation is of a crowd and not of one object.
    """

    class_name: str
    box: tuple[float, float, float, float] | None
    mask: Tensor | None = None
    difficult: bool = False
    crowd: bool = False


@dataclass(frozen=True, eq=False)
class Item:
    """A photo with what is known of it, resized and cut for a model.

    Attributes:
        name: unique in the data set.
        identity: the hexadecimal SHA-256 of the decoded pixels in their own size and of the annotation.
        image: (C, H, W) float32 in [0, 1].
        frame: which part of the photo the image shows.
        class_names: the classes that the photo shows, as the data set calls them.
        objects: the objects that the image shows.
        columns: what tables are clustered by, such as the object and the scene of a composite.
    """

    name: str
    identity: str
    image: Tensor
    frame: Frame
    class_names: tuple[str, ...] = ()
    objects: tuple[ObjectAnnotation, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)


class Dataset(ABC):
    """Items by their index. Nothing is decoded before an item is asked for.

    Attributes:
        kind: what study files call this kind of data set.
        has_objects: whether the annotation says where objects are.
        label_table: which of a model's labels belong to each class: a table that is shipped, by its name, or a CSV file
            (:func:`~ssimpert.data.datasets.label_map.label_map`). ``None`` where every image has one class, whatever a
            model calls it.
    """

    kind: ClassVar[str]
    has_objects: bool = True
    label_table: str | Path | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of items."""

    @abstractmethod
    def name_of(self, index: int) -> str:
        """The name of an item, unique in the data set; nothing is decoded."""

    @abstractmethod
    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files that an item is made of; empty for generated data."""

    @abstractmethod
    def identity_of(self, index: int) -> str:
        """The hexadecimal SHA-256 of an item's decoded pixels, in their own size, and of its annotation."""

    @abstractmethod
    def item(self, index: int, size: int) -> Item:
        """An item, resized and cut to ``size`` x ``size`` pixels, with its annotation in these pixels."""
