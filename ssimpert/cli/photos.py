"""The photos that a command's arguments mean. A photo that can't be used is reported in one line, and skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import typer

from ssimpert.cli.terminal import say
from ssimpert.errors import InputError

if TYPE_CHECKING:
    from ssimpert.data import Frame, Photo

PHOTO_PANEL = "Photos"
Seen = TypeVar("Seen")


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
        is_single: whether a single photo was asked for. A photo whose companions were skipped is not single.
    """

    names: list[str]
    strict: bool = False
    faults: list[str] = field(default_factory=list)
    is_single: bool = False

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
    faults, is_single = list(found.faults), len(found.names) + len(found.faults) == 1
    selection = PhotoSelection(list(found.names), options.strict, faults, is_single)
    _report(selection.faults, is_any_left=bool(found.names), count=len(found.faults))
    return selection


@dataclass(frozen=True)
class TriedPhoto(Generic[Seen]):
    """A photo that can be used.

    Attributes:
        position: which photo of the selection.
        name: what the user called the photo.
        frame: the part that the model sees.
        notes: what was done to the photo.
        seen: what the command needs to know of the photo.
    """

    position: int
    name: str
    frame: Frame
    notes: tuple[str, ...]
    seen: Seen

    def record(self) -> dict[str, Any]:
        """The photo's size in pixels, the part of the photo that the model sees, and what was done to the photo."""
        return {
            "width": self.frame.width,
            "height": self.frame.height,
            "seen_box": list(self.frame.seen_box),
            "notes": list(self.notes),
        }


def try_photos(selection: PhotoSelection, size: int, look_at: Callable[[Photo], Seen]) -> list[TriedPhoto[Seen]]:
    """Load each photo of ``selection`` once, without keeping its pixels; print on stderr what is done to it.

    Args:
        selection: the photos. Those that can't be used are added to its faults.
        size: the side of the model's images in pixels.
        look_at: gets each photo. An InputError of this function skips the photo, too.

    Returns:
        The photos that can be used, in order.

    Raises:
        InputError: no photo is left; with ``--strict``, the first photo that can't be used.
    """
    from ssimpert.data import load_photo

    tried: list[TriedPhoto[Seen]] = []
    faults: list[str] = []
    for position, name in enumerate(selection.names):
        try:
            photo = load_photo(name, size=size)
            tried.append(TriedPhoto(position, photo.name, photo.frame, tuple(photo.notes), look_at(photo)))
        except InputError as error:
            if selection.strict:
                raise
            faults.append(str(error))
    selection.faults.extend(faults)
    _report(faults, is_any_left=bool(tried), count=len(selection.faults))
    for entry in tried:
        if entry.notes:
            say(f"{entry.name!r}: {'; '.join(entry.notes)}")
    return tried


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
