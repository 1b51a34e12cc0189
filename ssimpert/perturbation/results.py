"""What every perturbation returns: results, their parts, and whether a result was made from given images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Literal, Self

import torch
from torch import Tensor

from solvers.constraints import Constraint, Intersection
from solvers.printing import Printed, Summary, cells, counted, image_numbers, image_shape
from ssimpert.errors import InputError
from ssimpert.linearization import Margin
from ssimpert.models.forward_passes import Model
from ssimpert.notebook_pictures import perturbation_pictures
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.history import StepRow, renumbered
from ssimpert.printing import changes, norms, shares_below_one

# A constraint set, or a rule that makes one for the current references (B, C, H, W).
ConstraintRule = Constraint | Callable[[Tensor], Constraint]

# What can be said of a quantised image and its constraint set.
Verdict = Literal["kept", "within allowance", "outside", "no constraint"]

# How far the clean images of a result, in float32, may be from the images given.
SAME_IMAGE = 1e-5

# The fields that are tuples of one entry per image, and the settings that may be lists of one entry per image.
IMAGE_TUPLES, IMAGE_SETTINGS = ("messages", "verdict", "notes"), ("label", "radius")


@dataclass(frozen=True, eq=False)
class FinalIterate:
    """Where a method ended, and how it got there.

    :func:`~ssimpert.perturbation.evaluation.measure` makes a result of it.

    Attributes:
        images: (B, C, H, W) in the pixels of [0, 1], any floating dtype.
        steps: (B,) long, steps taken.
        messages: (B,), why an image stopped early, or empty.
        history: rows per step and image.
        shrink_share: (B,) float64, the share of the perturbations found that was kept; ``None`` where all of it was.
    """

    images: Tensor
    steps: Tensor
    messages: Sequence[str]
    history: Sequence[StepRow] = ()
    shrink_share: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class PerturbResult(Printed):
    """Perturbed images and what was measured on them, one entry per image; failures are returned too.

    Every number is measured on ``adversarial`` as returned, after rounding to its dtype, by a fresh forward pass.

    Attributes:
        adversarial: (B, C, H, W) in [0, 1], in the images' dtype.
        delta: ``adversarial - image``.
        success: (B,) bool, whether the goal is reached: the label changed, or became the target.
        label: (B,) long, the classes that the margin is measured against: the caller's, or ``label_before``.
        label_before, label_after: (B,) long, the model's own labels.
        margin_before, margin_after: (B,), on logits; positive where the goal is reached.
        ssim: (B,), mean SSIM to the clean image (Gaussian 11x11, sigma 1.5, valid region).
        min_window_ssim: (B,), the least SSIM of any whole window at stride 1. For tiles this includes the windows
            across their borders, which tiles do not constrain. The window, its covariance and its range are those of
            the constraint where the constraint is a WindowSSIM or ProductSSIM; else it is the Gaussian of the index.
        violation: (B,), the excess of ``delta`` over the constraint set around the original image, in the set's own
            unit, at least 0. Rounding to the dtype may cause it. NaN for re-centred perturbations and without a set.
        contrast_distance: (B,), d2 to the clean image over the whole image (methods B).
        gradient: (B, C, H, W), the margin's gradient at the clean image.
        stationarity_gap: (B,), an upper bound, by the solver's certificate, on ``max <grad, s - d>`` over the set at
            the returned point: the linear model promises no more margin than this. Where :attr:`certified` is
            ``"convex step"``, the maximum is over the convex set that replaces a set which is not convex, around the
            returned point; it bounds nothing over the set itself. NaN for re-centred perturbations, whose set moves
            along, and without a set.
        steps: (B,) long, steps taken.
        shrink_share: (B,) float64, the share of the perturbation found that was kept: below 1 where it was drawn back
            to what the goal needs (``shrink``), else 1.
        messages: (B,), why an image stopped early, or empty.
        history: one row per step and image: a :class:`StepRow`, or one of the rows that add to it. Its margins are
            those of the steps, before anything was drawn back.
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
    shrink_share: Tensor
    messages: tuple[str, ...]
    history: tuple[StepRow, ...]
    name: str
    margin: Margin
    constraint: ConstraintRule | None
    settings: dict[str, Any]
    seconds: float

    @property
    def certified(self) -> str | None:
        """What the solver's certificates of the steps speak of.

        ``"global bound"``: the linear optimum over the set itself. ``"convex step"``: the linear optimum over the
        convex set that replaces a set which is not convex, around each iterate. ``"stationary"``: steps end where no
        convex step gains more, with no bound. ``None`` where no solver took part. No certificate speaks of the margin
        itself, which is not concave.
        """
        return self.settings.get("certified")

    def summary(self) -> Summary:
        """What the result prints: what became of the first images."""
        images, reached = len(self.success), int(self.success.sum())
        done = f"{reached} of {counted(images)} reached the goal"
        return Summary(
            f"{type(self).__name__} {self.name!r}: {done}, {image_shape(self.adversarial)}, {self.seconds:.3g} s",
            {
                "image": image_numbers(images),
                "success": cells(self.success),
                "label": changes(self.label_before, self.label_after),
                "margin": changes(self.margin_before, self.margin_after),
                **self._summary_columns(),
                "SSIM": cells(self.ssim, ".6f"),
                "l2 norm": norms(self.delta),
                "share kept": shares_below_one(self.shrink_share),
                "message": cells(self.messages),
            },
            images,
            [] if self.constraint is None else [f"constraint: {self.constraint!r}"],
        )

    def _summary_columns(self) -> dict[str, list[str]]:
        """Further columns of :meth:`summary`."""
        return {}

    def _repr_html_(self) -> str:
        return super()._repr_html_() + perturbation_pictures(self.adversarial, self.delta)

    @classmethod
    def extending(cls, result: PerturbResult, **fields_added: Any) -> Self:
        """``result`` as one of this class, which adds these fields."""
        return cls(**{entry.name: getattr(result, entry.name) for entry in fields(PerturbResult)}, **fields_added)

    def select(self, index: Tensor) -> Self:
        """The images at ``index``, (K,) long, in this order; each image at most once."""
        chosen, batch = index.tolist(), len(self.success)
        number_of = {image: number for number, image in enumerate(chosen)}
        columns: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                columns[entry.name] = value[index.to(value.device)]
            elif entry.name in IMAGE_TUPLES:
                columns[entry.name] = tuple(value[image] for image in chosen)
        constraint = self.constraint
        if isinstance(constraint, Constraint):
            constraint = constraint.select(index, batch)
        lists = {key: self.settings[key] for key in IMAGE_SETTINGS if isinstance(self.settings.get(key), list)}
        return replace(
            self,
            **columns,
            history=renumbered(self.history, number_of),
            constraint=constraint,
            settings=self.settings | {key: [values[image] for image in chosen] for key, values in lists.items()},
        )

    @classmethod
    def concatenate(cls, results: Sequence[Self]) -> Self:
        """Results of the parts of a batch, in order, as one: what :meth:`select` took apart.

        The name, the goal, the constraint and the settings are those of the first part, with two exceptions. Labels and
        radii in the settings are joined where every part has a list of its own; else they are ``None`` where the parts
        differ. The constraint is ``None`` where the parts differ in it, or where it has numbers of its own for every
        image: give the whole one by :func:`dataclasses.replace`.

        Raises:
            InputError: no results, or results of different classes.
        """
        kinds = {type(result).__name__ for result in results}
        if len(kinds) != 1:
            raise InputError(f"concatenate needs results of one class, got {', '.join(sorted(kinds)) or 'none'}")
        first = results[0]
        columns: dict[str, Any] = {}
        for entry in fields(first):
            values = [getattr(result, entry.name) for result in results]
            if isinstance(values[0], Tensor):
                columns[entry.name] = torch.cat(values)
            elif entry.name in IMAGE_TUPLES:
                columns[entry.name] = tuple(chain.from_iterable(values))
        history: tuple[StepRow, ...] = ()
        offset = 0  # images in the parts so far
        for result in results:
            batch = len(result.success)
            history += renumbered(result.history, {image: image + offset for image in range(batch)})
            offset += batch
        settings = dict(first.settings)
        for key in settings.keys() & set(IMAGE_SETTINGS):
            parts = [result.settings.get(key) for result in results]
            if all(isinstance(part, list) for part in parts):
                settings[key] = list(chain.from_iterable(parts))  # type: ignore[arg-type]
            elif any(part != parts[0] for part in parts):
                settings[key] = None
        return replace(
            first,
            **columns,
            history=history,
            constraint=_common_constraint([result.constraint for result in results]),
            settings=settings,
            seconds=sum(result.seconds for result in results),
        )

    def goal(self, model: Model) -> Goal:
        """What the perturbation was to reach; ``model`` is the classifier that it was made for."""
        return Goal(model, self.label, self.margin)

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
                "shrink_share": float(self.shrink_share[k]),
                "message": self.messages[k],
            }
            for k in range(self.success.shape[0])
        ]


@dataclass(frozen=True, eq=False, repr=False)
class PerceptualBallResult(PerturbResult):
    """What :func:`ssimpert.perceptual_ball_lbfgs` returns: the perturbation, and the objective as measured on it.

    Attributes:
        layers: names of the feature layers.
        gamma: (B,), the weight of the features with which the returned image was found.
        objective_before, objective_after: (B,), the objective with that weight at the clean and at the perturbed
            image. At the clean image only the margin term is not 0.
        feature_term, pixel_term, margin_term: (B,), the weighted terms, whose sum is ``objective_after``.
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

    def _summary_columns(self) -> dict[str, list[str]]:
        return {"gamma": cells(self.gamma), "feature distance": cells(self.feature_distance)}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of :meth:`PerturbResult.rows`, with the objective and its terms."""
        names = ("gamma", "objective_before", "objective_after", "feature_term", "pixel_term", "margin_term")
        return [
            row | {name: float(getattr(self, name)[k]) for name in (*names, "feature_distance")}
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True, eq=False, repr=False)
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

    def _summary_columns(self) -> dict[str, list[str]]:
        return {"radius": cells(self.radius), "feature distance": cells(self.feature_distance)}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of :meth:`PerturbResult.rows`, with the radius and the feature distance."""
        return [
            row | {"radius": float(self.radius[k]), "feature_distance": float(self.feature_distance[k])}
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True, eq=False, repr=False)
class MinimalBudgetResult(PerturbResult):
    """What :func:`ssimpert.minimal_budget` returns: for each image the successful end of its bracket.

    Attributes:
        level: (B,) float64, the least level at which the goal was reached; NaN where it never was.
        failed_level: (B,) float64, the largest level at which the engine failed, below ``level`` where there is one;
            0 where it never did. A failure of the engine proves nothing: the goal may be reachable at this level.
        rounds: (B,) long, levels tried.
    """

    level: Tensor
    failed_level: Tensor
    rounds: Tensor

    def _summary_columns(self) -> dict[str, list[str]]:
        return {"level": cells(self.level), "failed level": cells(self.failed_level), "rounds": cells(self.rounds)}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of :meth:`PerturbResult.rows`, with the levels."""
        return [
            row
            | {
                "level": float(self.level[k]),
                "failed_level": float(self.failed_level[k]),
                "rounds": int(self.rounds[k]),
            }
            for k, row in enumerate(super().rows())
        ]


@dataclass(frozen=True, eq=False, repr=False)
class QuantizedResult(PerturbResult):
    """What :func:`ssimpert.quantize` returns: a perturbation on the grid of 8-bit pixels.

    Every number is measured on ``adversarial`` as it is read back from a PNG file. ``success`` says whether the
    quantised image still reaches the goal, ``violation`` how far outside the set it is, where there is a set.

    Attributes:
        verdict: (B,), ``"kept"``: inside the constraint set; ``"within allowance"``: outside, but the least SSIM of
            any whole window is at least the threshold less
            :data:`~ssimpert.perturbation.quantization.quantize.ALLOWANCE`; ``"outside"``; ``"no constraint"``:
            without a set around the original image. A :class:`FeatureBallResult` keeps to its radius.
        feasible: (B,) bool, whether the verdict is ``"kept"``.
        excess: (B,) float64, how far outside the set, in the set's own unit; 0 or less inside, NaN without a set.
        windows_outside: (B,) long, windows of a WindowSSIM that violate it; 0 for other sets.
        float_margin: (B,), the margin before quantisation.
        notes: (B,), in words what quantisation could not keep, or empty.
    """

    verdict: tuple[Verdict, ...]
    feasible: Tensor
    excess: Tensor
    windows_outside: Tensor
    float_margin: Tensor
    notes: tuple[str, ...]

    def _summary_columns(self) -> dict[str, list[str]]:
        return {"verdict": cells(self.verdict), "note": cells(self.notes)}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of :meth:`PerturbResult.rows`, with what quantisation kept."""
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


def _common_constraint(constraints: Sequence[ConstraintRule | None]) -> ConstraintRule | None:
    """The constraint that all parts of a batch share; ``None`` where they differ, or where it holds tensors, whose
    numbers are those of one part's images."""
    first = constraints[0]
    if any(isinstance(constraint, Constraint) and _holds_tensors(constraint) for constraint in constraints):
        return None
    if all(other is first for other in constraints):
        return first
    # Sets that may hold tensors compare by identity, so their numbers are compared here.
    alike = isinstance(first, Constraint) and all(type(other) is type(first) for other in constraints)
    return first if alike and all(vars(other) == vars(first) for other in constraints) else None


def _holds_tensors(constraint: Constraint) -> bool:
    members = constraint.sets if isinstance(constraint, Intersection) else (constraint,)
    return any(isinstance(value, Tensor) for member in members for value in vars(member).values())


def apart_from(image: Tensor, result: PerturbResult) -> Tensor:
    """How far the clean images of a result, ``adversarial - delta``, are from ``image`` (B, C, H, W).

    Returns:
        The largest difference of a pixel, (B,) float64; NaN where a pixel is NaN.
    """
    return (result.adversarial.double() - result.delta.double() - image.double()).abs().flatten(1).amax(dim=1)


def check_made_from(image: Tensor, result: PerturbResult, name: str = "result") -> None:
    """Raise :class:`InputError` unless ``result`` is a finite perturbation of the images ``image``.

    Args:
        image: the clean images, (B, C, H, W).
        result: the perturbation.
        name: what errors call ``result``.
    """
    parts = {"adversarial": "images", "delta": "delta", "gradient": "gradient"}
    if not all(isinstance(getattr(result, field, None), Tensor) for field in parts):
        raise InputError(f"{name} must be a PerturbResult, got {type(result).__name__}")
    for field, what in parts.items():
        values = getattr(result, field)
        if values.shape != image.shape:
            raise InputError(f"{name} has {what} of shape {tuple(values.shape)}, image has {tuple(image.shape)}")
        if values.device != image.device:
            raise InputError(f"{name} is on {values.device}, image on {image.device}; bring both to one device")
    for k, distance in enumerate(apart_from(image, result).tolist()):
        if not math.isfinite(distance):
            raise InputError(f"{name} has pixels that are NaN or infinite in image {k}")
        if distance > SAME_IMAGE:
            raise InputError(f"{name} was made from other images: image {k} differs by up to {distance:.3g}")
