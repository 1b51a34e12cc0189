"""``ssimpert verify``: prove that no image of a set changes the label."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ssimpert.cli.constraint_options import ConstraintOptions
from ssimpert.cli.engine_options import Outside, SupportMasks
from ssimpert.cli.numbers import count_option, number_option
from ssimpert.cli.option_groups import with_option_groups
from ssimpert.cli.options import AsJson, Images, ModelOptions, OutputOptions
from ssimpert.cli.photos import PhotoOptions

PROOF_PANEL = "Proof"


class EffortOption(StrEnum):
    """The efforts of :func:`ssimpert.verify`."""

    CHEAP = "cheap"
    STANDARD = "standard"
    THOROUGH = "thorough"


@with_option_groups
def verify(
    images: Images,
    *,
    output_options: OutputOptions,
    photo_options: PhotoOptions,
    model_options: ModelOptions,
    constraint_options: ConstraintOptions,
    effort: Annotated[
        EffortOption,
        typer.Option(
            help="cheap: one pass of linear bounds. standard: also bounds of inner numbers over the set, and optimised "
            "slopes. thorough: more of both, and branch and bound.",
            rich_help_panel=PROOF_PANEL,
        ),
    ] = EffortOption.STANDARD,
    time_limit: Annotated[
        float,
        number_option(
            help="Seconds for each image. The best bound so far is then kept, which is certified too.",
            rich_help_panel=PROOF_PANEL,
        ),
    ] = 60.0,
    memory: Annotated[
        int,
        count_option(at_least=1, help="Mebibytes for the bounds of one pass.", rich_help_panel=PROOF_PANEL),
    ] = 2048,
    attack: Annotated[
        bool,
        typer.Option(
            "--attack/--no-attack",
            help="Look for an image of the set that changes the label, where the first bound proves nothing.",
            rich_help_panel=PROOF_PANEL,
        ),
    ] = True,
    support: SupportMasks = None,
    outside: Outside = False,
    json: AsJson = False,
) -> None:
    """Prove that no image of a set changes each image's label, or find one that does. Write result.json, and for an
    image that changes the label adversarial.png and adversarial.npy.

    Every layer of the model needs a rule for its bounds; a layer without one is named. The proof speaks of the
    network itself, up to float64 rounding, and names its set. Take product-ssim for the exact SSIM index.

    Each image's files are written as soon as the image is done. The same command skips what is complete, and goes on
    where it was stopped.
    """
    from ssimpert.cli import exit_codes
    from ssimpert.cli.photos import select_photos
    from ssimpert.cli.run_record import run_record
    from ssimpert.cli.verify_run import VerifyRun, verdict_of, verify_photo
    from ssimpert.cli.workspace import Workspace

    model_options.check()
    selection = select_photos(images, photo_options)
    verify_run = VerifyRun.from_options(
        selection.names,
        constraint_options,
        effort=effort.value,
        time_limit=time_limit,
        mebibytes=memory,
        attack=attack,
        support=support,
        outside=outside,
    )
    run = run_record("verify", model_options.model, verify_run.options)
    region = verify_run.region
    workspace = Workspace(selection, model_options, output_options, run, resolve=verify_run.resolve, region=region)
    records = workspace.process("verifying", verify_photo(workspace, verify_run), verdict_of)
    if json:
        from ssimpert.cli.json_output import print_json

        print_json(records)
    else:
        from ssimpert.cli.tables import verification_table

        workspace.show(verification_table(workspace.names, records))
    selection.exit_if_skipped()
    exit_codes.end(record["result"]["success"] for record in records)
