"""Files and folders that a data set needs, checked when the data set is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssimpert.data.file_kinds import path_fault
from ssimpert.errors import InputError

_LISTED = 3


def need_folder(what: str, path: Path, wanted: str) -> Path:
    """``path``; :class:`InputError` unless it is a folder. ``wanted`` says what folder is valid."""
    fault = path_fault(path)
    if fault != "is a folder":
        raise InputError(f"{what} {str(path)!r} {fault or 'is a file'}; give {wanted}")
    return Path(path)


def need_file(what: str, path: Path, wanted: str) -> Path:
    """``path``; :class:`InputError` unless it is a file. ``wanted`` says what file is valid."""
    fault = path_fault(path)
    if fault is not None:
        raise InputError(f"{what} {str(path)!r} {fault}; give {wanted}")
    return Path(path)


def file_names(folder: Path) -> set[str]:
    """The names of what is in ``folder``. One listing is far faster than a question for each of 50,000 files."""
    return set(os.listdir(folder))


def need_names(what: str, folder: Path, names: Iterable[str]) -> None:
    """Raise :class:`InputError` unless ``folder`` holds every one of ``names``; the first missing ones are named."""
    there = file_names(folder)
    missing = [name for name in names if name not in there]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:_LISTED]) + (", ..." if len(missing) > _LISTED else "")
        raise InputError(f"{what} {str(folder)!r} lacks {len(missing)} of the files listed: {shown}")


def check_different(where: str, what: str, values: Iterable[Any]) -> None:
    """Raise :class:`InputError` where two of ``values`` are equal; the first such value is named."""
    seen = set()
    for value in values:
        if value in seen:
            raise InputError(f"{where}: {what} {value!r} is there twice")
        seen.add(value)


def text_lines(what: str, path: Path, wanted: str) -> list[str]:
    """The lines of a text file that are not empty, without spaces at their ends.

    Raises:
        InputError: there is no such file, or it is no text.
    """
    try:
        text = need_file(what, path, wanted).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {str(path)!r} is no readable text file ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_choice(what: str, value: str, valid: tuple[str, ...]) -> str:
    """``value``; :class:`InputError` unless it is one of ``valid``."""
    if not isinstance(value, str) or value not in valid:
        raise InputError(f"{what} must be one of {', '.join(valid)}, got {value!r}")
    return value
