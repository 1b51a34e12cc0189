"""One photo after the other: each photo's files are on the disk before the next photo is begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.interruption import Stopped, finishing_photos
from ssimpert.cli.output_folder import RESULT_FILE, OutputFolder, Photo
from ssimpert.cli.progress import Stage, photos_progress
from ssimpert.cli.terminal import say
from ssimpert.errors import InputError
from ssimpert.record_files import read_record

if TYPE_CHECKING:
    from torch import Tensor

WriteFiles = Callable[[Path], dict[str, Any]]
"""Writes a photo's files into its folder, all but the record, and returns the record. Its entry ``files`` names the
files."""

ProcessPhoto = Callable[[int, "Tensor", Stage], WriteFiles]
"""Computes everything of the photo at an index, (1, 3, S, S), and returns what writes the files. Told of the photo's
stages by the third argument."""


Outcome = Callable[[dict[str, Any]], str]
"""What became of a photo, in a few words, from its record."""


def process_photos(
    description: str,
    output: OutputFolder,
    photos: list[Photo],
    load: Callable[[int], Tensor],
    process_photo: ProcessPhoto,
    outcome: Outcome,
) -> list[dict[str, Any]]:
    """Process the photos that have no complete record, and return the records of all photos, in order.

    A photo's record is written last, once its other files are on the disk. Where a photo is done again, its old record
    is removed before a new file is written. So a record always speaks of the files beside it.

    Args:
        description: what is done, for the progress bar.
        output: the folders of the photos, claimed.
        photos: the photos.
        load: gives the photo at an index, (1, 3, S, S) in [0, 1].
        process_photo: see :data:`ProcessPhoto`.
        outcome: see :data:`Outcome`.

    Raises:
        Stopped: a signal came. The photo in hand is complete.
        InputError: a file can't be written.
    """
    to_do = [index for index, photo in enumerate(photos) if output.complete_record(index, photo) is None]
    complete = len(photos) - len(to_do)
    if complete:
        say(f"{complete} of {len(photos)} photos are complete in {str(output.path)!r} and are skipped")
    try:
        with finishing_photos() as signal_received, photos_progress(description, len(to_do)) as progress:
            for index in to_do:
                name = photos[index].name
                write_files = process_photo(index, load(index), progress.begin(name))
                record = _write(output, index, photos[index], write_files)
                complete += 1
                progress.end(name, outcome(record))
                if (number := signal_received()) is not None:
                    raise Stopped(number, _what_is_there(output, complete, len(photos)))
    except Stopped:
        raise
    except Exception:
        if complete:
            say(_what_is_there(output, complete, len(photos)))
        raise
    # Read back, so that a table is the same whether a photo was done now or before.
    return [read_record(folder / RESULT_FILE) or {} for folder in output.folders]


def _write(output: OutputFolder, index: int, photo: Photo, write_files: WriteFiles) -> dict[str, Any]:
    from ssimpert.cli.outputs import write_json

    folder = output.folders[index]
    try:
        folder.mkdir(exist_ok=True)
        (folder / RESULT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"can't write to folder {str(folder)!r}: {error.strerror or error}") from error
    record = write_files(folder)
    record |= {"photo": record.get("photo", {}) | photo.record(), "run": output.run}
    write_json(record, folder / RESULT_FILE)
    return record


def _what_is_there(output: OutputFolder, complete: int, count: int) -> str:
    there = f"{complete} of {count} photos are complete in {str(output.path)!r}"
    return f"{there}; the same command goes on from there"


def change_of_label(record: dict[str, Any]) -> str:
    """The :data:`Outcome` of a perturbation."""
    result = record["result"]
    before, after = result["label_before_name"], result["label_after_name"]
    return f"{before} -> {after}" if result["success"] else f"{after}, goal not reached"
