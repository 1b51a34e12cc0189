"""The command line's commands, and what stands before the command: ``--version`` and ``--threads``."""

from __future__ import annotations

from typing import Annotated

import typer

from ssimpert.cli.command_group import CommandEntry, CommandGroup, group_of_commands
from ssimpert.cli.numbers import count_option

COMMANDS = {
    "perturb": CommandEntry("ssimpert.cli.perturb_command", "Change the label of each image."),
    "compare": CommandEntry(
        "ssimpert.cli.compare_command", "Perturb, then compare with Grad-CAM and with the controls."
    ),
    "minimal": CommandEntry(
        "ssimpert.cli.minimal_command", "Find the least level of a set at which each image's label changes."
    ),
    "verify": CommandEntry(
        "ssimpert.cli.verify_command", "Prove that no image of a set changes each image's label, or find one that does."
    ),
    "report": CommandEntry("ssimpert.cli.report", "Write results as one HTML file: pictures, maps, tables and plots."),
    "study": CommandEntry(
        "ssimpert.cli.study",
        "Compute many formulations on many images, resume at any time, and make tables and plots of the results.",
    ),
    "models": CommandEntry("ssimpert.cli.listings", "List the classifiers that can be loaded."),
    "layers": CommandEntry(
        "ssimpert.cli.listings",
        "List the layers of a classifier, in order of execution, with what --layer takes.",
    ),
    "classes": CommandEntry(
        "ssimpert.cli.listings", "List the classes of a classifier by number and name, as --target takes them."
    ),
    "samples": CommandEntry("ssimpert.cli.listings", "List the sample pictures, which are installed with the program."),
    "methods": CommandEntry(
        "ssimpert.cli.listings", "List the solver methods and the constraint sets that each takes."
    ),
    "doctor": CommandEntry(
        "ssimpert.cli.doctor",
        "Check this installation: versions, threads, devices, torchvision, solvers, and a problem solved and "
        "certified.",
    ),
}


class Commands(CommandGroup):
    """The commands of :data:`COMMANDS`."""

    entries = COMMANDS


app = group_of_commands(
    "ssimpert",
    Commands,
    help="Adversarial perturbations under perceptual constraints, compared with class activation maps.",
    epilog="Exit codes: 0 done; 1 something that was named can't be used (an image, a model, a folder, ...); 2 wrong "
    "usage, or an option's value that does not exist or is out of its range; 3 all was written, but the goal was not "
    "reached.",
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
        count_option(
            at_least=1,
            help="The number of CPU threads. Default: 1 on machines of one or two cores, else PyTorch's choice.",
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
