"""The options of the engine, of the search for the least level, and of the solver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.constraints import Formulation
from ssimpert.cli.engines import EngineAroundOriginal, EngineName
from ssimpert.cli.feature_balls import (
    BallMethod,
)
from ssimpert.cli.numbers import count_option, number_option
from ssimpert.formulations.options import (
    EPS_REL,
    FEATURE_EPS_REL,
    FEATURE_MAX_ITER,
    FEATURE_SEARCH_MAX_ITER,
    FEATURE_SEARCH_STEPS,
    FEATURE_SEARCH_TOLERANCE,
    MAX_ITER,
    SEARCH_STEPS,
    SEARCH_TOLERANCE,
    default_steps,
    search_tolerance,
    solver_defaults,
)

if TYPE_CHECKING:
    import solvers

ENGINE_PANEL, SOLVER_PANEL = "Engine", "Solver"

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
            f"{', '.join(f'{steps} for {name.value}' for name, steps in FEATURE_SEARCH_STEPS.items())}.",
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
            f"0 and 1. Default {SEARCH_TOLERANCE:g}, {FEATURE_SEARCH_TOLERANCE:g} for balls of features, each of whose "
            "steps passes the network many times.",
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
        return self.steps or default_steps(formulation, searches=True)

    def tolerance_of(self, formulation: Formulation) -> float:
        """``--tolerance``, or the default for ``formulation``."""
        return search_tolerance(formulation) if self.tolerance is None else self.tolerance


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
        default_gap, default_iterations = solver_defaults(formulation, searches=searching)
        return {
            "method": self.method,
            "eps_rel": default_gap if self.eps_rel is None else self.eps_rel,
            "max_iter": default_iterations if self.max_iter is None else self.max_iter,
            "any_size": self.any_size,
        }
