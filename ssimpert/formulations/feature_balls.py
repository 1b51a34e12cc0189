"""Balls of deep features before there is a model: the set ``feature-ball`` and the two perceptual balls.

The set ``feature-ball`` is linearised at each clean image, so it is made once model and images are there. The two
methods (Elliott, Law, Russell, CVPR 2021) are whole formulations: they take no engine and no other set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ssimpert.formulations.names import BallMethod, ConstraintName, MarginTermName, NormalizationName
from ssimpert.formulations.options import OptionFault

if TYPE_CHECKING:
    from torch import Tensor

    import solvers
    from solvers.constraints import Constraint
    from ssimpert.linearization import Margin
    from ssimpert.linearization.deep_features import Normalization
    from ssimpert.models import Classifier
    from ssimpert.perturbation import PerturbResult
    from ssimpert.perturbation.perceptual_ball.objective import MarginTerm


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
        target: the class to aim at, by its number or name; ``None`` for any class but the image's own.
    """

    layers: tuple[str, ...] | None
    gamma: float
    s: float
    v: float
    margin_term: MarginTerm
    lower_gamma: bool | None
    faithful: bool
    target: int | str | None

    def perturb(
        self, model: Classifier, images: Tensor, steps: int, advance: Callable[[], None] | None = None
    ) -> PerturbResult:
        """Perturb ``images`` by at most ``steps`` iterations for each weight that is tried."""
        from ssimpert.perturbation import perceptual_ball_lbfgs

        # A set of classes, the same for all images.
        targets: Any = None if self.target is None else [self.target]
        return perceptual_ball_lbfgs(
            model,
            images,
            layers=self.layers,
            gamma=self.gamma,
            s=self.s,
            v=self.v,
            margin_term=self.margin_term,
            targets=targets,
            iterations=steps,
            lower_gamma=self.lower_gamma,
            faithful=self.faithful,
            observer=None if advance is None else lambda state: advance(),
        )

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
        target: the class to aim at, by its number or name; ``None`` for any class but the image's own.
        settings: of the solver.
        method: of the solver.
    """

    radius: float
    layers: tuple[str, ...] | None
    normalization: Normalization
    step_norm: float
    stop_at_success: bool
    shrink: bool | None
    target: int | str | None
    settings: solvers.Settings
    method: str = "auto"

    def perturb(
        self, model: Classifier, images: Tensor, steps: int, advance: Callable[[], None] | None = None
    ) -> PerturbResult:
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
            margin=target_margin(self.target),
            stop_at_success=self.stop_at_success,
            shrink=self.shrink,
            method=self.method,
            settings=self.settings,
            observer=None if advance is None else lambda state: advance(),
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


def target_margin(target: int | str | None) -> Margin:
    """The margin that aims at a class, by its number or name; without a target any class but the image's own."""
    from ssimpert.linearization import Targeted, Untargeted

    return Untargeted() if target is None else Targeted(target)


def feature_ball_set(values: Mapping[str, Any]) -> FeatureBallSet:
    """The set that the options describe; ``values`` has one for every option of ``feature-ball``.

    Raises:
        OptionFault: a value is out of range, or there is no layer.
    """
    l2_radius = values["l2_radius"]
    return FeatureBallSet(
        _positive("radius", float(values["radius"])),
        _some_layers(values["layers"], ConstraintName.FEATURE_BALL),
        NormalizationName(values["normalization"]).value,
        None if l2_radius is None else _positive("l2_radius", l2_radius),
    )


def penalised_ball(
    values: Mapping[str, Any], *, wanted_given: bool, faithful: bool, target: int | str | None
) -> PenalisedBall:
    """The run that the options describe.

    Args:
        values: one for every option of ``perceptual-ball``.
        wanted_given: whether ``wanted_margin`` was given, and is not the default.
        faithful: whether the published method is asked for.
        target: the class to aim at, by its number or name.

    Raises:
        OptionFault: a value is out of range, or options contradict one another.
    """
    if faithful and values["lower_gamma"]:
        raise OptionFault(
            "lower_gamma",
            lambda name: f"{name('lower_gamma')} is no part of the published method; drop it, or {name('faithful')}",
        )
    if faithful and values["margin_term"] == MarginTermName.HINGE:
        raise OptionFault(
            "margin_term",
            lambda name: (
                f"{name('margin_term')} hinge is no part of the published method; drop it, or {name('faithful')}"
            ),
        )
    if target is not None and not wanted_given:
        raise OptionFault(
            "target",
            lambda name: (
                f"{name('target')} {target} by perceptual-ball drives the logit of this class to a value; say which by "
                f"{name('wanted_margin')}, such as {name('wanted_margin')} 15"
            ),
        )
    return PenalisedBall(
        checked_layers(values["layers"]),
        gamma=_weight("gamma", values["gamma"]),
        s=_weight("pixel_weight", values["pixel_weight"]),
        v=values["wanted_margin"],
        margin_term=MarginTermName(values["margin_term"]).value,
        lower_gamma=values["lower_gamma"],
        faithful=faithful,
        target=target,
    )


def constrained_ball(
    values: Mapping[str, Any],
    settings: solvers.Settings,
    *,
    stop_at_success: bool,
    shrink: bool | None,
    target: int | str | None,
    method: str = "auto",
) -> ConstrainedBall:
    """The run that the options describe.

    Args:
        values: one for every option of ``perceptual-ball-constrained``.
        settings: of the solver.
        stop_at_success: whether an image stops at its goal.
        shrink: as for :func:`ssimpert.perceptual_ball_constrained`.
        target: the class to aim at, by its number or name.
        method: of the solver.

    Raises:
        OptionFault: a value is out of range, or there is no layer.
    """
    return ConstrainedBall(
        _positive("radius", float(values["radius"])),
        _some_layers(values["layers"], BallMethod.CONSTRAINED),
        NormalizationName(values["normalization"]).value,
        _positive("step_norm", values["step_norm"]),
        stop_at_success,
        shrink,
        target,
        settings,
        method,
    )


def checked_layers(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names of layers; ``None`` for the model's own, an empty tuple for no layer at all.

    Raises:
        OptionFault: an empty name, or one that is given twice.
    """
    for entry in names or ():
        if not entry:
            raise OptionFault(
                "layers",
                lambda name: (
                    f"{name('layers')} {' '.join(names or ())!r} has an empty name; give names such as "
                    "blocks.2,blocks.4"
                ),
            )
        if names is not None and names.count(entry) > 1:
            raise OptionFault("layers", lambda name, twice=entry: f"{name('layers')} names {twice!r} twice")  # type: ignore[misc]
    return names


def _some_layers(names: tuple[str, ...] | None, formulation: ConstraintName | BallMethod) -> tuple[str, ...] | None:
    layers = checked_layers(names)
    if layers == ():
        raise OptionFault(
            "layers",
            lambda name: f"{name('layers')} none leaves {formulation.value} no feature to bound; name a layer",
        )
    return layers


# Every number of an option is finite: whoever reads options sees to that.
def _positive(option: str, value: float) -> float:
    if value <= 0:
        raise OptionFault(option, lambda name: f"{name(option)} must be positive, got {value:g}")
    return value


def _weight(option: str, value: float) -> float:
    if value < 0:
        raise OptionFault(option, lambda name: f"{name(option)} must be at least 0, got {value:g}")
    return value


def _check_layers(model: Classifier, layers: tuple[str, ...] | None, normalization: Normalization) -> None:
    from ssimpert.linearization import deep_features

    deep_features(model, layers, normalization)
