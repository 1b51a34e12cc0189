"""The photos that a command's arguments mean. A photo that can't be used is reported in one line, and skipped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ssimpert.errors import InputError

if TYPE_CHECKING:
    import torch

    from ssimpert.data import Photo

PHOTO_PANEL = "Photos"
Extra = TypeVar("Extra")


@dataclass(frozen=True)
class PhotoOptions:
    """Which photos a folder means, and what happens to a photo that can't be used."""

    recursive: Annotated[
        bool,
        typer.Option("--recursive", help="Search the folders within a folder, too.", rich_help_panel=PHOTO_PANEL),
    ] = False
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop at once at a photo that can't be used. Without this option the photo is reported and skipped, "
            "and the exit code at the end is 1.",
            rich_help_panel=PHOTO_PANEL,
        ),
    ] = False


@dataclass(frozen=True)
class PhotoSelection:
    """The photos of one command.

    Attributes:
        names: the photos that were found: samples and files.
        strict: whether a photo that can't be used ends the command.
        faults: why a photo can't be used: a line for each such photo. Loading adds to these lines.
    """

    names: list[str]
    strict: bool = False
    faults: list[str] = field(default_factory=list)

    def exit_if_skipped(self) -> None:
        """End the command with exit code 1 where a photo was skipped."""
        if self.faults:
            say(f"{_photos(len(self.faults))} skipped; the reasons are above")
            raise typer.Exit(1)


def select_photos(arguments: list[str], options: PhotoOptions) -> PhotoSelection:
    """The photos that ``arguments`` mean; what can't be used, or is left out, is printed on stderr.

    Raises:
        InputError: no photo is found; with ``--strict``, the first argument or file that can't be used.
    """
    from ssimpert.data import find_photos

    found = find_photos(arguments, recursive=options.recursive, strict=options.strict)
    for remark in found.remarks:
        say(remark)
    selection = PhotoSelection(list(found.names), options.strict, list(found.faults))
    _report(selection.faults, is_any_left=bool(found.names), count=len(found.faults))
    return selection


def load_selected(
    selection: PhotoSelection, size: int, device: torch.device, look_at: Callable[[Photo], Extra]
) -> list[tuple[int, Photo, Extra]]:
    """Load the photos of ``selection`` for a model, and print on stderr what was done to each.

    Args:
        selection: the photos. Those that can't be used are added to its faults.
        size: the side of the model's images in pixels.
        device: where the images are needed.
        look_at: gets each photo. An InputError of this function skips the photo, too.

    Returns:
        For each photo that can be used: its index in the selection, the photo, and what ``look_at`` returned.

    Raises:
        InputError: no photo is left; with ``--strict``, the first photo that can't be used.
    """
    from ssimpert.data import load_photo

    loaded: list[tuple[int, Photo, Extra]] = []
    faults: list[str] = []
    for index, name in enumerate(selection.names):
        try:
            photo = load_photo(name, size=size, device=device)
            loaded.append((index, photo, look_at(photo)))
        except InputError as error:
            if selection.strict:
                raise
            faults.append(str(error))
    selection.faults.extend(faults)
    _report(faults, is_any_left=bool(loaded), count=len(selection.faults))
    for _, photo, _ in loaded:
        if photo.notes:
            say(f"{photo.name!r}: {'; '.join(photo.notes)}")
    return loaded


def say(line: str) -> None:
    """Print one line on stderr. A control character in the line is printed as its code."""
    print("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line), file=sys.stderr)


def _report(faults: list[str], *, is_any_left: bool, count: int) -> None:
    """Print the faults. Where no photo is left, an error ends the command: the only fault, or their number."""
    if not is_any_left and count == 1 and faults:
        raise InputError(faults[0])
    for fault in faults:
        say(f"skipped: {fault}")
    if not is_any_left:
        raise InputError(f"no photo is left: {_photos(count)} skipped")


def _photos(count: int) -> str:
    return "1 photo was" if count == 1 else f"{count} photos were"
