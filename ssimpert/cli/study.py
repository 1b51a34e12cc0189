"""``ssimpert study``: the commands about studies."""

from __future__ import annotations

from ssimpert.cli.command_group import CommandEntry, CommandGroup, group_of_commands

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


study = group_of_commands("study", StudyCommands)


@study.callback()
def about() -> None:
    """Compute many formulations on many images, resume at any time, and make tables and plots of the results."""
