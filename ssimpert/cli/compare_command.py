"""``ssimpert compare``: perturb, then compare the regions that changed with a class activation map."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.engine_options import EngineOptions, SolverOptions
from ssimpert.cli.errors import UsageError
from ssimpert.cli.numbers import count_option
from ssimpert.cli.objects import ObjectOptions
from ssimpert.cli.option_groups import with_option_groups
from ssimpert.cli.options import AsJson, ForwardName, Images, ModelOptions, OutputOptions
from ssimpert.cli.photos import PhotoOptions


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
        count_option(help="How many tokens in front are not patches, such as a class token. Default: found out."),
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
        count_option(
            at_least=1,
            help="The number of pixels in a step of --insertion-deletion. Default: 8 rows, 1792 pixels at 224x224.",
        ),
    ] = None,
    shifts: Annotated[
        int, count_option(help="The number of circular shifts for the p-values, at least 200; 0 for no p-values.")
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
    from ssimpert.cli import comparison, exit_codes
    from ssimpert.cli.objects import objects_from_options
    from ssimpert.cli.perturb_run import perturb_run_from_options
    from ssimpert.cli.photos import select_photos
    from ssimpert.cli.run_record import run_record
    from ssimpert.cli.workspace import Workspace

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
        from ssimpert.cli.json_output import print_json

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
