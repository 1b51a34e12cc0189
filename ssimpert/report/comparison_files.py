"""The files of a comparison: its table, its record and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.statistics.table_file import write_table
from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError
from ssimpert.perturbation.results import PerturbResult
from ssimpert.records import json_text
from ssimpert.report.conditions import conditions
from ssimpert.report.figure import comparison_figure, save_figure
from ssimpert.report.insertion_deletion_figure import comparison_curves, insertion_deletion_figure
from ssimpert.report.map_grid import map_grid
from ssimpert.report.names import method_and_map
from ssimpert.validation import Names, check_names


def save_comparison(
    folder: str | Path,
    image: Tensor,
    result: PerturbResult,
    comparison: Comparison,
    *,
    names: Names | None = None,
    labels: Sequence[str] | None = None,
    csv: bool = False,
) -> None:
    """Write a comparison into a folder.

    The files are ``result.json``, which holds the perturbation's numbers and settings and :meth:`Comparison.to_json`,
    and the files of :func:`save_table_and_figures`. The figures of several images go to ``folder/NAME``.

    Args:
        folder: where to write; the folder is made if it is missing.
        image: the clean images (B, C, H, W) in [0, 1], C = 1 or 3.
        result: the perturbation of ``image``.
        comparison: what :func:`ssimpert.analysis.comparison.compare.compare` found for them.
        names: a name for each image, all different, each usable as the name of a folder; default: the images' numbers.
        labels: class names for the figures; ``None`` shows class numbers.
        csv: also write ``agreement.csv``, the table as comma-separated values.

    Raises:
        InputError: names can't be used, or the folder can't be written to.
    """
    chosen = [str(index) for index in range(len(image))] if names is None else list(check_names("names", names))
    for name in chosen:
        if not name or name == ".." or Path(name).name != name or chosen.count(name) > 1:
            raise InputError(f"names must be all different and each fit to name a folder, got {name!r}")
    target = Path(folder)
    folders = [target] if len(chosen) == 1 else [target / name for name in chosen]
    record = {
        "images": chosen,
        "settings": result.settings,
        "results": result.rows(),
        "comparison": comparison.to_json(),
    }
    try:
        for needed_folder in (target, *folders):
            needed_folder.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "result.json", f"{json_text(record)}\n".encode())
    except OSError as error:
        raise InputError(f"can't write to folder {str(folder)!r}: {error.strerror or error}") from error
    save_table_and_figures(target, folders, image, result, comparison, names=chosen, labels=labels, csv=csv)


def save_table_and_figures(
    folder: Path,
    folders: Sequence[Path],
    image: Tensor,
    result: PerturbResult,
    comparison: Comparison,
    *,
    names: Sequence[str],
    labels: Sequence[str] | None = None,
    csv: bool = False,
) -> None:
    """Write ``agreement.parquet`` and the figures, each as .png and .svg, into folders that exist.

    ``folder`` gets ``agreement.parquet`` (:func:`ssimpert.analysis.read_table` reads this file), ``maps`` with every
    map of every image, and ``insertion_deletion``, without bands, where the comparison has curves. Each image's own
    folder gets ``figure`` (:func:`ssimpert.report.comparison_figure`).

    Args:
        folder: for the files that concern all images.
        folders: a folder for each image.
        image: the clean images (B, C, H, W) in [0, 1], C = 1 or 3.
        result: the perturbation of ``image``.
        comparison: what :func:`ssimpert.analysis.comparison.compare.compare` found for them.
        names: a name for each image, all different.
        labels: class names for the figures; ``None`` shows class numbers.
        csv: also write ``agreement.csv``, the table as comma-separated values.

    Raises:
        InputError: a file can't be written.
    """
    for index, image_folder in enumerate(folders):
        save_comparison_figure(image_folder, image, result, comparison, index, labels)
    table = comparison.table(names)
    write_table(table, folder / "agreement.parquet")
    if csv:
        write_table(table, folder / "agreement.csv")
    note = f"{result.name}: {conditions(result)}."
    save_map_grid(folder, image, comparison, names=names, note=note)
    save_curves(folder, comparison, note=note)


def save_comparison_figure(
    folder: Path,
    image: Tensor,
    result: PerturbResult,
    comparison: Comparison,
    index: int = 0,
    labels: Sequence[str] | None = None,
) -> None:
    """Write ``figure.png`` and ``figure.svg`` of one image (:func:`ssimpert.report.comparison_figure`).

    Args:
        folder: where to write; it exists.
        image, result, comparison, index, labels: as for :func:`ssimpert.report.comparison_figure`.

    Raises:
        InputError: a file can't be written.
    """
    _save(comparison_figure(image, result, comparison, index, labels), folder / "figure")


def save_map_grid(
    folder: Path, image: Tensor, comparison: Comparison, *, names: Sequence[str], note: str | None = None
) -> None:
    """Write ``maps.png`` and ``maps.svg``, every map of every image (:func:`ssimpert.report.map_grid`).

    Args:
        folder: where to write; it exists.
        image: the clean images (B, C, H, W) in [0, 1].
        comparison: what was found for them.
        names: a name for each image.
        note: a text below the maps; None for none.

    Raises:
        InputError: a file can't be written.
    """
    _save(map_grid(image, comparison, names=names, note=note), folder / "maps")


def save_curves(folder: Path, comparison: Comparison, *, note: str | None = None) -> None:
    """Write ``insertion_deletion.png`` and ``.svg``, with ``note`` and without bands, where there are curves.

    Raises:
        InputError: a file can't be written.
    """
    curves = comparison_curves(comparison)
    if curves:
        no_controls = {comparison.perturbation, *comparison.settings["attributions"]}
        controls = [
            method_and_map(name, kind)
            for name, kinds in comparison.maps.items()
            if name not in no_controls
            for kind in kinds
        ]
        _save(
            insertion_deletion_figure(curves, controls=controls, bands=False, note=note), folder / "insertion_deletion"
        )


def _save(figure: Figure, path: Path) -> None:
    for ending in (".png", ".svg"):
        save_figure(figure, path.with_suffix(ending))
