"""The data sets by name, and their options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from inspect import Parameter, cleandoc, signature
from pathlib import Path
from typing import Any

from ssimpert.data.datasets.coco import CocoDataset
from ssimpert.data.datasets.composites import CompositesDataset
from ssimpert.data.datasets.csv_list import CsvDataset
from ssimpert.data.datasets.cub import CubDataset
from ssimpert.data.datasets.folder import FolderDataset
from ssimpert.data.datasets.imagenet import ImageNetDataset
from ssimpert.data.datasets.imagenet_s import ImageNetSDataset
from ssimpert.data.datasets.item import Dataset
from ssimpert.data.datasets.photo_dataset import PhotoDataset
from ssimpert.data.datasets.samples import SamplesDataset
from ssimpert.data.datasets.voc import VocDataset
from ssimpert.errors import InputError, unknown_name

DATASETS: dict[str, type[Dataset]] = {
    entry.kind: entry
    for entry in (
        SamplesDataset,
        CompositesDataset,
        FolderDataset,
        ImageNetDataset,
        ImageNetSDataset,
        VocDataset,
        CocoDataset,
        CubDataset,
        CsvDataset,
    )
}
"""The data sets by the names of their kinds."""


@dataclass(frozen=True)
class OptionDescription:
    """An option of a kind of data set.

    Attributes:
        name: of the option.
        type: the type of its value, as annotated.
        default: its default; ``dataclasses.MISSING`` where the option must be given.
        doc: what the option means, in one line.
    """

    name: str
    type: str
    default: Any
    doc: str


def dataset_options(kind: str) -> Mapping[str, OptionDescription]:
    """The options of a kind of data set.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in DATASETS:
        raise unknown_name("kind of data", kind, DATASETS)
    described = {}
    lines = _documented(DATASETS[kind].__doc__)
    for name, parameter in signature(DATASETS[kind]).parameters.items():
        default = MISSING if parameter.default is Parameter.empty else parameter.default
        described[name] = OptionDescription(name, str(parameter.annotation), default, lines.get(name, ""))
    return described


def _documented(doc: str | None) -> dict[str, str]:
    """What the section ``Args:`` of a docstring says of each option; a line that goes on is joined."""
    _, _, section = cleandoc(doc or "").partition("Args:\n")
    lines: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        begun = re.fullmatch(r" {4}(\w+): (.*)", line)
        if begun:
            name, lines[begun[1]] = begun[1], begun[2]
        elif name and line.startswith(" " * 8):
            lines[name] += " " + line.strip()
        elif line.strip():
            break
    return lines


def open_dataset(kind: str, options: Mapping[str, Any]) -> Dataset:
    """The data set of a kind, with its options.

    Raises:
        InputError: no such kind, an option that the kind does not have, a value that can't be used, or two photos of
            one name.
    """
    known = dataset_options(kind)
    for name in options:
        if name not in known:
            raise unknown_name(f"option of data {kind!r}", name, known)
    for name, description in known.items():
        if description.default is MISSING and name not in options:
            raise InputError(f"data {kind!r} needs the option {name!r}")
    dataset = DATASETS[kind](**{name: _value(known[name], value) for name, value in options.items()})
    if isinstance(dataset, PhotoDataset):
        _check_names(kind, dataset)
    return dataset


def _check_names(kind: str, dataset: PhotoDataset) -> None:
    """Raise :class:`InputError` where two photos have one name: a table could not tell their rows apart."""
    first: dict[str, int] = {}
    for index in range(len(dataset)):
        name = dataset.name_of(index)
        if name in first:
            photos = " and ".join(repr(str(dataset.photo_of(number))) for number in (first[name], index))
            raise InputError(f"data {kind!r} has two photos that are called {name!r}: {photos}")
        first[name] = index


def _value(description: OptionDescription, value: Any) -> Any:
    """A value as the data set takes it: a text becomes a path where the option is one."""
    kinds = {part.strip() for part in description.type.split("|")}
    if "Path" not in kinds or isinstance(value, Path) or (value is None and "None" in kinds):
        return value
    if not isinstance(value, str) or not value:
        raise InputError(f"{description.name} must be a path, got {value!r}")
    return Path(value)
