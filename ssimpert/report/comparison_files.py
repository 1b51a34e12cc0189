"""The files of a comparison: its table, its record and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.statistics.table_file import write_table
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
        (target / "result.json").write_text(json_text(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't write to folder {str(folder)!r}: {error.strerror or error}") from error
    save_table_and_figures(target, folders, image, result, comparison, names=chosen, labels=labels)


def save_table_and_figures(
    folder: Path,
    folders: Sequence[Path],
    image: Tensor,
    result: PerturbResult,
    comparison: Comparison,
    *,
    names: Sequence[str],
    labels: Sequence[str] | None = None,
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

    Raises:
        InputError: a file can't be written.
    """
    write_table(comparison.table(names), folder / "agreement.parquet")
    for index, image_folder in enumerate(folders):
        _save(comparison_figure(image, result, comparison, index, labels), image_folder / "figure")
    note = f"{result.name}: {conditions(result)}."
    _save(map_grid(image, comparison, names=names, note=note), folder / "maps")
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
