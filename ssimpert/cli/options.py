"""The options of the commands that perturb, in groups; :mod:`ssimpert.cli.option_groups` explains the groups."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.constraints import ConstraintName, build_constraint, option_help
from ssimpert.cli.engines import EngineAroundOriginal, EngineName

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint

MODEL_PANEL, SET_PANEL, ENGINE_PANEL, SOLVER_PANEL = "Model", "Constraint set", "Engine", "Solver"

Images = Annotated[list[str], typer.Argument(help="Names of samples (see `ssimpert samples`) or picture files.")]
Out = Annotated[Path, typer.Option(help="The folder for the results. It is made if it is missing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


class ForwardName(StrEnum):
    """What images pass through where no gradient is needed."""

    TORCH = "torch"
    ONNX = "onnx"


def _of_set(option: str, text: str) -> Any:
    return typer.Option(help=option_help(option, text), rich_help_panel=SET_PANEL)


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


@dataclass(frozen=True)
class ConstraintOptions:
    """The constraint set by name, and the options that describe it; None where the set's own default holds."""

    constraint: Annotated[
        ConstraintName, typer.Option(help="The set that the perturbation must stay in.", rich_help_panel=SET_PANEL)
    ] = ConstraintName.GLOBAL_SSIM
    distance: Annotated[float | None, _of_set("distance", "the bound e on d2 = sqrt(1 - S2), 0 < e < 1")] = None
    threshold: Annotated[
        float | None,
        _of_set("threshold", "the least SSIM t that every window, or the mean of all windows, must have, 0 < t < 1"),
    ] = None
    window_size: Annotated[int | None, _of_set("window_size", "the side of the window in pixels")] = None
    stride: Annotated[
        int | None, _of_set("stride", "the step between windows in pixels; it equals the size for tiles")
    ] = None
    sigma: Annotated[
        str | None,
        _of_set("sigma", "the standard deviation of Gaussian weights in pixels, or 'none' for uniform weights"),
    ] = None
    border: Annotated[
        str | None, _of_set("border", "full (windows hang over the edge) or valid (whole windows only)")
    ] = None
    luminance: Annotated[
        str | None,
        _of_set(
            "luminance",
            "the bound on 1 - S1 in every window, or 'preserve' to keep the mean of every window, or 'split' "
            "(window-ssim only) to give S1 the same bound as S2, or 'none' (mean-ssim only) for a bound on the index "
            "alone",
        ),
    ] = None
    radius: Annotated[float | None, _of_set("radius", "the radius of the ball")] = None

    def build(self) -> Constraint:
        """The set that these options describe.

        Raises:
            ProblemError: an option belongs to another set, or a value is out of range.
        """
        options = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "constraint"}
        return build_constraint(self.constraint, options)


SupportMasks = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="MASK",
        help="A picture whose bright pixels (128 or more of 255) may change. The other pixels stay exactly as they "
        "are. The picture is resized and cut like the image. Give one picture for all images, or repeat the option to "
        "give one picture for each image, in the same order. Default: every pixel may change.",
        rich_help_panel=ENGINE_PANEL,
    ),
]
TargetClass = Annotated[
    int | None,
    typer.Option(
        help="Aim at the class with this number. Default: any class except the image's own.",
        rich_help_panel=ENGINE_PANEL,
    ),
]
Outside = Annotated[
    bool,
    typer.Option(
        "--outside",
        help="With --support: the pixels that are not bright may change instead.",
        rich_help_panel=ENGINE_PANEL,
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """How ``perturb`` and ``compare`` raise the margin, and when they stop."""

    engine: Annotated[
        EngineName | None,
        typer.Option(
            help="The loop that raises the margin. recentred stays in the set around the current image. The other "
            "engines stay in the set around the original image. Default: recentred for global-ssim (the published "
            "method), projected_gradient for the other sets.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    recentred: Annotated[
        bool | None,
        typer.Option(
            "--recentred/--held",
            help="--recentred means --engine recentred. --held means --engine projected_gradient, and is allowed "
            "beside any engine except recentred.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    steps: Annotated[
        int, typer.Option(min=1, help="The largest number of steps for each image.", rich_help_panel=ENGINE_PANEL)
    ] = 20
    until_success: Annotated[
        bool,
        typer.Option(
            "--until-success/--all-steps",
            help="Stop when an image reaches its goal, or use all steps to make the margin as large as possible.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = True
    shrink: Annotated[
        bool | None,
        typer.Option(
            "--shrink/--no-shrink",
            help="Draw a successful perturbation back to the smallest share that still reaches the goal. Such a "
            "perturbation seldom survives the rounding of the PNG: add --quantize, or use the array. Default: on, "
            "except with --all-steps and for the engine recentred.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    target: TargetClass = None
    support: SupportMasks = None
    outside: Outside = False
    faithful: Annotated[
        bool,
        typer.Option(
            "--faithful",
            help="Do exactly what the released code does. Only for global-ssim with the engine recentred.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = False
    quantize: Annotated[
        bool,
        typer.Option(
            "--quantize/--no-quantize",
            help="Move the result onto 8-bit pixels, so that the PNG itself changes the label and stays in the set. "
            "Without this option the PNG is the rounded result, and result.json says under 'file' what the PNG does.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = False


@dataclass(frozen=True)
class SearchOptions:
    """How ``minimal`` searches for the least level."""

    engine: Annotated[
        EngineAroundOriginal,
        typer.Option(help="The loop that raises the margin at each level.", rich_help_panel=ENGINE_PANEL),
    ] = EngineAroundOriginal.PROJECTED_GRADIENT
    steps: Annotated[
        int, typer.Option(min=1, help="The largest number of steps at each level.", rich_help_panel=ENGINE_PANEL)
    ] = 10
    rounds: Annotated[
        int, typer.Option(min=1, help="The largest number of levels for each image.", rich_help_panel=ENGINE_PANEL)
    ] = 20
    tolerance: Annotated[
        float,
        typer.Option(
            help="An image is done when the relative width of its bracket of levels is at most this number, between "
            "0 and 1.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = 0.005
    candidates: Annotated[
        int,
        typer.Option(
            min=1,
            help="Aim at the nearest class, to first order, among this many classes of largest logit. 1 means the "
            "runner-up, which is chosen again at every step. The option has no effect together with --target.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = 10
    target: TargetClass = None
    support: SupportMasks = None
    outside: Outside = False


@dataclass(frozen=True)
class SolverOptions:
    """The solver of each convex step."""

    method: Annotated[
        str, typer.Option(help="The solver method. `ssimpert methods` lists the names.", rich_help_panel=SOLVER_PANEL)
    ] = "auto"
    eps_rel: Annotated[
        float,
        typer.Option(help="The certified relative gap at which a step counts as solved.", rich_help_panel=SOLVER_PANEL),
    ] = 1e-3
    max_iter: Annotated[
        int,
        typer.Option(
            help="The largest number of iterations of an iterative solver in each step.", rich_help_panel=SOLVER_PANEL
        ),
    ] = 2000
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Let a CVXPY method try a problem that is beyond its size limit.",
            rich_help_panel=SOLVER_PANEL,
        ),
    ] = False

    def settings(self) -> solvers.Settings:
        """The solver's settings.

        Raises:
            ProblemError: a value is out of range.
        """
        import solvers

        return solvers.Settings(eps_rel=self.eps_rel, max_iter=self.max_iter, force=self.force)
