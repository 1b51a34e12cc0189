"""The report of a folder of results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssimpert.errors import InputError
from ssimpert.report.html.numbers_in_words import counted
from ssimpert.report.html.photo_view import FindPhoto, photo_view
from ssimpert.report.html.photo_words import conditions_of
from ssimpert.report.html.pictures import COMPRESSIONS, bytes_of_a_photo
from ssimpert.report.html.result_folder import ResultFolder, StoredPhoto, read_result_folder
from ssimpert.report.html.run_tables import agreement_tables, photo_table
from ssimpert.report.html.view import Fact, PhotoView, ReportView

TITLES = {
    "perturb": "Perturbed photos",
    "compare": "Perturbations against class activation maps",
    "minimal": "Least levels that change the label",
}
# How many photos a warning names.
MOST_NAMED = 5


def run_report(folder: Path, find_photo: FindPhoto, observer: Callable[[], None] | None = None) -> ReportView:
    """What a folder of ``perturb``, ``compare`` or ``minimal`` shows.

    Args:
        folder: the folder that the command wrote.
        find_photo: finds the clean photo of a record; see :data:`ssimpert.report.html.photo_view.FindPhoto`.
        observer: called after each photo; default None.

    Raises:
        InputError: the folder has no complete result.
    """
    results = read_result_folder(folder)
    most_bytes = bytes_of_a_photo(len(results.photos))
    coarsest = COMPRESSIONS[0]
    shown: list[StoredPhoto] = []
    views: list[PhotoView] = []
    incomplete = list(results.incomplete)
    for number, stored in enumerate(results.photos, start=1):
        try:
            view, compression = photo_view(stored, f"photo-{number}", find_photo, most_bytes)
            coarsest = max(coarsest, compression, key=COMPRESSIONS.index)
            views.append(view)
            shown.append(stored)
        except InputError as error:
            incomplete.append(f"{stored.name}: {error}")
        if observer is not None:
            observer()
    if not views:
        raise InputError(f"no photo in {str(folder)!r} can be shown: {incomplete[0]}")
    anchors = [view.anchor for view in views]
    conditions = _shared_conditions(shown)
    return ReportView(
        title=TITLES.get(str(results.run.get("command")), "Results"),
        summary=_summary(shown),
        conditions=conditions,
        warnings=_warnings(views, incomplete),
        tables=(photo_table(shown, anchors, conditions), *agreement_tables(shown, anchors, conditions)),
        photos=tuple(views),
        origin=_origin(results, shown),
        notes=(coarsest.words(),),
    )


def _shared_conditions(photos: list[StoredPhoto]) -> str:
    words = {conditions_of(photo.record): None for photo in photos}
    return next(iter(words)) if len(words) == 1 else f"{next(iter(words))}; other photos have other sets, named there"


def _summary(photos: list[StoredPhoto]) -> tuple[str, ...]:
    reached = sum(bool(photo.result["success"]) for photo in photos)
    model = photos[0].record.get("model", "unknown")
    return (f"{counted(len(photos), 'photo')}, model {model}. The goal was reached for {reached} of {len(photos)}.",)


def _warnings(views: list[PhotoView], incomplete: list[str]) -> tuple[str, ...]:
    warnings = []
    if incomplete:
        total = len(views) + len(incomplete)
        more = f"; and {len(incomplete) - MOST_NAMED} more" if len(incomplete) > MOST_NAMED else ""
        warnings.append(
            f"This report is partial: {len(views)} of {counted(total, 'photo')} are complete. Missing: "
            f"{'; '.join(incomplete[:MOST_NAMED])}{more}."
        )
    without = sum(view.photo is None for view in views)
    if without:
        warnings.append(
            f"The clean photo of {without} of {counted(len(views), 'photo')} was not found as it was. Each photo says "
            "why."
        )
    return tuple(warnings)


def _origin(results: ResultFolder, photos: list[StoredPhoto]) -> tuple[Fact, ...]:
    run = results.run
    versions: dict[str, Any] = run.get("versions") or {}
    options: dict[str, Any] = run.get("options") or {}
    given = [f"{name.replace('_', ' ')}: {value}" for name, value in options.items() if value not in (None, False, [])]
    facts = [
        ("command", f"ssimpert {run['command']}" if "command" in run else ""),
        ("options", "; ".join(given)),
        ("model", str(photos[0].record.get("model", ""))),
        ("weights, SHA-256", str(run.get("weights_sha256") or "")),
        ("device", str(run.get("device") or "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("margin", "In logits. The goal is reached where the margin is above 0."),
    ]
    return tuple(Fact(name, text) for name, text in facts if text)
