"""``quantize``: perturbed images as an 8-bit file holds them, with goal and constraint kept where that is possible."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from solvers.constraints.window_ssim import BoundWindowSSIM
from ssimpert.errors import InputError
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.evaluation import remeasure
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.inputs import check_image
from ssimpert.perturbation.quantization.feature_limit import FeatureLimit
from ssimpert.perturbation.quantization.grid_shrinking import shrink_on_grid
from ssimpert.perturbation.quantization.pixel_grid import (
    INSIDE_TOLERANCE,
    Excess,
    ScaledRounding,
    nearest_grey_values,
    pixels_of,
)
from ssimpert.perturbation.quantization.window_grid import WindowGrid
from ssimpert.perturbation.results import (
    FeatureBallResult,
    MinimalBudgetResult,
    PerturbResult,
    QuantizedResult,
    Verdict,
    check_made_from,
)
from ssimpert.validation import check_count

ALLOWANCE = 1 / 255
"""By how much the least window SSIM of an 8-bit file may fall short of a WindowSSIM's threshold and still be accepted,
in units of SSIM. A file that needs it is reported as ``"within allowance"``, never as ``"kept"``."""

# Attempts per image at regaining the margin.
LIFT_ROUNDS = 8
# More margin is asked for than is missing, since the linear model promises too much: so many times, and this on top.
SURPLUS_FACTOR, MIN_SURPLUS = 1.5, 1e-2


@takes_model
def quantize(model: Model, image: Tensor, result: PerturbResult, *, rounds: int = LIFT_ROUNDS) -> QuantizedResult:
    """Move perturbed images onto the grid of 8-bit pixels without losing the goal or the constraint.

    Pixels are rounded to the nearest grey value. For WindowSSIM, pixels of violated windows then move by single grey
    steps. Moves that help a window most for the margin they cost come first; in the end pixels go back to the
    reference's grey value. For any other set the perturbation is scaled towards 0 before rounding, by bisection. Where
    the margin was lost, pixels move along its gradient as far as the set allows.

    A perturbation that was drawn back (``shrink_share`` below 1) is only just large enough. Where rounding undoes it
    for good, the whole perturbation that was found is quantised, and drawn back on the grid.

    A WindowSSIM can always be kept where the clean images have grey values themselves, at worst by the clean image.
    Resized float photos may have flat dark windows in which not even the nearest grey values are inside; the result
    says so.

    Args:
        model: the classifier that ``result`` is about.
        image: the clean images (B, C, H, W), on the grid or not.
        result: what :func:`~ssimpert.perturb` or another method returned for these images.
        rounds: most attempts per image at regaining the margin, each of which costs a gradient; 0 for none.

    Returns:
        One entry per image. ``success``, ``verdict`` and ``notes`` say what could not be kept. Images do not influence
        one another. ``adversarial`` equals what :func:`ssimpert.load_image` reads from a PNG file of it.

    Raises:
        InputError: images that don't fit the result, or ``rounds`` that is not an integer of at least 0.
    """
    began = time.perf_counter()
    rounds = check_count("rounds", rounds, 0)
    _check(image, result)
    constraint_set, goal = _set_around(model, image, result), result.goal(model)
    parts, shares = [], []
    for k in range(len(image)):
        index = torch.tensor([k], device=image.device)
        image_set = None if constraint_set is None else constraint_set.select(index, len(image))
        perturbed, share = result.adversarial[index].detach(), float(result.shrink_share[k])
        grey, share = _quantize_one(goal.select(index), image[index], perturbed, share, image_set, rounds)
        parts.append(pixels_of(grey, image.dtype).to(image.device))
        shares.append(share)
    quantized = remeasure(model, image, result, torch.cat(parts), window_of=result.constraint)
    bound = None if constraint_set is None else constraint_set.bind(image.double())
    if bound is None:
        quantized = replace(quantized, violation=torch.full_like(quantized.margin_after, float("nan")))
    elif isinstance(bound, FeatureLimit):
        excess = bound.excess(quantized.adversarial.double() - image.double())
        quantized = replace(quantized, violation=excess.clamp_min(0).to(image.dtype))
    quantized = replace(quantized, shrink_share=torch.tensor(shares, dtype=torch.float64, device=image.device))
    settings = {**result.settings, "quantized": True}
    quantized = replace(quantized, settings=settings, seconds=result.seconds + time.perf_counter() - began)
    return _with_verdict(quantized, result, bound, image)


def _set_around(model: Model, image: Tensor, result: PerturbResult) -> Constraint | FeatureLimit | None:
    """The set around the original images that a result keeps to; ``None`` where there is none."""
    if isinstance(result, FeatureBallResult):
        return FeatureLimit.of(model, image, result)
    if result.constraint is None or result.settings.get("recentred", False):
        return None
    return result.constraint if isinstance(result.constraint, Constraint) else result.constraint(image.double())


def _quantize_one(
    goal: Goal,
    image: Tensor,
    perturbed: Tensor,
    share: float,
    image_set: Constraint | FeatureLimit | None,
    rounds: int,
) -> tuple[Tensor, float]:
    """The grey values of one perturbed image, (1, C, H, W), and the share of its perturbation that was kept.

    Args:
        goal: of this image.
        image, perturbed: (1, C, H, W).
        share: of the perturbation found, which ``perturbed`` has.
        image_set: the set to keep to; ``None`` for none.
        rounds: most attempts at regaining the margin.
    """
    by_window = isinstance(image_set, solvers.WindowSSIM) and image_set.beta > 0
    device = torch.device("cpu") if by_window else image.device  # single grey steps are compiled for the CPU
    reference = image.double().to(device)
    grid: WindowGrid | None = None
    bound = None if image_set is None else image_set.bind(reference)
    scaled = ScaledRounding(bound, reference, image.dtype)
    if isinstance(image_set, solvers.WindowSSIM) and by_window:
        grid = WindowGrid(image_set, reference)

    def slope(pixels: Tensor) -> tuple[float, Tensor]:
        """The margin and its gradient at ``pixels``; gradients that are not finite count as 0."""
        linear = goal.linearize(pixels.to(image))
        return float(linear.value), linear.gradient.double().to(device).nan_to_num(0.0, 0.0, 0.0)

    def settle(grey: Tensor, pixels: Tensor, gradient: Tensor) -> Tensor:
        """Grey values inside the set, near those of ``pixels``, where the margin has this gradient."""
        return scaled.settle(grey, pixels) if grid is None else grid.settle(grey, gradient)

    def rounded(pixels: Tensor) -> tuple[Tensor, float, Tensor]:
        """Grey values of ``pixels``, with the margin regained; their margin; the margin's gradient at ``pixels``."""
        margin_before, first_gradient = slope(pixels)
        grey = settle(nearest_grey_values(pixels).to(device), pixels, first_gradient)
        if not margin_before > 0:  # an image that did not reach the goal, or whose margin is NaN, is only rounded
            return grey, float("-inf"), first_gradient
        best, best_margin = grey, float("-inf")
        for attempt in range(rounds + 1):
            margin, gradient = slope(pixels_of(grey, image.dtype))
            if margin > best_margin:
                best, best_margin = grey, margin
            if margin > 0 or attempt == rounds:
                break
            lifted = (grid or scaled).lift(grey, gradient, SURPLUS_FACTOR * -margin + MIN_SURPLUS)
            if torch.equal(lifted, grey):
                break
            grey = lifted
        return best, best_margin, first_gradient

    grey, margin, _ = rounded(perturbed)
    if share == 1 or (margin > 0 and scaled.allows(grey)):
        return grey, share
    stretched = image.double() + (perturbed.double() - image.double()) / share
    whole, whole_margin, gradient = rounded(stretched.clamp(0, 1).to(image.dtype))
    if not whole_margin > 0 or (margin > 0 and not scaled.allows(whole)):
        return grey, share
    return shrink_on_grid(goal, image, whole, lambda values, pixels: settle(values, pixels, gradient), bound)


def _with_verdict(
    quantized: PerturbResult, before: PerturbResult, bound: Excess | None, image: Tensor
) -> QuantizedResult:
    """``quantized`` with the verdict on every image, which follows from the set alone.

    Args:
        quantized: the quantised images, measured.
        before: the result before quantisation.
        bound: the set around the original images; ``None`` for none.
        image: the clean images, (B, C, H, W).
    """
    excess, windows_outside = _excess(quantized, bound, image)
    verdict = tuple(_verdict(bound, float(excess[k]), float(quantized.min_window_ssim[k])) for k in range(len(image)))
    notes = []
    for k in range(len(image)):
        sentences = []
        if not bool(quantized.success[k]):
            margins = f"{float(before.margin_after[k]):.4g} to {float(quantized.margin_after[k]):.4g}"
            sentences.append(
                f"the margin fell from {margins}"
                if bool(before.success[k])
                else "the goal was not reached before quantisation either"
            )
        if verdict[k] in ("outside", "within allowance"):
            count = f" in {int(windows_outside[k])} windows" if int(windows_outside[k]) else ""
            sentences.append(f"{verdict[k]}: the excess over the constraint set is {float(excess[k]):.3g}{count}")
        notes.append("; ".join(sentences))
    return QuantizedResult.extending(
        quantized,
        verdict=verdict,
        feasible=torch.tensor([word == "kept" for word in verdict], device=image.device),
        excess=excess.to(image.device),
        windows_outside=windows_outside,
        float_margin=before.margin_after,
        notes=tuple(notes),
    )


def _excess(quantized: PerturbResult, bound: Excess | None, image: Tensor) -> tuple[Tensor, Tensor]:
    """The excess over the set, (B,) float64 on the CPU, and the number of windows outside, (B,) long."""
    windows_outside = torch.zeros_like(quantized.label)
    if bound is None:
        return torch.full(windows_outside.shape, float("nan"), dtype=torch.float64), windows_outside
    delta = quantized.adversarial.double() - image.double()
    if isinstance(bound, BoundWindowSSIM):
        luminance, contrast = bound.losses(delta)
        worst = torch.maximum(luminance - bound.constraint.beta, contrast - bound.constraint.alpha)
        windows_outside = (worst > INSIDE_TOLERANCE).flatten(1).sum(dim=1)
    return bound.excess(delta).cpu(), windows_outside


def _verdict(bound: Excess | None, excess: float, least_ssim: float) -> Verdict:
    if bound is None:
        return "no constraint"
    if excess <= INSIDE_TOLERANCE:
        return "kept"
    if isinstance(bound, BoundWindowSSIM) and least_ssim >= bound.constraint.threshold - ALLOWANCE:
        return "within allowance"
    return "outside"


def _check(image: Tensor, result: PerturbResult) -> None:
    check_image(image)
    check_made_from(image, result)
    if isinstance(result, MinimalBudgetResult):
        raise InputError(
            "a minimal budget leaves no room for rounding: perturb at a level above result.level, and quantize that"
        )
    if result.settings.get("support") is not None:
        raise InputError(f"{result.name!r} is confined to a support, which quantisation would not keep to")
    if result.adversarial.dtype != image.dtype:
        raise InputError(f"image is {image.dtype}, the result {result.adversarial.dtype}")
