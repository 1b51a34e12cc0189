"""The options of the commands that perturb, in groups; :mod:`ssimpert.cli.option_groups` explains the groups."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.constraints import ConstraintName, Formulation, build_constraint, option_help, values_of
from ssimpert.cli.engines import EngineAroundOriginal, EngineName
from ssimpert.cli.feature_balls import (
    BallMethod,
    FeatureBallSet,
    MarginTermName,
    NormalizationName,
    layers_from_option,
)
from ssimpert.cli.numbers import as_number, count_option, number_option
from ssimpert.weights_path import check_weights_path

if TYPE_CHECKING:
    import solvers
    from solvers.constraints import Constraint

MODEL_PANEL, SET_PANEL, ENGINE_PANEL, SOLVER_PANEL = "Model", "Constraint set", "Engine", "Solver"

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


def _of_set(option: str, text: str, default: str | None = None) -> Any:
    return typer.Option(help=option_help(option, text, default), rich_help_panel=SET_PANEL)


def _number_of_set(option: str, text: str) -> Any:
    return number_option(help=option_help(option, text), rich_help_panel=SET_PANEL)


def _count_of_set(option: str, text: str) -> Any:
    return count_option(help=option_help(option, text), rich_help_panel=SET_PANEL)


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


@dataclass(frozen=True)
class ConstraintOptions:
    """The formulation and the options that describe it; None where the formulation's own default holds."""

    constraint: Annotated[
        ConstraintName | None,
        typer.Option(
            help="The set that the perturbation must stay in. Default: global-ssim. --method perceptual-ball has no "
            "set, and perceptual-ball-constrained its own.",
            rich_help_panel=SET_PANEL,
        ),
    ] = None
    distance: Annotated[float | None, _number_of_set("distance", "the bound e on d2 = sqrt(1 - S2), 0 < e < 1")] = None
    threshold: Annotated[
        float | None,
        _number_of_set(
            "threshold", "the least SSIM t that every window, or the mean of all windows, must have, 0 < t < 1"
        ),
    ] = None
    window_size: Annotated[int | None, _count_of_set("window_size", "the side of the window in pixels")] = None
    stride: Annotated[
        int | None, _count_of_set("stride", "the step between windows in pixels; it equals the size for tiles")
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
    radius: Annotated[
        float | None,
        _number_of_set(
            "radius", "the radius of the ball; of a ball of features in the unit that --normalization gives them"
        ),
    ] = None
    layers: Annotated[
        list[str] | None,
        _of_set(
            "layers",
            "the layers whose features may not move far, by name. Give several with commas, or repeat the option; "
            "'none' for no layer (perceptual-ball only)",
            default="the model's own choice",
        ),
    ] = None
    normalization: Annotated[
        NormalizationName | None,
        _of_set(
            "normalization",
            "unit-channel scales every position's channels to length 1, mse weighs layers by mean squared errors, as "
            "perceptual-ball does",
        ),
    ] = None
    l2_radius: Annotated[
        str | None,
        _of_set("l2_radius", "the radius of an l2 ball that the perturbation must stay in, too, or 'none'"),
    ] = None
    gamma: Annotated[float | None, _number_of_set("gamma", "the weight of the features' change")] = None
    pixel_weight: Annotated[float | None, _number_of_set("pixel_weight", "the weight s of the pixels' change")] = None
    wanted_margin: Annotated[
        float | None,
        _number_of_set(
            "wanted_margin",
            "v, the logit of the image's class less the largest other logit, which is driven to this value. With "
            "--target, v is the value for the target's logit, and has no default",
        ),
    ] = None
    margin_term: Annotated[
        MarginTermName | None,
        _of_set("margin_term", "equality penalises margins beyond --wanted-margin too, hinge does not"),
    ] = None
    lower_gamma: Annotated[
        bool | None,
        typer.Option(
            "--lower-gamma/--keep-gamma",
            help=option_help(
                "lower_gamma",
                "where the label does not change, try a smaller --gamma, up to five times",
                default="--lower-gamma, with --faithful --keep-gamma",
            ),
            rich_help_panel=SET_PANEL,
        ),
    ] = None
    step_norm: Annotated[
        float | None, _number_of_set("step_norm", "the l2 norm of the first step at most; later steps may be longer")
    ] = None

    @property
    def name(self) -> ConstraintName:
        """The set, where ``--method`` is a solver."""
        return ConstraintName.GLOBAL_SSIM if self.constraint is None else self.constraint

    def effective(self, formulation: Formulation) -> dict[str, Any]:
        """The options of ``formulation`` as a record has them: as given, or the default.

        Texts are brought into one form, so that ``1e-3`` and ``0.001`` are the same. What the model decides is
        ``None``.

        Raises:
            UsageError: an option belongs to another formulation.
        """
        values = values_of(formulation, self.given())
        name = formulation.value if isinstance(formulation, ConstraintName) else None
        return {"constraint": name} | {option: _in_one_form(option, value) for option, value in values.items()}

    def given(self) -> dict[str, Any]:
        """Every option but the name of the set; ``None`` where the user did not give it."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "constraint"}

    def build(self) -> Constraint | FeatureBallSet:
        """The set that these options describe.

        Raises:
            UsageError: an option belongs to another set.
            ProblemError, InputError: a value is out of range.
        """
        return build_constraint(self.name, self.given())


def _in_one_form(option: str, value: Any) -> Any:
    if option == "layers":
        layers = layers_from_option(value)
        return None if layers is None else list(layers)
    if isinstance(value, Fraction):
        return float(value)
    number = as_number(value) if isinstance(value, str) else None
    return value if number is None else number


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
    str | None,
    typer.Option(
        metavar="CLASS",
        help="Aim at this class, by its name or number, as in --target 'soup bowl' (`ssimpert classes` lists them). "
        "Default: any class except the image's own.",
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
        int | None,
        count_option(
            at_least=1,
            help="The largest number of steps for each image; of perceptual-ball, for each --gamma that is tried. "
            "Default 20, 100 for perceptual-ball.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    until_success: Annotated[
        bool | None,
        typer.Option(
            "--until-success/--all-steps",
            help="Stop when an image reaches its goal, or use all steps to make the margin as large as possible. "
            "Default: --until-success.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    shrink: Annotated[
        bool | None,
        typer.Option(
            "--shrink/--no-shrink",
            help="Draw a successful perturbation back to the smallest share that still reaches the goal. Such a "
            "perturbation seldom survives plain rounding to the PNG's 8 bits; see --quantize. Default: on, "
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
            help="Do exactly what the released code does. For global-ssim with the engine recentred, and for --method "
            "perceptual-ball, whose default settings are the paper's in any case.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = False
    quantize: Annotated[
        bool | None,
        typer.Option(
            "--quantize/--no-quantize",
            help="--quantize moves the result itself onto 8-bit pixels, so that array, PNG and tables are of one "
            "image that changes the label and stays in the set. --no-quantize rounds the result for the PNG, whatever "
            "that does. Default: the result is exact, and the PNG is rounded, or where rounding would undo the change "
            "of the label, quantized. result.json says under 'file' which, and what the PNG does.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None


# Steps at each level. Each step towards a ball of features is a problem with derivatives of the network.
SEARCH_STEPS = 10
FEATURE_STEPS: dict[Formulation, int] = {
    ConstraintName.FEATURE_BALL: 5,
    BallMethod.CONSTRAINED: 5,
    BallMethod.PENALISED: 100,
}
# The relative width at which a bracket of levels is closed.
TOLERANCE, FEATURE_TOLERANCE = 0.005, 0.05


@dataclass(frozen=True)
class SearchOptions:
    """How ``minimal`` searches for the least level."""

    engine: Annotated[
        EngineAroundOriginal,
        typer.Option(help="The loop that raises the margin at each level.", rich_help_panel=ENGINE_PANEL),
    ] = EngineAroundOriginal.PROJECTED_GRADIENT
    steps: Annotated[
        int | None,
        count_option(
            at_least=1,
            help=f"The largest number of steps at each level. Default {SEARCH_STEPS}, "
            f"{', '.join(f'{steps} for {name.value}' for name, steps in FEATURE_STEPS.items())}.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    rounds: Annotated[
        int, count_option(at_least=1, help="The largest number of levels for each image.", rich_help_panel=ENGINE_PANEL)
    ] = 20
    tolerance: Annotated[
        float | None,
        number_option(
            help="An image is done when the relative width of its bracket of levels is at most this number, between "
            f"0 and 1. Default {TOLERANCE:g}, {FEATURE_TOLERANCE:g} for balls of features, each of whose steps passes "
            "the network many times.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = None
    candidates: Annotated[
        int,
        count_option(
            at_least=1,
            help="Aim at the nearest class, to first order, among this many classes of largest logit. 1 means the "
            "runner-up, which is chosen again at every step. The option has no effect together with --target.",
            rich_help_panel=ENGINE_PANEL,
        ),
    ] = 10
    target: TargetClass = None
    support: SupportMasks = None
    outside: Outside = False

    def steps_of(self, formulation: Formulation) -> int:
        """``--steps``, or the default for ``formulation``."""
        return FEATURE_STEPS.get(formulation, SEARCH_STEPS) if self.steps is None else self.steps

    def tolerance_of(self, formulation: Formulation) -> float:
        """``--tolerance``, or the default for ``formulation``."""
        default = FEATURE_TOLERANCE if formulation in FEATURE_STEPS else TOLERANCE
        return default if self.tolerance is None else self.tolerance


# The tolerance and the number of iterations of each convex step: of most sets, and of balls of features, whose products
# cost a pass of the network each.
EPS_REL, MAX_ITER = 1e-3, 2000
FEATURE_EPS_REL, FEATURE_MAX_ITER = 0.03, 200
# A search tries many balls that are too small. Close to the least radius more iterations make the steps no better: on
# chelsea at 0.6 of the least radius, five steps of 25, 50 and 200 iterations end at margins of -0.114, -0.114 and
# -0.126, in 34, 47 and 162 seconds of a processor.
FEATURE_SEARCH_MAX_ITER = 25
FEATURE_FORMULATIONS = (ConstraintName.FEATURE_BALL, BallMethod.CONSTRAINED)


@dataclass(frozen=True)
class SolverOptions:
    """The solver of each convex step, or a method that is a formulation of its own."""

    method: Annotated[
        str,
        typer.Option(
            help="The solver method of each convex step; `ssimpert methods` lists the names. Or a perceptual ball "
            "(Elliott, Law, Russell, CVPR 2021) in place of set and engine: perceptual-ball weighs the features' "
            "change against the margin; perceptual-ball-constrained raises the margin while the features stay within "
            "--radius.",
            rich_help_panel=SOLVER_PANEL,
        ),
    ] = "auto"
    eps_rel: Annotated[
        float | None,
        number_option(
            help=f"The certified relative gap at which a step counts as solved. Default {EPS_REL:g}, "
            f"{FEATURE_EPS_REL:g} for balls of features.",
            rich_help_panel=SOLVER_PANEL,
        ),
    ] = None
    max_iter: Annotated[
        int | None,
        count_option(
            help="The largest number of iterations of an iterative solver in each step. "
            f"Default {MAX_ITER}, {FEATURE_MAX_ITER} for balls of features, {FEATURE_SEARCH_MAX_ITER} for these in "
            "minimal.",
            rich_help_panel=SOLVER_PANEL,
        ),
    ] = None
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size",
            help="Let a CVXPY method try a problem that is beyond its size limit.",
            rich_help_panel=SOLVER_PANEL,
        ),
    ] = False

    @property
    def ball_method(self) -> BallMethod | None:
        """The formulation that ``--method`` names; None where it names a solver."""
        return BallMethod(self.method) if self.method in set(BallMethod) else None

    def settings(self, formulation: Formulation, *, searching: bool = False) -> solvers.Settings:
        """The solver's settings for ``formulation``; ``searching``: for its least level.

        Raises:
            ProblemError: a value is out of range.
        """
        import solvers

        values = self.effective(formulation, searching=searching)
        return solvers.Settings(eps_rel=values["eps_rel"], max_iter=values["max_iter"], force=values["any_size"])

    def effective(self, formulation: Formulation, *, searching: bool = False) -> dict[str, Any]:
        """The options as a record has them: as given, or the default for ``formulation``, or the search in it."""
        of_features = formulation in FEATURE_FORMULATIONS
        default_gap = FEATURE_EPS_REL if of_features else EPS_REL
        feature_iterations = FEATURE_SEARCH_MAX_ITER if searching else FEATURE_MAX_ITER
        default_iterations = feature_iterations if of_features else MAX_ITER
        return {
            "method": self.method,
            "eps_rel": default_gap if self.eps_rel is None else self.eps_rel,
            "max_iter": default_iterations if self.max_iter is None else self.max_iter,
            "any_size": self.any_size,
        }
