"""Balls of deep features: ``--constraint feature-ball``, ``--method perceptual-ball`` and its constrained form.

The set ``feature-ball`` is linearised at each clean image, so it is made once model and images are there. The two
methods (Elliott, Law, Russell, CVPR 2021) are whole formulations: they take no engine and no other set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from ssimpert.cli.class_names import class_from_option, margin_for_target
from ssimpert.cli.errors import UsageError
from ssimpert.cli.numbers import number_from_text

if TYPE_CHECKING:
    from torch import Tensor

    import solvers
    from solvers.constraints import Constraint
    from ssimpert.linearization.deep_features import Normalization
    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult
    from ssimpert.perturbation.perceptual_ball.objective import MarginTerm


class BallMethod(StrEnum):
    """The values of ``--method`` that are a formulation and not a solver."""

    PENALISED = "perceptual-ball"
    CONSTRAINED = "perceptual-ball-constrained"


class NormalizationName(StrEnum):
    """How the feature maps are scaled; see :func:`ssimpert.deep_features`."""

    UNIT_CHANNEL = "unit-channel"
    MSE = "mse"
    NONE = "none"


class MarginTermName(StrEnum):
    """What the penalised perceptual ball adds for a margin that is not the one wanted."""

    EQUALITY = "equality"
    HINGE = "hinge"


@dataclass(frozen=True)
class FeatureBallSet:
    """``|J d| <= radius``, within an l2 ball, before there is a model.

    Attributes:
        radius: of the features' ball, in the unit of the normalization.
        layers: the names of the layers; ``None`` for the model's own.
        normalization: as for :func:`ssimpert.deep_features`.
        l2_radius: of the l2 ball; ``None`` for none.
    """

    radius: float
    layers: tuple[str, ...] | None
    normalization: Normalization
    l2_radius: float | None

    def at(self, model: Classifier, images: Tensor) -> Constraint:
        """The set around ``images`` (B, 3, S, S), with the derivative of the model's features there.

        Raises:
            InputError: the model has no such layer.
        """
        import solvers
        from ssimpert.linearization import deep_features, feature_jacobian

        features = deep_features(model, self.layers, self.normalization)
        ball = solvers.FeatureBall(self.radius, feature_jacobian(features, images))
        return ball if self.l2_radius is None else solvers.Intersection([ball, solvers.LpBall(2, self.l2_radius)])

    def check_layers(self, model: Classifier) -> None:
        """Raise :class:`InputError` where the model has no such layer."""
        _check_layers(model, self.layers, self.normalization)


@dataclass(frozen=True)
class PenalisedBall:
    """The arguments of :func:`ssimpert.perceptual_ball_lbfgs`, without model and images.

    Attributes:
        layers, gamma, s, v, margin_term, lower_gamma, faithful: as for :func:`ssimpert.perceptual_ball_lbfgs`.
        target: the class to aim at, by its name or number; None for any class but the image's own.
    """

    layers: tuple[str, ...] | None
    gamma: float
    s: float
    v: float
    margin_term: MarginTerm
    lower_gamma: bool | None
    faithful: bool
    target: str | None

    def perturb(self, model: Classifier, images: Tensor, steps: int, advance: Callable[[], None]) -> PerturbResult:
        """Perturb ``images`` by at most ``steps`` iterations for each weight that is tried."""
        from ssimpert.perturbation import perceptual_ball_lbfgs

        return perceptual_ball_lbfgs(
            model,
            images,
            layers=self.layers,
            gamma=self.gamma,
            s=self.s,
            v=self.v,
            margin_term=self.margin_term,
            targets=self._targets(),
            iterations=steps,
            lower_gamma=self.lower_gamma,
            faithful=self.faithful,
            observer=lambda state: advance(),
        )

    def _targets(self) -> list[int] | list[str] | None:
        if self.target is None:
            return None
        target = class_from_option(self.target)
        if isinstance(target, int):
            return [target]
        return [target]

    @property
    def strength(self) -> float:
        """How much the features may change, at least as far as the order goes: one over their weight."""
        return 1 / self.gamma

    strength_unit = "1 / gamma"
    # Nothing tells which strength a perturbation would have needed.
    needed_strength = None

    def at_strength(self, strength: float) -> PenalisedBall:
        """The same run with another weight on the features, which stays."""
        return replace(self, gamma=1 / strength, lower_gamma=False)

    def check_layers(self, model: Classifier) -> None:
        """Raise :class:`InputError` where the model has no such layer."""
        _check_layers(model, self.layers, "mse")


@dataclass(frozen=True)
class ConstrainedBall:
    """The arguments of :func:`ssimpert.perceptual_ball_constrained`, without model and images.

    Attributes:
        radius, layers, normalization: as for :func:`ssimpert.perceptual_ball_constrained`.
        step_norm, stop_at_success, shrink: as for :func:`ssimpert.perceptual_ball_constrained`.
        target: the class to aim at, by its name or number; None for any class but the image's own.
        settings: of the solver.
    """

    radius: float
    layers: tuple[str, ...] | None
    normalization: Normalization
    step_norm: float
    stop_at_success: bool
    shrink: bool | None
    target: str | None
    settings: solvers.Settings

    def perturb(self, model: Classifier, images: Tensor, steps: int, advance: Callable[[], None]) -> PerturbResult:
        """Perturb ``images`` by at most ``steps`` convex steps."""
        from ssimpert.perturbation import perceptual_ball_constrained

        return perceptual_ball_constrained(
            model,
            images,
            self.radius,
            layers=self.layers,
            normalization=self.normalization,
            step_norm=self.step_norm,
            steps=steps,
            margin=margin_for_target(self.target, model),
            stop_at_success=self.stop_at_success,
            shrink=self.shrink,
            settings=self.settings,
            observer=lambda state: advance(),
        )

    @property
    def strength(self) -> float:
        """How much the features may change: the radius."""
        return self.radius

    strength_unit = "radius"

    @staticmethod
    def needed_strength(result: PerturbResult) -> float:
        """The radius that a perturbation needs: its true feature distance."""
        from ssimpert.perturbation import FeatureBallResult

        assert isinstance(result, FeatureBallResult)
        return float(result.feature_distance)

    def at_strength(self, strength: float) -> ConstrainedBall:
        """The same run with another radius."""
        return replace(self, radius=strength)

    def check_layers(self, model: Classifier) -> None:
        """Raise :class:`InputError` where the model has no such layer."""
        _check_layers(model, self.layers, self.normalization)


PerceptualBall = PenalisedBall | ConstrainedBall


def feature_ball_set(values: dict[str, Any]) -> FeatureBallSet:
    """The set that the options describe; ``values`` has one for every option of ``feature-ball``.

    Raises:
        UsageError: a value is out of range, or there is no layer.
    """
    text, l2_radius = values["l2_radius"], None
    if text != "none":
        l2_radius = _positive("--l2-radius", number_from_text("--l2-radius", text, "a number or 'none'"))
    return FeatureBallSet(
        _positive("--radius", float(values["radius"])),
        _some_layers(values["layers"], "feature-ball"),
        NormalizationName(values["normalization"]).value,
        l2_radius,
    )


def penalised_ball(values: dict[str, Any], *, wanted_given: bool, faithful: bool, target: str | None) -> PenalisedBall:
    """The run that the options describe.

    Args:
        values: one for every option of ``perceptual-ball``.
        wanted_given: whether ``--wanted-margin`` was given.
        faithful: whether ``--faithful`` was given.
        target: of ``--target``.

    Raises:
        UsageError: a value is out of range, or options contradict one another.
    """
    if faithful and values["lower_gamma"]:
        raise UsageError("--lower-gamma is no part of the published method; drop it, or --faithful")
    if faithful and values["margin_term"] == MarginTermName.HINGE:
        raise UsageError("--margin-term hinge is no part of the published method; drop it, or --faithful")
    if target is not None and not wanted_given:
        raise UsageError(
            f"--target {target} by perceptual-ball drives the logit of this class to a value; say which by "
            "--wanted-margin, such as --wanted-margin 15"
        )
    return PenalisedBall(
        layers_from_option(values["layers"]),
        gamma=_weight("--gamma", values["gamma"]),
        s=_weight("--pixel-weight", values["pixel_weight"]),
        v=values["wanted_margin"],
        margin_term=MarginTermName(values["margin_term"]).value,
        lower_gamma=values["lower_gamma"],
        faithful=faithful,
        target=target,
    )


def constrained_ball(
    values: dict[str, Any],
    settings: solvers.Settings,
    *,
    stop_at_success: bool,
    shrink: bool | None,
    target: str | None,
) -> ConstrainedBall:
    """The run that the options describe.

    Args:
        values: one for every option of ``perceptual-ball-constrained``.
        settings: of the solver.
        stop_at_success: whether an image stops at its goal.
        shrink: as for :func:`ssimpert.perceptual_ball_constrained`.
        target: of ``--target``.

    Raises:
        UsageError: a value is out of range, or there is no layer.
    """
    return ConstrainedBall(
        _positive("--radius", float(values["radius"])),
        _some_layers(values["layers"], "perceptual-ball-constrained"),
        NormalizationName(values["normalization"]).value,
        _positive("--step-norm", values["step_norm"]),
        stop_at_success,
        shrink,
        target,
        settings,
    )


def layers_from_option(names: list[str] | None) -> tuple[str, ...] | None:
    """The layers of ``--layers``, which may be repeated and may hold commas.

    ``None`` without the option: the model's own layers. The word "none" alone means no layer at all.

    Raises:
        UsageError: an empty name, or one that is given twice.
    """
    if names is None or not names:
        return None
    found = [name.strip() for text in names for name in text.split(",")]
    if found == ["none"]:
        return ()
    for name in found:
        if not name:
            raise UsageError(f"--layers {' '.join(names)!r} has an empty name; give names such as blocks.2,blocks.4")
        if found.count(name) > 1:
            raise UsageError(f"--layers names {name!r} twice")
    return tuple(found)


def _some_layers(names: list[str] | None, formulation: Literal["feature-ball", "perceptual-ball-constrained"]) -> Any:
    layers = layers_from_option(names)
    if layers == ():
        raise UsageError(f"--layers none leaves {formulation} no feature to bound; name a layer")
    return layers


# Every number of the command line is finite: see ssimpert.cli.numbers.
def _positive(option: str, value: float) -> float:
    if value <= 0:
        raise UsageError(f"{option} must be positive, got {value:g}")
    return value


def _weight(option: str, value: float) -> float:
    if value < 0:
        raise UsageError(f"{option} must be at least 0, got {value:g}")
    return value


def _check_layers(model: Classifier, layers: tuple[str, ...] | None, normalization: Normalization) -> None:
    from ssimpert.linearization import deep_features

    deep_features(model, layers, normalization)
