"""What ``compare`` does with each photo, and with the records of all photos: it measures, writes and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.errors import UsageError
from ssimpert.cli.exit_codes import options_are_at_fault
from ssimpert.cli.folder_names import folder_name
from ssimpert.cli.interruption import stopping_at_once
from ssimpert.cli.options import ForwardName
from ssimpert.cli.perturb_photo import perturbed
from ssimpert.cli.photo_loop import ProcessPhoto, WriteFiles
from ssimpert.cli.progress import Stage, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from ssimpert.analysis import Comparison
    from ssimpert.cli.perturb_run import PerturbRun
    from ssimpert.cli.workspace import Workspace
    from ssimpert.models import OnnxClassifier
    from ssimpert.perturbation import PerturbResult

# maps.png has a row or more for each photo. matplotlib can't draw pictures of more than 65535 pixels a side.
MAX_PHOTOS_OF_MAPS = 48


def check_comparison_options(workspace: Workspace, options: dict[str, Any]) -> None:
    """Refuse what :func:`ssimpert.compare` would refuse, before any image is perturbed.

    Raises:
        UsageError: an option that :func:`ssimpert.compare` does not take.
    """
    from ssimpert.analysis.comparison.checks import check_options
    from ssimpert.analysis.comparison.options import ComparisonOptions

    with options_are_at_fault():
        check_options(workspace.classifier, workspace.load(0), ComparisonOptions(**workspace.objects(0), **options))


def forward_from_option(workspace: Workspace, options: dict[str, Any], name: ForwardName) -> OnnxClassifier | None:
    """What :func:`ssimpert.compare` takes as ``forward``: the ONNX copy that ``--forward`` asks for, or ``None``.

    Raises:
        UsageError: ``options`` ask for nothing that would use a copy.
        InputError: the copy can't be made.
    """
    if name is ForwardName.TORCH:
        return None
    from ssimpert.analysis.comparison.options import FORWARD_ONLY, ComparisonOptions
    from ssimpert.models import onnx_classifier

    if not ComparisonOptions(**options).uses_forward:
        uses = " or ".join(f"--attribution {attribution}" for attribution in FORWARD_ONLY)
        raise UsageError(f"--forward onnx is for --insertion-deletion, {uses}; none of them is asked for")
    with progress_bar("exporting to ONNX", None):
        return onnx_classifier(workspace.classifier, workspace.load(0))


def compare_photo(workspace: Workspace, perturb_run: PerturbRun, options: dict[str, Any]) -> ProcessPhoto:
    """What perturbs one photo and compares it with its class activation map.

    ``options`` are keywords of :func:`ssimpert.compare`. The photo's folder gets the figure and all maps as arrays.
    """

    def process_photo(index: int, image: Tensor, stage: Stage) -> WriteFiles:
        from ssimpert.analysis import compare

        result = perturbed(workspace, perturb_run, index, image, stage)
        support = workspace.support(index)
        given = {"support": support, **workspace.objects(index), **options}
        comparison = compare(workspace.classifier, image, result, progress=stage, **given)

        def write_files(folder: Path) -> dict[str, Any]:
            from ssimpert.analysis.comparison.stored import save_maps
            from ssimpert.report.comparison_files import save_comparison_figure

            stage("drawing", 0, None)
            keeps_goal = perturb_run.png_keeps_goal
            record = workspace.write_perturbation(index, image, result, folder, png_keeps_goal=keeps_goal)
            save_comparison_figure(folder, image, result, comparison, labels=workspace.classifier.labels)
            save_maps(comparison, folder / "maps.npz")
            record["files"] += ["figure.png", "figure.svg", "maps.npz"]
            return record | comparison_record(comparison)

        return write_files

    return process_photo


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """What the record of one photo says of its comparison."""
    document = comparison.to_json()
    return {
        **_control_record(comparison.control),
        "cam": document["cam"],
        "cam_layer": document["cam_layer"],
        "cam_target": document["cam_target"],
        "comparison_settings": document["settings"],
        "run_columns": document["run"],
        "agreement": document["records"],
        "curves": document["curves"],
    }


def _control_record(control: PerturbResult | None) -> dict[str, Any]:
    from ssimpert.report.conditions import conditions

    if control is None:
        return {"l2_control": None}
    return {
        "l2_control": control.rows()[0],
        "l2_control_settings": control.settings,
        "l2_control_conditions": conditions(control),
    }


def recorded_comparison(records: list[dict[str, Any]], maps: list[Path] | None = None) -> Comparison:
    """The comparison of all photos, put together from their records, and from files of maps if maps are needed."""
    from ssimpert.analysis.comparison.stored import comparison_from_json

    documents = [
        {
            "perturbation": record["result"]["perturbation"],
            "cam": record["cam"],
            "cam_layer": record["cam_layer"],
            "cam_target": record["cam_target"],
            "settings": record["comparison_settings"],
            "run": record["run_columns"],
            "records": record["agreement"],
            "curves": record["curves"],
        }
        for record in records
    ]
    return comparison_from_json(documents, maps)


def write_tables_and_figures(workspace: Workspace, records: list[dict[str, Any]], *, csv: bool = False) -> Comparison:
    """Write agreement.parquet and the figures of all photos, from the photos' records; return their comparison.

    The figure of maps shows the first :data:`MAX_PHOTOS_OF_MAPS` photos. With ``csv`` the table is also written as
    comma-separated values.

    Raises:
        Stopped: a signal came.
        InputError: a file can't be written.
    """
    import torch

    from ssimpert.analysis.statistics.table_file import write_table
    from ssimpert.report.comparison_files import save_curves, save_map_grid

    names, folder = image_names(workspace.names, workspace.folders), workspace.output.path
    comparison = recorded_comparison(records)
    what_is_there = (
        f"all photos are complete in {str(folder)!r}, but not the table and the figures of all photos; the same "
        "command makes them"
    )
    with stopping_at_once(what_is_there), progress_bar("drawing", None):
        table = comparison.table(names)
        write_table(table, folder / "agreement.parquet")
        if csv:
            write_table(table, folder / "agreement.csv")
        note = f"{comparison.perturbation}: {records[0]['conditions']}."
        save_curves(folder, comparison, note=note)
        shown = range(len(names))[:MAX_PHOTOS_OF_MAPS]
        with_maps = recorded_comparison(
            [records[index] for index in shown], [workspace.folders[index] / "maps.npz" for index in shown]
        )
        images = torch.cat([workspace.load(index).cpu() for index in shown])
        save_map_grid(folder, images, with_maps, names=[names[index] for index in shown], note=note)
    return comparison


def image_names(names: list[str], folders: list[Path]) -> list[str]:
    """What the table calls each image, all different."""
    return [folder_name(names[0])] if len(names) == 1 else [folder.name for folder in folders]
