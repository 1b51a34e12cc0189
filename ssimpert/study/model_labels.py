"""The names of a model's classes, where a study gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssimpert.errors import InputError
from ssimpert.study.sections.section import read_names

DATA_SET_CLASSES: Mapping[str, tuple[str, ...]] = {}
"""The classes of data sets in the order in which models number them."""


def is_label_file(labels: Any) -> bool:
    """Whether ``labels`` of a model is the path of a file with a name in each line."""
    return isinstance(labels, str) and labels not in DATA_SET_CLASSES


def class_names(labels: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names that ``labels`` stands for: names, the name of a data set, or a file with a name in each line.

    Raises:
        InputError: the file can't be read, or names a class twice.
    """
    if not isinstance(labels, str):
        return labels
    if labels in DATA_SET_CLASSES:
        return DATA_SET_CLASSES[labels]
    try:
        lines = Path(labels).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(DATA_SET_CLASSES)
        raise InputError(
            f"labels {labels!r} is neither a text file with a name in each line nor one of {known} ({error})"
        ) from error
    return read_names("labels", [line.strip() for line in lines if line.strip()])
