"""The options of the commands that perturb, in groups; see :mod:`ssimpert.cli.option_groups`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.constraints import ConstraintName, build_constraint, option_help
from ssimpert.cli.engines import EngineName, HeldEngineName

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint

MODEL, SET, ENGINE, SOLVER = "Model", "Constraint set", "Engine", "Solver"

Images = Annotated[list[str], typer.Argument(help="Samples (see `ssimpert samples`) or picture files.")]
Out = Annotated[Path, typer.Option(help="Folder for the results; made if missing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


class ForwardName(StrEnum):
    """What passes images where no gradient is needed."""

    TORCH = "torch"
    ONNX = "onnx"


def _of_set(option: str, text: str) -> Any:
    return typer.Option(help=option_help(option, text), rich_help_panel=SET)


@dataclass(frozen=True)
class ModelOptions:
    """The classifier, and where it runs."""

    model: Annotated[str, typer.Option("--model", help="See `ssimpert models`.", rich_help_panel=MODEL)] = (
        "efficientnet-lite0"
    )
    weights: Annotated[
        str | None, typer.Option(help="State-dict file for the model, or 'random'.", rich_help_panel=MODEL)
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.", rich_help_panel=MODEL)] = "auto"


@dataclass(frozen=True)
class ConstraintOptions:
    """The set by name, and what describes it; None where the set's own default holds."""

    constraint: Annotated[
        ConstraintName, typer.Option(help="What the perturbation must keep to.", rich_help_panel=SET)
    ] = ConstraintName.GLOBAL_SSIM
    distance: Annotated[float | None, _of_set("distance", "e, the bound on d2 = sqrt(1 - S2), 0 < e < 1")] = None
    threshold: Annotated[
        float | None, _of_set("threshold", "the least SSIM, of every window or of their mean, 0 < t < 1")
    ] = None
    window_size: Annotated[int | None, _of_set("window_size", "the window's side in pixels")] = None
    stride: Annotated[int | None, _of_set("stride", "step between windows; equal to the size for tiles")] = None
    sigma: Annotated[
        str | None, _of_set("sigma", "standard deviation of Gaussian weights in pixels, or 'none' for uniform ones")
    ] = None
    border: Annotated[str | None, _of_set("border", "full (windows hang over the edge) or valid (whole windows)")] = (
        None
    )
    luminance: Annotated[
        str | None,
        _of_set(
            "luminance",
            "bound on 1 - S1 in every window, or 'preserve' to keep every mean, 'split' (window-ssim only) to allow S1 "
            "what S2 is allowed, 'none' (mean-ssim only) for the index alone",
        ),
    ] = None
    radius: Annotated[float | None, _of_set("radius", "the radius")] = None

    def build(self) -> Constraint:
        """The set.

        Raises:
            ProblemError: an option of another set, or a value out of range.
        """
        options = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "constraint"}
        return build_constraint(self.constraint, options)


SupportMasks = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="MASK",
        help="Picture whose bright pixels (128 and more of 255) may change, resized and cut like the image; the "
        "other pixels stay exactly as they are. One for all images, or one for each, in order, by repeating the "
        "option. Default: every pixel may change.",
        rich_help_panel=ENGINE,
    ),
]
Outside = Annotated[
    bool,
    typer.Option(
        "--outside", help="With --support: the pixels that are not bright may change.", rich_help_panel=ENGINE
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """How ``perturb`` and ``compare`` climb, and to what end."""

    engine: Annotated[
        EngineName | None,
        typer.Option(
            help="The loop. recentred keeps to the set around the current iterate, the others to the set around the "
            "original image. Default: recentred for global-ssim (the published method), projected_gradient for the "
            "others.",
            rich_help_panel=ENGINE,
        ),
    ] = None
    recentred: Annotated[
        bool | None,
        typer.Option(
            "--recentred/--held",
            help="--recentred is short for --engine recentred, --held for --engine projected_gradient; the latter may "
            "stand beside any engine but recentred.",
            rich_help_panel=ENGINE,
        ),
    ] = None
    steps: Annotated[int, typer.Option(min=1, help="Most steps per image.", rich_help_panel=ENGINE)] = 20
    until_success: Annotated[
        bool,
        typer.Option(
            "--until-success/--all-steps",
            help="Stop an image once its goal is reached, or spend all steps on the largest margin.",
            rich_help_panel=ENGINE,
        ),
    ] = True
    target: Annotated[
        int | None, typer.Option(help="Aim at this class instead of any other.", rich_help_panel=ENGINE)
    ] = None
    support: SupportMasks = None
    outside: Outside = False
    faithful: Annotated[
        bool,
        typer.Option(
            "--faithful", help="global-ssim, recentred: the released code's behaviour.", rich_help_panel=ENGINE
        ),
    ] = False
    quantize: Annotated[
        bool,
        typer.Option(
            "--quantize/--no-quantize",
            help="Move the result onto 8-bit pixels so that the PNG itself still fools and keeps to the set. "
            "Without: the PNG is the result rounded, and result.json says under 'file' what is left of it.",
            rich_help_panel=ENGINE,
        ),
    ] = False


@dataclass(frozen=True)
class SearchOptions:
    """How ``minimal`` looks for the least level."""

    engine: Annotated[HeldEngineName, typer.Option(help="The loop that tries a level.", rich_help_panel=ENGINE)] = (
        HeldEngineName.PROJECTED_GRADIENT
    )
    steps: Annotated[int, typer.Option(min=1, help="Most steps per level.", rich_help_panel=ENGINE)] = 10
    rounds: Annotated[int, typer.Option(min=1, help="Most levels tried per image.", rich_help_panel=ENGINE)] = 20
    tolerance: Annotated[
        float,
        typer.Option(
            help="An image is done once its bracket is within this relative width, between 0 and 1.",
            rich_help_panel=ENGINE,
        ),
    ] = 0.005
    candidates: Annotated[
        int,
        typer.Option(
            min=1,
            help="Climb towards the nearest, to first order, of so many classes of largest logit; 1 for the runner-up, "
            "chosen anew at every step. Without effect beside --target.",
            rich_help_panel=ENGINE,
        ),
    ] = 10
    target: Annotated[
        int | None, typer.Option(help="Aim at this class instead of any other.", rich_help_panel=ENGINE)
    ] = None
    support: SupportMasks = None
    outside: Outside = False


@dataclass(frozen=True)
class SolverOptions:
    """The solver of each convex step."""

    method: Annotated[str, typer.Option(help="Solver method, see `ssimpert methods`.", rich_help_panel=SOLVER)] = "auto"
    eps_rel: Annotated[
        float,
        typer.Option(help="Certified relative gap at which a step counts as solved.", rich_help_panel=SOLVER),
    ] = 1e-3
    max_iter: Annotated[
        int, typer.Option(help="Most iterations of an iterative solver, per step.", rich_help_panel=SOLVER)
    ] = 2000
    force: Annotated[
        bool,
        typer.Option("--force", help="Let a CVXPY method try a problem beyond its size limit.", rich_help_panel=SOLVER),
    ] = False

    def settings(self) -> solvers.Settings:
        """The solver's settings.

        Raises:
            ProblemError: a value out of range.
        """
        import solvers

        return solvers.Settings(eps_rel=self.eps_rel, max_iter=self.max_iter, force=self.force)
