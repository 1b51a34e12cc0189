"""What every perturbation returns, and whether a result was made from given images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin

# A constraint set, or a rule that makes one for the current references (B, C, H, W).
ConstraintRule = Constraint | Callable[[Tensor], Constraint]

# What can be said of a quantised image and its constraint set.
Verdict = Literal["kept", "within allowance", "outside", "no constraint"]

# How far the clean images of a result, in float32, may be from the images given.
SAME_IMAGE = 1e-5


class StepRow(TypedDict):
    """One step of one image: the margin and label *after* the step."""

    step: int
    image: int
    margin: float
    label: int
    step_length: float
    seconds: float


class SolverRow(StepRow):
    """A step that a solver found, and what it said of it."""

    rel_gap: float
    status: str


class ObjectiveRow(StepRow):
    """A step of descent, and the objective's terms after it, weights included."""

    objective: float
    feature_term: float
    pixel_term: float
    margin_term: float
    gamma: float


@dataclass(frozen=True, eq=False)
class PerturbResult:
    """Perturbed images and what is true of them, one entry per image; failures are returned too.

    Every number is measured on ``adversarial`` as returned, after rounding to its dtype, by a fresh forward pass.

    Attributes:
        adversarial: (B, C, H, W) in [0, 1], in the images' dtype.
        delta: ``adversarial - image``.
        success: (B,) bool, whether the goal is reached: the label changed, or became the target.
        label: (B,) long, the classes that the margin is measured against: the caller's, or ``label_before``.
        label_before, label_after: (B,) long, the model's own labels.
        margin_before, margin_after: (B,), on logits; positive where the goal is reached.
        ssim: (B,), mean SSIM to the clean image (Gaussian 11x11, sigma 1.5, valid region).
        min_window_ssim: (B,), the least SSIM of any whole window at stride 1 (so for tiles also of the windows
            across their borders, which the tiles don't constrain). The window is the constraint's own, with its
            covariance and range, where it is a WindowSSIM or ProductSSIM; else the Gaussian of the index.
        violation: (B,), the excess of ``delta`` over the constraint set around the original image, in the set's own
            unit, at least 0: what rounding to the dtype cost. NaN for re-centred perturbations and without a set.
        contrast_distance: (B,), d2 to the clean image over the whole image (methods B).
        gradient: (B, C, H, W), the margin's gradient at the clean image.
        stationarity_gap: (B,), ``max <grad, s - d>`` over the set at the returned point, bounded from above by the
            solver's certificate: the linear model promises no more margin than this. With :attr:`certified`
            ``"convex step"`` it is the maximum over the convex set that stands for a set which is not convex, around
            the returned point, and no bound over the set itself. NaN for re-centred perturbations, whose set moves
            along, and without a set.
        steps: (B,) long, steps taken.
        messages: (B,), why an image stopped early, or empty.
        history: one row per step and image; more than the margin where the method knows more.
        name: what to call the perturbation in tables.
        margin: the goal.
        constraint: the set, or the rule that makes one; ``None`` for a perturbation that has none.
        settings: how it was made, as plain values.
        seconds: wall-clock time of the whole batch.
    """

    adversarial: Tensor
    delta: Tensor
    success: Tensor
    label: Tensor
    label_before: Tensor
    label_after: Tensor
    margin_before: Tensor
    margin_after: Tensor
    ssim: Tensor
    min_window_ssim: Tensor
    violation: Tensor
    contrast_distance: Tensor
    gradient: Tensor
    stationarity_gap: Tensor
    steps: Tensor
    messages: tuple[str, ...]
    history: tuple[StepRow, ...]
    name: str
    margin: Margin
    constraint: ConstraintRule | None
    settings: dict[str, Any]
    seconds: float

    @property
    def certified(self) -> str | None:
        """What the solver's certificates of the steps speak of. ``"global bound"``: the linear optimum over the set
        itself. ``"convex step"``: over the convex set that stands for a set which is not convex, around each iterate.
        ``"stationary"``: steps end where no convex step gains more, with no bound. ``None`` where no solver took part.
        The margin itself is not concave: of it, they say nothing."""
        return self.settings.get("certified")

    def rows(self) -> list[dict[str, Any]]:
        """The numbers, one dictionary of plain values per image, ready for a table or JSON."""
        norm = torch.linalg.vector_norm(self.delta.double().flatten(1), dim=1)
        largest = self.delta.double().abs().flatten(1).amax(dim=1)
        return [
            {
                "image": k,
                "perturbation": self.name,
                "success": bool(self.success[k]),
                "label_before": int(self.label_before[k]),
                "label_after": int(self.label_after[k]),
                "margin_before": float(self.margin_before[k]),
                "margin_after": float(self.margin_after[k]),
                "ssim": float(self.ssim[k]),
                "min_window_ssim": float(self.min_window_ssim[k]),
                "violation": float(self.violation[k]),
                "contrast_distance": float(self.contrast_distance[k]),
                "l2_norm": float(norm[k]),
                "linf_norm": float(largest[k]),
                "stationarity_gap": float(self.stationarity_gap[k]),
                "certified": self.certified,
                "steps": int(self.steps[k]),
                "message": self.messages[k],
            }
            for k in range(self.success.shape[0])
        ]


@dataclass(frozen=True, eq=False)
class PerceptualBallResult(PerturbResult):
    """What :func:`ssimpert.perceptual_ball_lbfgs` returns: the perturbation, and the objective as measured on it.

    Attributes:
        layers: names of the feature layers.
        gamma: (B,), the weight of the features that the returned image was found with.
        objective_before, objective_after: (B,), with that weight, at the clean and at the perturbed image. The clean
            image has a margin term only.
        feature_term, pixel_term, margin_term: (B,), what ``objective_after`` is the sum of, weights included.
        feature_distance: (B,), ``|phi(x') - phi(x)|``, the root of the sum over layers of mean squared errors.
    """

    layers: tuple[str, ...]
    gamma: Tensor
    objective_before: Tensor
    objective_after: Tensor
    feature_term: Tensor
    pixel_term: Tensor
    margin_term: Tensor
    feature_distance: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """As :meth:`PerturbResult.rows`, with the objective beside."""
        names = ("gamma", "objective_before", "objective_after", "feature_term", "pixel_term", "margin_term")
        return [
            row | {name: float(getattr(self, name)[k]) for name in (*names, "feature_distance")}
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True, eq=False)
class FeatureBallResult(PerturbResult):
    """What :func:`ssimpert.perceptual_ball_constrained` returns: the perturbation, and its true feature distance.

    Attributes:
        layers: names of the feature layers.
        radius: (B,), the feature distance allowed.
        feature_distance: (B,), ``|phi(x') - phi(x)|`` of the image as returned.
    """

    layers: tuple[str, ...]
    radius: Tensor
    feature_distance: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """As :meth:`PerturbResult.rows`, with the feature distance beside."""
        return [
            row | {"radius": float(self.radius[k]), "feature_distance": float(self.feature_distance[k])}
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True, eq=False)
class MinimalBudgetResult(PerturbResult):
    """What :func:`ssimpert.minimal_budget` returns: for each image the end of its bracket that is feasible and
    successful.

    Attributes:
        level: (B,) float64, the least level at which the goal was reached; NaN where it never was.
        failed_level: (B,) float64, the largest level, below ``level`` where there is one, at which the engine failed;
            0 where it never did. The engine is no proof: the goal may be reachable there.
        rounds: (B,) long, levels tried.
    """

    level: Tensor
    failed_level: Tensor
    rounds: Tensor

    def rows(self) -> list[dict[str, Any]]:
        """As :meth:`PerturbResult.rows`, with the levels beside."""
        return [
            row
            | {
                "level": float(self.level[k]),
                "failed_level": float(self.failed_level[k]),
                "rounds": int(self.rounds[k]),
            }
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True, eq=False)
class QuantizedResult(PerturbResult):
    """A perturbation on the grid of 8-bit pixels. Every number is of ``adversarial`` as a PNG of it would be read.

    ``success`` says whether it still fools, ``violation`` by how much it is outside, where there is a set to keep.

    Attributes:
        verdict: (B,), ``"kept"``: inside the constraint set; ``"within allowance"``: outside, but the least SSIM of
            any whole window is at least the threshold less
            :data:`~ssimpert.perturbation.quantization.quantize.ALLOWANCE`; ``"outside"``; ``"no constraint"``:
            without a set around the original image. A :class:`FeatureBallResult` keeps to its radius.
        feasible: (B,) bool, whether the verdict is ``"kept"``.
        excess: (B,) float64, how far outside in the set's own unit, 0 or less inside; NaN without a set.
        windows_outside: (B,) long, windows of a WindowSSIM that don't keep to it; 0 for other sets.
        float_margin: (B,), the margin before quantisation.
        notes: (B,), in words what could not be kept, or empty.
    """

    verdict: tuple[Verdict, ...]
    feasible: Tensor
    excess: Tensor
    windows_outside: Tensor
    float_margin: Tensor
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """As :meth:`PerturbResult.rows`, with what quantisation kept beside."""
        return [
            row
            | {
                "verdict": self.verdict[k],
                "feasible": bool(self.feasible[k]),
                "excess": float(self.excess[k]),
                "windows_outside": int(self.windows_outside[k]),
                "float_margin": float(self.float_margin[k]),
                "note": self.notes[k],
            }
            for k, row in enumerate(super().rows())
        ]


def apart_from(image: Tensor, result: PerturbResult) -> Tensor:
    """How far the clean images of a result, ``adversarial - delta``, are from ``image`` (B, C, H, W): the largest
    difference of a pixel, (B,) float64; NaN where there is one."""
    return (result.adversarial.double() - result.delta.double() - image.double()).abs().flatten(1).amax(dim=1)


def check_matched(image: Tensor, matched_to: PerturbResult, name: str = "matched_to") -> None:
    """Raise :class:`InputError` unless ``matched_to``, which errors call ``name``, perturbs ``image`` (B, C, H, W) and
    is finite."""
    shape = tuple(matched_to.adversarial.shape)
    if shape != tuple(image.shape):
        raise InputError(f"{name} has images of shape {shape}, image has {tuple(image.shape)}")
    if matched_to.adversarial.device != image.device:
        raise InputError(f"{name} is on {matched_to.adversarial.device}, image on {image.device}")
    for k, distance in enumerate(apart_from(image, matched_to).tolist()):
        if not math.isfinite(distance):
            raise InputError(f"{name} has pixels that are NaN or infinite in image {k}")
        if distance > SAME_IMAGE:
            raise InputError(f"{name} was made from other images: image {k} differs by up to {distance:.3g}")
