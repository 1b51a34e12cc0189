"""The commands. Heavy imports are inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ssimpert.cli import listings
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
    Out,
    SearchOptions,
    SolverOptions,
)
from ssimpert.cli.perturb_run import perturb_run_from_options
from ssimpert.cli.photos import PhotoOptions, select_photos
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.workspace import Workspace

app = typer.Typer(
    name="ssimpert",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
    help="Adversarial perturbations under perceptual constraints, compared with class activation maps.",
    epilog="Exit codes: 0 done, 1 a failure that is named in one line, 2 wrong usage.",
)


@app.callback()
def configure(
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="The number of CPU threads. Default: 1 on machines of one or two cores, else PyTorch's choice."
        ),
    ] = None,
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
    out: Out = Path("out/perturb"),
    photo_options: PhotoOptions,
    model_options: ModelOptions,
    constraint_options: ConstraintOptions,
    engine_options: EngineOptions,
    solver_options: SolverOptions,
    json: AsJson = False,
) -> None:
    """Change the label of each image. Write adversarial.png, adversarial.npy and result.json."""
    selection = select_photos(images, photo_options)
    perturb_run = perturb_run_from_options(selection.names, constraint_options, engine_options, solver_options)
    workspace = Workspace(selection, out, model_options)
    result = workspace.perturb(perturb_run)
    workspace.finish([workspace.record(result, k) for k in range(len(workspace.names))], as_json=json)
    if not json:
        from ssimpert.cli.tables import perturbation_table

        workspace.show(perturbation_table(workspace.names, [result], workspace.classifier.label_name))
    selection.exit_if_skipped()


@app.command()
@with_option_groups
def compare(
    images: Images,
    *,
    out: Out = Path("out/compare"),
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
    """Perturb, then compare with Grad-CAM and with the controls. Also write agreement.parquet, figures and maps."""
    from ssimpert.cli import comparison

    if insertion_step is not None and not insertion_deletion:
        raise UsageError(f"--insertion-step {insertion_step} is for --insertion-deletion, which is not asked for")
    selection = select_photos(images, photo_options)
    perturb_run = perturb_run_from_options(selection.names, constraint_options, engine_options, solver_options)
    workspace = Workspace(selection, out, model_options, objects_from_options(object_options))
    options: dict[str, Any] = {
        "layer": layer,
        "layout": layout,
        "prefix_tokens": prefix_tokens,
        "cam": cam,
        "attributions": attribution or [],
        "insertion_deletion": insertion_step or insertion_deletion,
        "sanity": sanity,
        "shifts": shifts,
        **workspace.objects(),
    }
    comparison.check_comparison_options(workspace, options)
    options["forward"] = comparison.forward_from_option(workspace, options, forward)
    result = workspace.perturb(perturb_run)
    if perturb_run.region is not None:
        options["support"] = workspace.support(perturb_run.region)
    comparison.compare_and_write(workspace, result, options, as_json=json)
    selection.exit_if_skipped()


@app.command()
@with_option_groups
def minimal(
    images: Images,
    *,
    out: Out = Path("out/minimal"),
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
    """
    from ssimpert.cli.minimal_run import find_minimal, minimal_run_from_options, write_curve

    selection = select_photos(images, photo_options)
    minimal_run = minimal_run_from_options(selection.names, constraint_options, search_options, solver_options)
    workspace = Workspace(selection, out, model_options)
    result = find_minimal(workspace, minimal_run)
    records = [workspace.record(result, k) for k in range(len(workspace.names))]
    for record in records:
        record["result"]["level_unit"] = result.settings["level"]
    workspace.finish(records, as_json=json)
    if curve is not None:
        with progress_bar("trying levels", len(workspace.names)) as advance:
            for k in range(len(workspace.names)):
                write_curve(workspace, minimal_run, result, k, curve)
                advance()
    if not json:
        from ssimpert.cli.tables import minimal_table

        workspace.show(minimal_table(workspace.names, result, workspace.classifier.label_name))
    selection.exit_if_skipped()


for listing in (listings.models, listings.samples, listings.methods):
    app.command()(listing)
