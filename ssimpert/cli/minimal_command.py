"""``ssimpert minimal``: find the least level of a set that changes the label."""

from __future__ import annotations

from typing import Annotated

from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.engine_options import SearchOptions, SolverOptions
from ssimpert.cli.numbers import count_option
from ssimpert.cli.option_groups import with_option_groups
from ssimpert.cli.options import AsJson, Images, ModelOptions, OutputOptions
from ssimpert.cli.photos import PhotoOptions


@with_option_groups
def minimal(
    images: Images,
    *,
    output_options: OutputOptions,
    curve: Annotated[
        int | None,
        count_option(
            at_least=2,
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
    from ssimpert.cli import exit_codes
    from ssimpert.cli.minimal_run import check_curve, minimal_photo, minimal_run_from_options
    from ssimpert.cli.photos import select_photos
    from ssimpert.cli.run_record import run_record
    from ssimpert.cli.terminal import say
    from ssimpert.cli.workspace import Workspace

    model_options.check()
    selection = select_photos(images, photo_options)
    minimal_run = minimal_run_from_options(selection.names, constraint_options, search_options, solver_options)
    check_curve(minimal_run, curve)
    run, region = run_record("minimal", model_options.model, minimal_run.options | {"curve": curve}), minimal_run.region
    workspace = Workspace(selection, model_options, output_options, run, resolve=minimal_run.resolve, region=region)
    if minimal_run.is_slow:
        say(
            "each step towards a ball of features passes the network tens of times: a photo takes minutes. A larger "
            "--tolerance and fewer --steps and --rounds shorten the search"
        )
    records = workspace.process("looking for least levels", minimal_photo(workspace, minimal_run, curve))
    if json:
        from ssimpert.cli.json_output import print_json

        print_json(records)
    else:
        from ssimpert.cli.recorded_results import recorded_results
        from ssimpert.cli.tables import minimal_table

        results = recorded_results(records, minimal_run.constraint)
        workspace.show(minimal_table(workspace.names, results, workspace.classifier.label_name))
    selection.exit_if_skipped()
    exit_codes.end(record["result"]["success"] for record in records)
