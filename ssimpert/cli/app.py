"""The commands. Heavy imports are inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ssimpert.cli import doctor, exit_codes, listings
from ssimpert.cli.errors import UsageError
from ssimpert.cli.objects import ObjectOptions, objects_from_options
from ssimpert.cli.option_groups import with_option_groups
from ssimpert.cli.options import (
    AsJson,
    ConstraintOptions,
    EngineOptions,
    ForwardName,
    Images,
    ModelOptions,
    OutputOptions,
    SearchOptions,
    SolverOptions,
)
from ssimpert.cli.perturb_photo import perturb_photo
from ssimpert.cli.perturb_run import perturb_run_from_options
from ssimpert.cli.photos import PhotoOptions, select_photos
from ssimpert.cli.report import report
from ssimpert.cli.run_record import run_record
from ssimpert.cli.workspace import Workspace, print_json
from ssimpert.escaping import printable


class EscapingGroup(TyperGroup):
    """The commands; an error about what was typed shows it in printable characters."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with _printable_errors():
            return super().invoke(ctx)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the options that stand before the command."""
        with _printable_errors():
            return super().make_context(*args, **extra)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Errors of usage, of click or of the copy of click within typer.
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="ssimpert",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Adversarial perturbations under perceptual constraints, compared with class activation maps.",
    epilog="Exit codes: 0 done; 1 something that was named can't be used (an image, a model, a folder, ...); 2 wrong "
    "usage, or an option's value that does not exist or is out of its range; 3 all was written, but the goal was not "
    "reached.",
    cls=EscapingGroup,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from ssimpert import __version__

        typer.echo(f"ssimpert {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="The number of CPU threads. Default: 1 on machines of one or two cores, else PyTorch's choice."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version, and do nothing else.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Set the number of threads once, before anything runs."""
    import os

    cores = os.cpu_count() or 1
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    elif cores <= 2:
        # Two threads on two busy cores can be twenty times slower than one.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@app.command()
@with_option_groups
def perturb(
    images: Images,
    *,
    output_options: OutputOptions,
    photo_options: PhotoOptions,
    model_options: ModelOptions,
    constraint_options: ConstraintOptions,
    engine_options: EngineOptions,
    solver_options: SolverOptions,
    json: AsJson = False,
) -> None:
    """Change the label of each image. Write adversarial.png, adversarial.npy and result.json.

    Each image's files are written as soon as the image is done. The same command skips what is complete, and goes on
    where it was stopped.
    """
    model_options.check()
    selection = select_photos(images, photo_options)
    perturb_run = perturb_run_from_options(selection.names, constraint_options, engine_options, solver_options)
    run, region = run_record("perturb", model_options.model, perturb_run.options), perturb_run.region
    workspace = Workspace(selection, model_options, output_options, run, resolve=perturb_run.resolve, region=region)
    records = workspace.process("perturbing", perturb_photo(workspace, perturb_run))
    if json:
        print_json(records)
    else:
        from ssimpert.cli.recorded_results import recorded_results
        from ssimpert.cli.tables import perturbation_table

        results = [recorded_results(records, perturb_run.constraint)]
        workspace.show(perturbation_table(workspace.names, results, workspace.classifier.label_name))
    selection.exit_if_skipped()
    exit_codes.end(record["result"]["success"] for record in records)


@app.command()
@with_option_groups
def compare(
    images: Images,
    *,
    output_options: OutputOptions,
    photo_options: PhotoOptions,
    model_options: ModelOptions,
    constraint_options: ConstraintOptions,
    engine_options: EngineOptions,
    solver_options: SolverOptions,
    object_options: ObjectOptions,
    layer: Annotated[
        str | None, typer.Option(help="The layer for the class activation map. Default: the model's own.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Where the layer's output has its feature map: channels_first, channels_last or tokens. Default: this "
            "is found out."
        ),
    ] = None,
    prefix_tokens: Annotated[
        int | None,
        typer.Option(help="How many tokens in front are not patches, such as a class token. Default: found out."),
    ] = None,
    cam: Annotated[
        str,
        typer.Option(
            help="The map to compare with: grad_cam, grad_cam_plus_plus, hires_cam, layer_cam or guided_grad_cam."
        ),
    ] = "grad_cam",
    attribution: Annotated[
        list[str] | None,
        typer.Option(
            help="Also compare this attribution (smooth_grad, integrated_gradients, rise, ...). Give the option "
            "several times for several attributions."
        ),
    ] = None,
    insertion_deletion: Annotated[
        bool,
        typer.Option("--insertion-deletion", help="Run insertion and deletion with every map. This takes minutes."),
    ] = False,
    insertion_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The number of pixels in a step of --insertion-deletion. Default: 8 rows, 1792 pixels at 224x224.",
        ),
    ] = None,
    shifts: Annotated[
        int, typer.Option(help="The number of circular shifts for the p-values, at least 200; 0 for no p-values.")
    ] = 200,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also compare the maps of the same model with random weights.")
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Also write agreement.csv, the table as comma-separated values.")
    ] = False,
    forward: Annotated[
        ForwardName,
        typer.Option(
            help="What occlusion, rise, insertion and deletion pass images through: torch is the model itself, onnx a "
            "copy in ONNX Runtime (extra onnx). On the CPU the copy takes little more than half the time, but some "
            "seconds to make."
        ),
    ] = ForwardName.TORCH,
    json: AsJson = False,
) -> None:
    """Perturb, then compare with Grad-CAM and with the controls. Also write agreement.parquet, figures and maps.

    Each image's files are written as soon as the image is done; the table and the figures of all images come at the
    end. The same command skips what is complete, and goes on where it was stopped.
    """
    from ssimpert.cli import comparison

    if insertion_step is not None and not insertion_deletion:
        raise UsageError(f"--insertion-step {insertion_step} is for --insertion-deletion, which is not asked for")
    model_options.check()
    selection = select_photos(images, photo_options)
    perturb_run = perturb_run_from_options(selection.names, constraint_options, engine_options, solver_options)
    options: dict[str, Any] = {
        "layer": layer,
        "layout": layout,
        "prefix_tokens": prefix_tokens,
        "cam": cam,
        "attributions": attribution or [],
        "insertion_deletion": insertion_step or insertion_deletion,
        "sanity": sanity,
        "shifts": shifts,
    }
    run, region = (
        run_record("compare", model_options.model, perturb_run.options | options | {"forward": forward}),
        perturb_run.region,
    )
    objects, resolve = objects_from_options(object_options), perturb_run.resolve
    workspace = Workspace(
        selection, model_options, output_options, run, resolve=resolve, region=region, objects=objects
    )
    comparison.check_comparison_options(workspace, options)
    options["forward"] = comparison.forward_from_option(workspace, options, forward)
    records = workspace.process("comparing", comparison.compare_photo(workspace, perturb_run, options))
    compared = comparison.write_tables_and_figures(workspace, records, csv=csv)
    if json:
        print_json(records)
    else:
        from ssimpert.cli.recorded_results import recorded_results
        from ssimpert.cli.tables import agreement_table, perturbation_table

        results = [
            recorded_results(records, perturb_run.constraint),
            recorded_results(records, None, "l2_control"),
        ]
        workspace.show(perturbation_table(workspace.names, results, workspace.classifier.label_name))
        workspace.show(agreement_table(workspace.names, compared))
        if compared.settings["masks"]:
            from ssimpert.cli.localization_table import localization_table

            workspace.show(localization_table(workspace.names, compared))
    selection.exit_if_skipped()
    exit_codes.end(record["result"]["success"] for record in records)


@app.command()
@with_option_groups
def minimal(
    images: Images,
    *,
    output_options: OutputOptions,
    curve: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Also find the margins at this many levels around the least level. Write curve.json, curve.png and "
            "curve.svg.",
        ),
    ] = None,
    photo_options: PhotoOptions,
    model_options: ModelOptions,
    constraint_options: ConstraintOptions,
    search_options: SearchOptions,
    solver_options: SolverOptions,
    json: AsJson = False,
) -> None:
    """Find the least level of a set at which each image's label changes. Write adversarial.png, adversarial.npy and
    result.json.

    The level is 1 - threshold, the distance or the radius. The level of the given set is tried first. The array holds
    the perturbation exactly. Rounded to the 8 bits of the PNG, the perturbation may no longer change the label:
    result.json says under 'file' what the PNG does.

    Each image's files are written as soon as the image is done. The same command skips what is complete, and goes on
    where it was stopped.
    """
    from ssimpert.cli.minimal_run import check_curve, minimal_photo, minimal_run_from_options

    model_options.check()
    selection = select_photos(images, photo_options)
    minimal_run = minimal_run_from_options(selection.names, constraint_options, search_options, solver_options)
    check_curve(minimal_run, curve)
    run, region = run_record("minimal", model_options.model, minimal_run.options | {"curve": curve}), minimal_run.region
    workspace = Workspace(selection, model_options, output_options, run, resolve=minimal_run.resolve, region=region)
    records = workspace.process("looking for least levels", minimal_photo(workspace, minimal_run, curve))
    if json:
        print_json(records)
    else:
        from ssimpert.cli.recorded_results import recorded_results
        from ssimpert.cli.tables import minimal_table

        results = recorded_results(records, minimal_run.constraint)
        workspace.show(minimal_table(workspace.names, results, workspace.classifier.label_name))
    selection.exit_if_skipped()
    exit_codes.end(record["result"]["success"] for record in records)


app.command()(report)
for listing in (listings.models, listings.layers, listings.classes, listings.samples, listings.methods, doctor.doctor):
    app.command()(listing)
