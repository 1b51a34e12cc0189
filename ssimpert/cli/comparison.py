"""What `compare` does with perturbed images: measure, write, print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.cli.errors import UsageError
from ssimpert.cli.options import ForwardName

if TYPE_CHECKING:
    from ssimpert.cli.run import Run
    from ssimpert.models import OnnxClassifier
    from ssimpert.perturbation import PerturbResult


def check(run: Run, options: dict[str, Any]) -> None:
    """Refuse what :func:`ssimpert.compare` would refuse, before any image is perturbed."""
    from ssimpert.analysis.comparison.checks import check_options
    from ssimpert.analysis.comparison.options import ComparisonOptions

    check_options(run.classifier, run.batch, ComparisonOptions(**options))


def forward_of(run: Run, options: dict[str, Any], name: ForwardName) -> OnnxClassifier | None:
    """What :func:`ssimpert.compare` takes as ``forward``.

    Raises:
        UsageError: a copy of which ``options`` make no use.
        InputError: a copy that can't be made.
    """
    if name is ForwardName.TORCH:
        return None
    from ssimpert.analysis.comparison.options import FORWARD_ONLY
    from ssimpert.cli.run import progress_bar
    from ssimpert.models import onnx_classifier

    if not options["insertion_deletion"] and not set(FORWARD_ONLY) & set(options["attributions"]):
        uses = " or ".join(f"--attribution {attribution}" for attribution in FORWARD_ONLY)
        raise UsageError(f"--forward onnx is for --insertion-deletion, {uses}; none of them is asked for")
    with progress_bar("exporting to ONNX", None):
        return onnx_classifier(run.classifier, run.batch[:1])


def compare_and_write(run: Run, result: PerturbResult, options: dict[str, Any], *, as_json: bool) -> None:
    """Compare with the class activation map; write the table, the figures and each result.json.

    ``options``: keywords of :func:`ssimpert.compare`.
    """
    from ssimpert.analysis import compare
    from ssimpert.report.comparison_files import save_table_and_figures

    with stages_bar() as advance:
        comparison = compare(run.classifier, run.batch, result, progress=advance, **options)
        advance("drawing", 0, None)
        names, folder = image_names(run.names, run.folders)
        save_table_and_figures(
            folder, run.folders, run.batch, result, comparison, names=names, labels=run.classifier.labels
        )
    controls = [None] * len(names) if comparison.control is None else comparison.control.rows()
    document = comparison.to_json()
    records = [
        run.record(result, index)
        | {
            "l2_control": controls[index],
            "cam": comparison.cam_name,
            "cam_layer": comparison.cam_layer,
            "comparison_settings": comparison.settings,
            "agreement": [row for row in document["records"] if row["image"] == index],
        }
        for index in range(len(names))
    ]
    run.finish(records, as_json=as_json)
    if not as_json:
        from ssimpert.cli.tables import agreement_table, perturbation_table

        made = [result] + ([comparison.control] if comparison.control is not None else [])
        run.show(perturbation_table(run.names, made, run.classifier.label_name))
        run.show(agreement_table(run.names, comparison))


def image_names(names: list[str], folders: list[Path]) -> tuple[list[str], Path]:
    """What the table calls each image, all different, and the folder for what is of all of them."""
    if len(names) == 1:
        return [Path(names[0]).stem], folders[0]
    return [folder.name for folder in folders], folders[0].parent


@contextmanager
def stages_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar on stderr, gone when done; yields a function of a stage's name, the stages done and their number
    (``None``: unknown)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("comparing", total=None)

        def advance(stage: str, done: int, total: int | None) -> None:
            progress.update(task, description=f"comparing: {stage}", completed=done, total=total)

        yield advance
