"""What ``compare`` does with perturbed images: it measures, writes and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.errors import UsageError
from ssimpert.cli.options import ForwardName
from ssimpert.cli.progress import progress_bar, stages_bar

if TYPE_CHECKING:
    from ssimpert.cli.workspace import Workspace
    from ssimpert.models import OnnxClassifier
    from ssimpert.perturbation import PerturbResult


def check_comparison_options(workspace: Workspace, options: dict[str, Any]) -> None:
    """Refuse what :func:`ssimpert.compare` would refuse, before any image is perturbed.

    Raises:
        InputError: an option that :func:`ssimpert.compare` does not take.
    """
    from ssimpert.analysis.comparison.checks import check_options
    from ssimpert.analysis.comparison.options import ComparisonOptions

    check_options(workspace.classifier, workspace.batch, ComparisonOptions(**options))


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
        return onnx_classifier(workspace.classifier, workspace.batch[:1])


def compare_and_write(workspace: Workspace, result: PerturbResult, options: dict[str, Any], *, as_json: bool) -> None:
    """Compare with the class activation map; write the table, the figures and the result.json of each image.

    ``options`` are keywords of :func:`ssimpert.compare`. With ``as_json`` the records are printed instead of tables.
    """
    from ssimpert.analysis import compare
    from ssimpert.report.comparison_files import save_table_and_figures

    with stages_bar("comparing") as advance:
        comparison = compare(workspace.classifier, workspace.batch, result, progress=advance, **options)
        advance("drawing", 0, None)
        names, folder = image_names(workspace.names, workspace.folders)
        save_table_and_figures(
            folder,
            workspace.folders,
            workspace.batch,
            result,
            comparison,
            names=names,
            labels=workspace.classifier.labels,
        )
    controls = [None] * len(names) if comparison.control is None else comparison.control.rows()
    document = comparison.to_json()
    records = [
        workspace.record(result, index)
        | {
            "l2_control": controls[index],
            "cam": comparison.cam_name,
            "cam_layer": comparison.cam_layer,
            "comparison_settings": comparison.settings,
            "agreement": [row for row in document["records"] if row["image"] == index],
        }
        for index in range(len(names))
    ]
    workspace.finish(records, as_json=as_json)
    if not as_json:
        from ssimpert.cli.localization_table import localization_table
        from ssimpert.cli.tables import agreement_table, perturbation_table

        results = [result] + ([comparison.control] if comparison.control is not None else [])
        workspace.show(perturbation_table(workspace.names, results, workspace.classifier.label_name))
        workspace.show(agreement_table(workspace.names, comparison))
        if comparison.settings["masks"]:
            workspace.show(localization_table(workspace.names, comparison))


def image_names(names: list[str], folders: list[Path]) -> tuple[list[str], Path]:
    """What the table calls each image, all different, and the folder for the files that concern all images."""
    if len(names) == 1:
        return [Path(names[0]).stem], folders[0]
    return [folder.name for folder in folders], folders[0].parent
