"""``quantize``: perturbed images as an 8-bit file holds them, still fooling, still inside the constraint set."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from solvers.constraints.window_ssim import BoundWindowSSIM
from ssimpert.errors import InputError
from ssimpert.linearization import linearize
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.evaluation import remeasure
from ssimpert.perturbation.inputs import check_image
from ssimpert.perturbation.quantization.feature_limit import FeatureLimit
from ssimpert.perturbation.quantization.pixel_grid import TOLERANCE, AnyGrid, Excess, nearest_levels, pixels_of
from ssimpert.perturbation.quantization.window_grid import WindowGrid
from ssimpert.perturbation.results import (
    FeatureBallResult,
    MinimalBudgetResult,
    PerturbResult,
    QuantizedResult,
    Verdict,
    check_matched,
)

ALLOWANCE = 1 / 255
"""By how much the least window SSIM of an 8-bit file may fall short of a WindowSSIM's threshold and still be accepted,
in units of SSIM. A file that needs it is reported as ``"within allowance"``, never as ``"kept"``."""

ROUNDS = 8
# More margin is asked for than is missing, as the linear model promises too much.
SURPLUS, LEAST_SURPLUS = 1.5, 1e-2


def quantize(model: Model, image: Tensor, result: PerturbResult, *, rounds: int = ROUNDS) -> QuantizedResult:
    """Move perturbed images onto the 1/255 grid without losing the goal or the constraint.

    Pixels are rounded to the nearest level. For WindowSSIM, pixels of violated windows then move by single grid steps,
    those first that mend most for the margin they cost, in the end back to the reference's own level; for any other
    set the perturbation is scaled towards 0 before rounding, by bisection. Where the margin was lost, pixels move
    along its gradient as far as the set allows. For clean images that lie on the grid themselves a WindowSSIM can
    always be kept, at worst by the clean image; resized float photos may have flat dark windows in which not even the
    nearest levels are inside, which is reported.

    Args:
        model: the classifier that ``result`` is about.
        image: the clean images (B, C, H, W), on the grid or not.
        result: what :func:`~ssimpert.perturb` or another method returned for them.
        rounds: most attempts per image at regaining the margin, each a gradient; 0 for none.

    Returns:
        One entry per image. What can't be kept is in ``success``, ``verdict`` and ``notes``. Images do not influence
        one another; ``adversarial`` equals what :func:`ssimpert.load_image` reads from a PNG of it.

    Raises:
        InputError: images that don't fit the result, or ``rounds`` that is not an integer of at least 0.
    """
    began = time.perf_counter()
    _check(image, result, rounds)
    held = result.constraint is not None and not result.settings.get("recentred", False)
    limit: Constraint | FeatureLimit | None = _limit(result, image) if held else None
    if isinstance(result, FeatureBallResult):
        limit = FeatureLimit.of(model, image, result)
    parts = []
    for k in range(len(image)):
        index = torch.tensor([k], device=image.device)
        one = None if limit is None else limit.select(index, len(image))
        parts.append(_quantize_one(model, image[index], result, index, one, rounds))
    adversarial = torch.cat(parts)
    measured = remeasure(model, image, result, adversarial, measured=result.constraint)
    values = {entry.name: getattr(measured, entry.name) for entry in fields(PerturbResult)}
    if not held:
        values["violation"] = torch.full_like(measured.margin_after, float("nan"))
    values["settings"] = {**result.settings, "quantized": True}
    values["seconds"] = result.seconds + time.perf_counter() - began
    bound = None if limit is None else limit.bind(image.double())
    if isinstance(bound, FeatureLimit):
        values["violation"] = bound.excess(adversarial.double() - image.double()).clamp_min(0).to(image.dtype)
    return _judged(values, result, bound, image)


def _quantize_one(
    model: Model,
    image: Tensor,
    result: PerturbResult,
    index: Tensor,
    limit: Constraint | FeatureLimit | None,
    rounds: int,
) -> Tensor:
    """Image number ``index`` (1,) on the grid, (1, C, H, W) in its own dtype."""
    label, perturbed = result.label[index], result.adversarial[index].detach()
    by_window = isinstance(limit, solvers.WindowSSIM) and limit.beta > 0
    place = torch.device("cpu") if by_window else image.device
    reference, levels = image.double().to(place), nearest_levels(perturbed).to(place)

    def slope(pixels: Tensor) -> tuple[float, Tensor]:
        linear = linearize(model, pixels.to(image), label, result.margin)
        return float(linear.value), linear.gradient.double().to(place).nan_to_num(0.0, 0.0, 0.0)

    value, gradient = slope(perturbed)
    grid: WindowGrid | AnyGrid
    if isinstance(limit, solvers.WindowSSIM) and by_window:
        grid = WindowGrid(limit, reference)
        levels = grid.settle(levels, gradient)
    else:
        grid = AnyGrid(None if limit is None else limit.bind(reference), reference, image.dtype)
        levels = grid.settle(levels, perturbed)
    best, best_margin = levels, float("-inf")
    for attempt in range(rounds + 1 if value > 0 else 0):  # an image that did not fool before is only rounded
        margin, gradient = slope(pixels_of(levels, image.dtype))
        if margin > best_margin:
            best, best_margin = levels, margin
        if margin > 0 or attempt == rounds:
            break
        lifted = grid.lift(levels, gradient, SURPLUS * -margin + LEAST_SURPLUS)
        if torch.equal(lifted, levels):
            break
        levels = lifted
    return pixels_of(best, image.dtype).to(image.device)


def _limit(result: PerturbResult, image: Tensor) -> Constraint:
    rule = result.constraint
    assert rule is not None
    return rule if isinstance(rule, Constraint) else rule(image.double())


def _judged(values: dict[str, Any], before: PerturbResult, bound: Excess | None, image: Tensor) -> QuantizedResult:
    """The verdict on every image, from the set alone."""
    outside = torch.zeros_like(before.label)
    if bound is None:
        excess = torch.full(outside.shape, float("nan"), dtype=torch.float64)
    else:
        delta = values["adversarial"].double() - image.double()
        excess = bound.excess(delta).cpu()
        if isinstance(bound, BoundWindowSSIM):
            luminance, contrast = bound.losses(delta)
            worst = torch.maximum(luminance - bound.constraint.beta, contrast - bound.constraint.alpha)
            outside = (worst > TOLERANCE).flatten(1).sum(dim=1)
    verdict = tuple(_verdict(bound, float(excess[k]), float(values["min_window_ssim"][k])) for k in range(len(image)))
    notes = []
    for k in range(len(image)):
        words = []
        if not bool(values["success"][k]):
            fell = bool(before.success[k])
            words.append(
                f"the margin fell from {float(before.margin_after[k]):.4g} to {float(values['margin_after'][k]):.4g}"
                if fell
                else "the goal was not reached before quantisation either"
            )
        if verdict[k] in ("outside", "within allowance"):
            count = f" in {int(outside[k])} windows" if int(outside[k]) else ""
            words.append(f"{verdict[k]}: the excess over the constraint set is {float(excess[k]):.3g}{count}")
        notes.append("; ".join(words))
    return QuantizedResult(
        **values,
        verdict=verdict,
        feasible=torch.tensor([word == "kept" for word in verdict], device=image.device),
        excess=excess.to(image.device),
        windows_outside=outside,
        float_margin=before.margin_after,
        notes=tuple(notes),
    )


def _verdict(bound: Excess | None, excess: float, least: float) -> Verdict:
    if bound is None:
        return "no constraint"
    if excess <= TOLERANCE:
        return "kept"
    if isinstance(bound, BoundWindowSSIM) and least >= bound.constraint.threshold - ALLOWANCE:
        return "within allowance"
    return "outside"


def _check(image: Tensor, result: PerturbResult, rounds: int) -> None:
    check_image(image)
    if not isinstance(result, PerturbResult):
        raise InputError(f"result must be a PerturbResult, got {type(result).__name__}")
    if isinstance(result, MinimalBudgetResult):
        raise InputError(
            "a minimal budget leaves no room for rounding: perturb at a level above result.level, and quantize that"
        )
    if result.settings.get("support") is not None:
        raise InputError(f"{result.name!r} is confined to a support, which quantisation would not keep to")
    check_matched(image, result, "result")
    if result.adversarial.dtype != image.dtype:
        raise InputError(f"image is {image.dtype}, the result {result.adversarial.dtype}")
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 0:
        raise InputError(f"rounds must be an integer of at least 0, got {rounds!r}")
