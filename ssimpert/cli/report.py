"""``ssimpert report``: a folder of results as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.run_record import photo_hash
from ssimpert.cli.terminal import print_line, say
from ssimpert.errors import InputError
from ssimpert.escaping import printable

if TYPE_CHECKING:
    from torch import Tensor

REPORT_FILE = "report.html"
ENDINGS = (".html", ".htm")


def report(
    results: Annotated[
        Path, typer.Argument(help="The folder that perturb, compare, minimal or study run wrote.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"The file to write. Default: {REPORT_FILE} in the folder of the results."),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="A folder to look for photos that are not where they were, under their file names. A photo is taken "
            "only if its content is the same."
        ),
    ] = None,
    redo: Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")] = False,
) -> None:
    """Write results as one HTML file: pictures, maps, tables and plots.

    The file opens in a browser without a network.
    """
    target = results / REPORT_FILE if output is None else output
    _check_output(target, replace=redo, output_given=output is not None)
    if photos is not None and not photos.is_dir():
        raise InputError(f"--photos {str(photos)!r} is no folder")
    from ssimpert.report.html.page import write_report
    from ssimpert.report.html.report_of_run import run_report
    from ssimpert.report.html.study_folder import is_study_folder, study_folder_report

    with progress_bar("drawing", None) as advance:
        is_study = is_study_folder(results)
        view = study_folder_report(results) if is_study else run_report(results, photo_finder(photos), advance)
    for warning in view.warnings:
        say(warning)
    write_report(view, target)
    size = target.stat().st_size / 1e6
    print_line(f"Wrote {printable(str(target))} ({size:.1f} MB). Open this file in a browser; no network is needed.")


def _check_output(target: Path, *, replace: bool, output_given: bool) -> None:
    """Refuse a file that can't be written, before any work."""
    if target.is_dir():
        raise InputError(
            f"can't write {str(target)!r}: a folder has this name; give the name of a file, such as report.html"
        )
    if target.suffix.lower() not in ENDINGS:
        raise UsageError(f"-o {str(target)!r} must end in {' or '.join(ENDINGS)}, which browsers open as a page")
    if os.path.lexists(target) and not replace:
        raise InputError(f"{str(target)!r} exists; give another file by -o, or --force to replace it")
    if output_given and not target.parent.is_dir():
        raise InputError(f"can't write {str(target)!r}: there is no folder {str(target.parent)!r}")


def photo_finder(folder: Path | None = None) -> Callable[[dict[str, Any], int], Tensor]:
    """A function that finds the clean photo of a record, if its content is what it was.

    The photo is a sample, or the file that the record names, or a file of that name in ``folder``. A name without a
    folder is of the folder in which the command runs.
    """

    def find(record: dict[str, Any], size: int) -> Tensor:
        from ssimpert.data import load_image

        name, wanted = str(record["image"]), (record.get("photo") or {}).get("sha256")
        places = [name] if folder is None else [name, str(folder / Path(name).name)]
        reasons = []
        for place in places:
            try:
                if wanted is not None and photo_hash(place) != wanted:
                    raise InputError(f"{place!r} is another photo than the one that was perturbed")
                return load_image(place, size=size)
            except InputError as error:
                reasons.append(str(error))
        hint = "" if folder is not None else "; --photos FOLDER names a folder to look in"
        raise InputError(f"{reasons[-1]}{hint}")

    return find
