"""``ssimpert perturb``: change the label of each image within a set."""

from __future__ import annotations

from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.engine_options import EngineOptions, SolverOptions
from ssimpert.cli.option_groups import with_option_groups
from ssimpert.cli.options import AsJson, Images, ModelOptions, OutputOptions
from ssimpert.cli.photos import PhotoOptions


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
    from ssimpert.cli import exit_codes
    from ssimpert.cli.perturb_photo import perturb_photo
    from ssimpert.cli.perturb_run import perturb_run_from_options
    from ssimpert.cli.photos import select_photos
    from ssimpert.cli.run_record import run_record
    from ssimpert.cli.workspace import Workspace

    model_options.check()
    selection = select_photos(images, photo_options)
    perturb_run = perturb_run_from_options(selection.names, constraint_options, engine_options, solver_options)
    run, region = run_record("perturb", model_options.model, perturb_run.options), perturb_run.region
    workspace = Workspace(selection, model_options, output_options, run, resolve=perturb_run.resolve, region=region)
    records = workspace.process("perturbing", perturb_photo(workspace, perturb_run))
    if json:
        from ssimpert.cli.json_output import print_json

        print_json(records)
    else:
        from ssimpert.cli.recorded_results import recorded_results
        from ssimpert.cli.tables import perturbation_table

        results = [recorded_results(records, perturb_run.constraint)]
        workspace.show(perturbation_table(workspace.names, results, workspace.classifier.label_name))
    selection.exit_if_skipped()
    exit_codes.end(record["result"]["success"] for record in records)
