"""``ssimpert study``: the commands about studies."""

from __future__ import annotations

import typer

from ssimpert.cli.command_group import CommandEntry, CommandGroup
from ssimpert.cli.help_page import PAGE_WIDTH

COMMANDS = {
    "init": CommandEntry("ssimpert.cli.study_commands", "Write a study file in which every key is explained."),
    "run": CommandEntry("ssimpert.cli.study_commands", "Compute the units of a study that have no record yet."),
    "status": CommandEntry(
        "ssimpert.cli.study_commands",
        "Say how far a study is: units declared, done, failed and missing, overall and for each column.",
    ),
    "merge": CommandEntry("ssimpert.cli.study_commands", "Join the folders of a study's shards."),
    "table": CommandEntry(
        "ssimpert.cli.study_outputs",
        "Print a table of a study's results: means over images with 95% bootstrap intervals.",
    ),
    "plot": CommandEntry(
        "ssimpert.cli.study_outputs", "Draw a value with its intervals against the level, or against a common distance."
    ),
    "compare": CommandEntry(
        "ssimpert.cli.study_outputs", "Set the results of two studies side by side, over the images that both have."
    ),
}


class StudyCommands(CommandGroup):
    """The commands of :data:`COMMANDS`."""

    entries = COMMANDS


study = typer.Typer(
    name="study",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=StudyCommands,
    context_settings={"max_content_width": PAGE_WIDTH},
)


@study.callback()
def about() -> None:
    """Compute many formulations on many images, resume at any time, and make tables and plots of the results."""
