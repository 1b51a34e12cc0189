"""What is true of perturbed images, by fresh forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Margin, linearize
from ssimpert.metrics import contrast_distance, min_window_ssim, ssim
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.engines.oracle import Oracle
from ssimpert.perturbation.results import ConstraintRule, PerturbResult, StepRow


class Endpoint(Protocol):
    """Where a method ended, and how it got there."""

    @property
    def images(self) -> Tensor:
        """(B, C, H, W) in the pixels of [0, 1], any floating dtype."""
        ...

    @property
    def steps(self) -> Tensor:
        """(B,) long."""
        ...

    @property
    def messages(self) -> Sequence[str]: ...

    @property
    def history(self) -> Sequence[StepRow]: ...


@dataclass(frozen=True)
class End:
    """An :class:`Endpoint` of methods that keep no state of their own to hand over."""

    images: Tensor
    steps: Tensor
    messages: Sequence[str]
    history: Sequence[StepRow] = ()


def measure(
    model: Model,
    image: Tensor,
    state: Endpoint,
    label: Tensor,
    margin: Margin,
    *,
    rule: Oracle | None,
    constraint: ConstraintRule | None,
    name: str,
    settings: dict[str, Any],
    seconds: float,
) -> PerturbResult:
    """Round the iterates to the images' dtype and measure what came of it, by fresh forward passes. ``rule`` is that
    of a set around the original image, else ``None``."""
    adversarial = state.images.to(image.dtype)
    before = linearize(model, image, label, margin)
    after = forward(model, adversarial)
    margin_after = margin(after, label)
    return PerturbResult(
        adversarial=adversarial,
        delta=adversarial - image,
        success=margin_after > 0,
        label=label,
        label_before=before.logits.argmax(dim=1),
        label_after=after.argmax(dim=1),
        margin_before=before.value,
        margin_after=margin_after,
        ssim=ssim(image, adversarial, data_range=1.0),
        min_window_ssim=least_window_ssim(image, adversarial, constraint),
        violation=_violation(image, adversarial, constraint, held=rule is not None),
        contrast_distance=contrast_distance(image, adversarial),
        gradient=before.gradient,
        stationarity_gap=_stationarity_gap(model, image, state, label, margin, rule),
        steps=state.steps,
        messages=tuple(state.messages),
        history=tuple(state.history),
        name=name,
        margin=margin,
        constraint=constraint,
        settings=settings,
        seconds=seconds,
    )


def remeasure(
    model: Model, image: Tensor, result: PerturbResult, adversarial: Tensor, *, measured: ConstraintRule | None
) -> PerturbResult:
    """``result`` with other perturbed images (B, C, H, W) in its place, measured afresh; its history stays.
    ``measured`` is the constraint whose window ``min_window_ssim`` uses."""
    adversarial = adversarial.to(image.dtype)
    after = forward(model, adversarial)
    margin_after = result.margin(after, result.label)
    return replace(
        result,
        adversarial=adversarial,
        delta=adversarial - image,
        success=margin_after > 0,
        label_after=after.argmax(dim=1),
        margin_after=margin_after,
        ssim=ssim(image, adversarial, data_range=1.0),
        min_window_ssim=least_window_ssim(image, adversarial, measured),
        violation=_violation(image, adversarial, result.constraint, held=True),
        contrast_distance=contrast_distance(image, adversarial),
        stationarity_gap=torch.full_like(margin_after, float("nan")),
    )


def require_sound_margins(margin: Tensor) -> None:
    """Raise :class:`InputError` where no clean image has a finite margin, (B,): nothing can be perturbed."""
    if not bool(margin.isfinite().any()):
        raise InputError(
            f"the margin at image 0 is {float(margin[0])}: the model gives NaN or infinite logits for every image"
        )


def require_sound_gradients(result: PerturbResult) -> None:
    """Raise :class:`InputError` where no image has a finite gradient, so that none was moved."""
    bad = (~result.gradient.isfinite()).flatten(1).sum(dim=1)
    if bool((bad > 0).all()):
        raise InputError(
            f"the margin's gradient at image 0 has {int(bad[0])} NaN or infinite values of "
            f"{result.gradient[0].numel()}, and no image's is finite; check the model's weights and the images"
        )


def least_window_ssim(image: Tensor, adversarial: Tensor, constraint: ConstraintRule | None) -> Tensor:
    """The least SSIM of any whole window, (B,): of the constraint's own kind where it is a WindowSSIM or a
    ProductSSIM, or has one among its sets, else of the published Gaussian one."""
    if isinstance(constraint, solvers.Intersection):
        windowed = (one for one in constraint.sets if isinstance(one, (solvers.WindowSSIM, solvers.ProductSSIM)))
        constraint = next(windowed, None)
    if isinstance(constraint, (solvers.WindowSSIM, solvers.ProductSSIM)):
        return min_window_ssim(
            image,
            adversarial,
            data_range=constraint.data_range,
            window=constraint.window,
            sample_covariance=constraint.sample_covariance,
        )
    return min_window_ssim(image, adversarial, data_range=1.0)


def _violation(image: Tensor, adversarial: Tensor, constraint: ConstraintRule | None, *, held: bool) -> Tensor:
    if not held or constraint is None:
        return torch.full_like(image[:, 0, 0, 0], float("nan"))
    original = image.to(torch.float64)
    limit = constraint if isinstance(constraint, Constraint) else constraint(original)
    return limit.bind(original).excess(adversarial.to(torch.float64) - original).clamp_min(0).to(image.dtype)


def _stationarity_gap(
    model: Model,
    image: Tensor,
    state: Endpoint,
    label: Tensor,
    margin: Margin,
    rule: Oracle | None,
) -> Tensor:
    gap = torch.full((len(image),), float("nan"), dtype=torch.float64, device=image.device)
    if rule is None:
        return gap.to(image.dtype)
    gradient = linearize(model, state.images, label, margin).gradient
    sound = gradient.isfinite().flatten(1).all(dim=1).nonzero()[:, 0]
    if sound.numel():
        original = image.to(torch.float64)[sound]
        delta = state.images[sound].to(torch.float64) - original
        bound = torch.as_tensor(rule(gradient[sound], original, sound, around=delta).bound)
        attained = (gradient[sound] * delta).flatten(1).sum(dim=1)
        gap[sound] = bound - attained
    return gap.to(image.dtype)
