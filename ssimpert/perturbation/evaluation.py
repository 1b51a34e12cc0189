"""What is true of perturbed images, by fresh forward passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import all_finite
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.metrics import contrast_distance, min_window_ssim, ssim
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.results import ConstraintRule, FinalIterate, PerturbResult

# The sets that bound the SSIM of every window; each has a window of its own.
WINDOWED_SETS = (solvers.WindowSSIM, solvers.ProductSSIM)


def measure(
    goal: Goal,
    image: Tensor,
    final: FinalIterate,
    *,
    step_solver: StepSolver | None,
    constraint: ConstraintRule | None,
    name: str,
    settings: dict[str, Any],
    seconds: float = 0.0,
) -> PerturbResult:
    """Round the final iterates to the images' dtype, and measure the rounded images by fresh forward passes.

    Args:
        goal: what was to be reached.
        image: the clean images, (B, C, H, W) in [0, 1].
        final: where the method ended.
        step_solver: solves the steps within a set around the original images; ``None`` where there is no such set.
        constraint: the set, or the rule that makes one; ``None`` for a perturbation that has none.
        name: what tables call the perturbation.
        settings: how it was made, as plain values.
        seconds: wall-clock time of the whole batch.
    """
    adversarial = final.images.to(image.dtype)
    before, after = goal.linearize(image), goal.decide(adversarial)
    return PerturbResult(
        adversarial=adversarial,
        delta=adversarial - image,
        success=after.success,
        label=goal.label,
        label_before=before.logits.argmax(dim=1),
        label_after=after.label,
        margin_before=before.value,
        margin_after=after.margin,
        ssim=ssim(image, adversarial, data_range=1.0),
        min_window_ssim=least_window_ssim(image, adversarial, constraint),
        violation=_violation(image, adversarial, None if step_solver is None else constraint),
        contrast_distance=contrast_distance(image, adversarial),
        gradient=before.gradient,
        stationarity_gap=_stationarity_gap(goal, image, final.images, step_solver),
        steps=final.steps,
        shrink_share=_shares(final, image),
        messages=tuple(final.messages),
        history=tuple(final.history),
        name=name,
        margin=goal.margin,
        constraint=constraint,
        settings=settings,
        seconds=seconds,
    )


def _shares(final: FinalIterate, image: Tensor) -> Tensor:
    whole = torch.ones(len(image), dtype=torch.float64, device=image.device)
    return whole if final.shrink_share is None else final.shrink_share


def remeasure(
    model: Model, image: Tensor, result: PerturbResult, adversarial: Tensor, *, window_of: ConstraintRule | None
) -> PerturbResult:
    """``result`` with other perturbed images in the place of its own, measured afresh; its history stays.

    Args:
        model: the classifier that ``result`` is about.
        image: the clean images, (B, C, H, W).
        result: the perturbation of these images.
        adversarial: the perturbed images, (B, C, H, W).
        window_of: the constraint whose window ``min_window_ssim`` uses.
    """
    adversarial = adversarial.to(image.dtype)
    after = result.goal(model).decide(adversarial)
    return replace(
        result,
        adversarial=adversarial,
        delta=adversarial - image,
        success=after.success,
        label_after=after.label,
        margin_after=after.margin,
        ssim=ssim(image, adversarial, data_range=1.0),
        min_window_ssim=least_window_ssim(image, adversarial, window_of),
        violation=_violation(image, adversarial, result.constraint),
        contrast_distance=contrast_distance(image, adversarial),
        stationarity_gap=torch.full_like(after.margin, float("nan")),
    )


def require_sound_margins(margin: Tensor) -> None:
    """Raise :class:`InputError` where no clean image has a finite margin, (B,). Nothing can be perturbed then."""
    if not bool(margin.isfinite().any()):
        raise InputError(
            f"the margin at image 0 is {float(margin[0])}: the model gives NaN or infinite logits for every image, or "
            "logits for which the margin is not defined"
        )


def require_sound_gradients(result: PerturbResult) -> None:
    """Raise :class:`InputError` where no image has a finite gradient. No image was perturbed then."""
    bad = (~result.gradient.isfinite()).flatten(1).sum(dim=1)
    if bool((bad > 0).all()):
        raise InputError(
            f"the margin's gradient at image 0 has {int(bad[0])} NaN or infinite values of "
            f"{result.gradient[0].numel()}, and no image's is finite; check the model's weights and the images"
        )


def least_window_ssim(image: Tensor, adversarial: Tensor, constraint: ConstraintRule | None) -> Tensor:
    """The least SSIM of any whole window, (B,).

    The window is that of the constraint where the constraint is a WindowSSIM or a ProductSSIM, or has one among its
    sets. Else the window is the published Gaussian one.
    """
    if isinstance(constraint, solvers.Intersection):
        windowed = (member for member in constraint.sets if isinstance(member, WINDOWED_SETS))
        constraint = next(windowed, None)
    if isinstance(constraint, WINDOWED_SETS):
        return min_window_ssim(
            image,
            adversarial,
            data_range=constraint.data_range,
            window=constraint.window,
            sample_covariance=constraint.sample_covariance,
        )
    return min_window_ssim(image, adversarial, data_range=1.0)


def _violation(image: Tensor, adversarial: Tensor, constraint: ConstraintRule | None) -> Tensor:
    """The excess over the set around the original images, at least 0, (B,); NaN without a set."""
    if constraint is None:
        return torch.full_like(image[:, 0, 0, 0], float("nan"))
    original = image.to(torch.float64)
    constraint_set = constraint if isinstance(constraint, Constraint) else constraint(original)
    return constraint_set.bind(original).excess(adversarial.to(torch.float64) - original).clamp_min(0).to(image.dtype)


def _stationarity_gap(goal: Goal, image: Tensor, perturbed: Tensor, step_solver: StepSolver | None) -> Tensor:
    """``max <g, s - d>`` over the set, by the solver's certificate, (B,); NaN without a set or a finite gradient."""
    gap = torch.full((len(image),), float("nan"), dtype=torch.float64, device=image.device)
    if step_solver is None:
        return gap.to(image.dtype)
    gradient = goal.linearize(perturbed).gradient
    sound = all_finite(gradient).nonzero()[:, 0]
    if sound.numel():
        original = image.to(torch.float64)[sound]
        delta = perturbed[sound].to(torch.float64) - original
        optimum = step_solver.linear_optimum(gradient[sound], original, sound, expansion_point=delta)
        attained = (gradient[sound] * delta).flatten(1).sum(dim=1)
        gap[sound] = torch.as_tensor(optimum.bound) - attained
    return gap.to(image.dtype)
