"""``[[data]]``: where items come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar

from ssimpert.data.datasets.catalog import DATASETS, dataset_options, open_dataset
from ssimpert.data.datasets.item import Dataset
from ssimpert.study.sections.section import OptionError, Section, read_choice, read_name, unknown_key

KINDS_WITHOUT_OBJECTS = ("samples", "folder")
"""The kinds of data in which nothing says where objects are."""


@dataclass(frozen=True, kw_only=True)
class DataSection(Section):
    """A data set by its kind, with the options of that kind.

    In a study file, and in a mapping, the options stand beside ``kind`` and ``name``.

    Attributes:
        kind: such as ``"composites"``, ``"folder"`` or ``"voc"``; :data:`ssimpert.data.datasets.catalog.DATASETS` has
            all.
        name: what tables call the data; default its kind. Two data sets of one kind need one.
        options: the options of that kind.
    """

    section: ClassVar[str] = "data"

    kind: str
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read_choice("kind", self.kind, tuple(DATASETS))
        if self.name is not None:
            read_name("name", self.name)
        known = dataset_options(self.kind)
        for key in self.options:
            if key not in known:
                raise unknown_key(key, f"data of kind {self.kind!r}", ("kind", "name", *known))
        for key, description in known.items():
            if description.default is MISSING and key not in self.options:
                raise OptionError(f"data of kind {self.kind!r} needs the key {key!r}", key="kind")

    @classmethod
    def arguments(cls, keys: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the section: what is neither ``kind`` nor ``name`` is an option."""
        if "kind" not in keys:
            raise OptionError(f"the key 'kind' is missing; kinds: {', '.join(DATASETS)}")
        options = {key: value for key, value in keys.items() if key not in ("kind", "name", "options")}
        return {
            "kind": keys["kind"],
            "name": keys.get("name"),
            "options": {**keys.get("options", {}), **options},
        }

    @property
    def label(self) -> str:
        """What tables call the data."""
        return self.name or self.kind

    def open(self) -> Dataset:
        """The data set. Nothing is decoded yet.

        Raises:
            InputError: a folder or a file is missing, or an option can't be used.
        """
        return open_dataset(self.kind, self.options)


def path_options(kind: Any) -> tuple[str, ...]:
    """The options of a kind of data set whose values are paths; none for a kind that does not exist."""
    if kind not in DATASETS:
        return ()
    return tuple(name for name, description in dataset_options(kind).items() if "Path" in str(description.type))
