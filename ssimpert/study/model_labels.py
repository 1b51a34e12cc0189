"""The names of a model's classes, where a study gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssimpert.errors import InputError
from ssimpert.study.sections.section import read_names


def is_label_file(labels: Any) -> bool:
    """Whether ``labels`` of a model is the path of a file with a name in each line."""
    return isinstance(labels, str)


def class_names(labels: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names that ``labels`` stands for: the names themselves, or a file with a name in each line.

    Raises:
        InputError: the file can't be read, or names a class twice.
    """
    if not isinstance(labels, str):
        return labels
    try:
        lines = Path(labels).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"labels {labels!r} can't be read as a text file with a name in each line ({error})"
        ) from error
    return read_names("labels", [line.strip() for line in lines if line.strip()])
