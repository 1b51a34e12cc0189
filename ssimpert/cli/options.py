"""The options of the commands that perturb, in groups; :mod:`ssimpert.cli.option_groups` explains the groups."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssimpert.weights_path import check_weights_path

if TYPE_CHECKING:
    pass

MODEL_PANEL = "Model"

Images = Annotated[list[str], typer.Argument(help="Names of samples (see `ssimpert samples`) or picture files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


class ForwardName(StrEnum):
    """What images pass through where no gradient is needed."""

    TORCH = "torch"
    ONNX = "onnx"


@dataclass(frozen=True)
class OutputOptions:
    """The folder for the results, and whether results that are there are replaced."""

    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the results, made if it is missing. The files of a single photo go into this folder, "
            "those of several photos into a folder each. Default: out/COMMAND/PHOTO for every photo.",
        ),
    ] = None
    redo: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Make results again that are complete, and replace results of other options. Default: complete "
            "results are kept and skipped, and other options are refused.",
        ),
    ] = False

    def folder(self, command: str) -> Path:
        """The folder that was asked for, or the default folder of ``command``."""
        return Path("out") / command if self.out is None else self.out


@dataclass(frozen=True)
class ModelOptions:
    """The classifier, and where it runs."""

    model: Annotated[
        str,
        typer.Option("--model", help="The classifier. `ssimpert models` lists the names.", rich_help_panel=MODEL_PANEL),
    ] = "efficientnet-lite0"
    weights: Annotated[
        str | None,
        typer.Option(
            help="A state-dict file for the model, or 'random' for random weights.", rich_help_panel=MODEL_PANEL
        ),
    ] = None
    device: Annotated[
        str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.", rich_help_panel=MODEL_PANEL)
    ] = "auto"

    def check(self) -> None:
        """Raise :class:`InputError` where the file of weights is missing; before torch is loaded."""
        check_weights_path(self.weights)
