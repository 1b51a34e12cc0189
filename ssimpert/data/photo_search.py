"""Photos in bulk: which photos a list of names, files, folders and patterns means."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ssimpert.data.file_kinds import path_exists, path_fault
from ssimpert.data.samples import is_sample, samples
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_flag, check_names

_LISTED = 3
"""How many names a remark lists before it says "..."."""


@dataclass(frozen=True)
class PhotoSearch:
    """What :func:`find_photos` found.

    Attributes:
        names: the photos, as :func:`ssimpert.load_image` takes them: samples and files, each once.
        faults: what can't be used: one line each, which names it and says why.
        remarks: what was left out on purpose: duplicates, and the files of a folder that are no pictures by their
            names.
    """

    names: tuple[str, ...]
    faults: tuple[str, ...]
    remarks: tuple[str, ...]


def find_photos(arguments: Sequence[str], *, recursive: bool = False, strict: bool = False) -> PhotoSearch:
    """The photos that ``arguments`` mean, in the order of the arguments.

    The photos of a folder or of a pattern are in natural order: ``img2.png`` comes before ``img10.png``.

    An argument is a sample's name, a file, a folder, or a pattern such as ``photos/*.jpg``. A file goes before a sample
    of its name, and a file or a folder before a pattern of its name. A folder means the files in it whose names end
    like a picture's or in ``.npy``. Names that begin with a dot are left out of folders and patterns. Links to folders
    are not followed within a folder. A file is found here by its name, and not opened: a damaged file is refused by
    :func:`ssimpert.load_image`.

    Args:
        arguments: strings; at least one.
        recursive: whether the folders within a folder are searched, too. Default False. In a pattern, ``**`` stands for
            any number of folders.
        strict: whether the first argument or file that can't be used is an error. Default False: it becomes one of
            the ``faults``.

    Raises:
        InputError: no argument; with ``strict``, the first fault.
    """
    recursive, strict = check_flag("recursive", recursive), check_flag("strict", strict)
    chosen: dict[str, str] = {}
    faults: list[str] = []
    remarks: list[str] = []
    arguments = check_names("arguments", arguments)
    if not arguments:
        raise InputError("no photo is given; name a sample, a file, a folder or a pattern")
    for argument in arguments:
        for name, fault in _candidates(argument, recursive=recursive, remarks=remarks):
            if fault is not None:
                if strict:
                    raise InputError(fault)
                faults.append(fault)
            elif (identity := _identity(name)) in chosen:
                remarks.append(f"{name!r} is the same photo as {chosen[identity]!r}, and is taken once")
            else:
                chosen[identity] = name
    return PhotoSearch(tuple(chosen.values()), tuple(faults), tuple(remarks))


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key to sort names by: numbers within a name count by their value, so that "img2" comes before "img10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part], name


def _candidates(argument: str, *, recursive: bool, remarks: list[str]) -> Iterator[tuple[str, str | None]]:
    """The photos that one argument means, each with why it can't be used, or None."""
    fault = path_fault(argument) if argument else "is no name"
    if fault is None or (is_sample(argument) and not os.path.isfile(argument)):
        yield argument, None
    elif fault == "is a folder":
        yield from _in_folder(argument, recursive=recursive, remarks=remarks)
    elif path_exists(argument) or not glob.has_magic(argument):
        yield argument, _missing(argument, fault)
    else:
        matches = sorted(glob.iglob(argument, recursive=True), key=natural_order)
        if not matches:
            yield argument, f"{argument!r} matches no file"
        for match in matches:
            if path_fault(match) == "is a folder":
                yield from _in_folder(match, recursive=recursive, remarks=remarks)
            else:
                yield match, _fault_line(match)


def _in_folder(folder: str, *, recursive: bool, remarks: list[str]) -> Iterator[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    left_out: list[str] = []
    for path in _files(folder, recursive, found):
        if os.path.basename(path).startswith(".") or Path(path).suffix.lower() not in _picture_suffixes():
            left_out.append(path)
        else:
            found.append((path, _fault_line(path)))
    if left_out:
        remarks.append(f"{folder!r}: left out {_listed(left_out)}: hidden, or no picture by the name")
    if not found:
        hint = "" if recursive else "; with --recursive (recursive=True) the folders within are searched, too"
        found = [(folder, f"{folder!r} is a folder without pictures{hint}")]
    yield from sorted(found, key=lambda entry: natural_order(entry[0]))


def _files(folder: str, recursive: bool, found: list[tuple[str, str | None]]) -> Iterator[str]:
    """Everything in ``folder`` but its folders; a folder that can't be listed is added to ``found``."""

    def report(error: OSError) -> None:
        name = os.fspath(error.filename or folder)
        found.append((name, f"{name!r} is a folder that can't be listed ({error.strerror})"))

    for parent, folders, files in os.walk(folder, onerror=report):
        # os.walk counts links to folders among the folders, and does not follow them.
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (os.path.join(parent, name) for name in sorted([*files, *links]))
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []


def _picture_suffixes() -> set[str]:
    Image.init()
    return {*Image.registered_extensions(), ".npy"}


def _fault_line(path: str) -> str | None:
    fault = path_fault(path)
    return None if fault is None else f"{path!r} {fault}"


def _missing(argument: str, fault: str) -> str:
    is_word = not os.path.dirname(argument) and not Path(argument).suffix
    if fault == "does not exist" and is_word and not path_exists(argument):
        return str(unknown_name("sample or file", argument, [sample.name for sample in samples()]))
    return f"{argument!r} {fault}"


def _identity(name: str) -> str:
    """The same for two names of one photo."""
    return os.path.realpath(name) if os.path.isfile(name) else name


def _listed(paths: Iterable[str]) -> str:
    names = [repr(os.path.basename(path)) for path in paths]
    shown = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return f"{len(names)} {'file' if len(names) == 1 else 'files'} ({shown})"
