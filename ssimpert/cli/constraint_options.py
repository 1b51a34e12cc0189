"""The options of the constraint set: ``ConstraintOptions``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.constraints import ConstraintName, Formulation, build_constraint, option_help, values_of
from ssimpert.cli.feature_balls import (
    FeatureBallSet,
    MarginTermName,
    NormalizationName,
    layers_from_option,
)
from ssimpert.cli.numbers import as_number, count_option, number_option

if TYPE_CHECKING:
    from solvers.constraints import Constraint

SET_PANEL = "Constraint set"


def _of_set(option: str, text: str, default: str | None = None) -> Any:
    return typer.Option(help=option_help(option, text, default), rich_help_panel=SET_PANEL)


def _number_of_set(option: str, text: str) -> Any:
    return number_option(help=option_help(option, text), rich_help_panel=SET_PANEL)


def _count_of_set(option: str, text: str) -> Any:
    return count_option(help=option_help(option, text), rich_help_panel=SET_PANEL)


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
