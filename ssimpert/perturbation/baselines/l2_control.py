"""The l2 control: what does the constraint add beyond where the gradient lies?"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from solvers.constraints.global_ssim import remove_mean
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.batching import joined, reordered
from ssimpert.perturbation.engines.catalog import HELD
from ssimpert.perturbation.evaluation import remeasure
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.results import PerturbResult
from ssimpert.records import describe

CONTROL_NAME = "l2 control"
VANISHING = 1e-12


def seed_radius(distance: float, reference: Tensor) -> Tensor:
    """``sqrt(2) e |x~|`` per image, (B,): to within 1e-4 the radius of the GlobalSSIM ball (methods B)."""
    return math.sqrt(2) * distance * norm(remove_mean(reference))


def l2_control(model: Model, image: Tensor, result: PerturbResult, *, support: Tensor | None = None) -> PerturbResult:
    """l2 ascent to set beside ``result``, in the same loop, with the same goal, on the same images.

    For a re-centred GlobalSSIM perturbation: l2 balls of radius ``sqrt(2) e |x~|`` around each iterate, as many steps
    at most, stopping at success likewise. For any other: the l2 ball around the image whose radius is the norm of
    ``result.delta``, by as many steps as the image's perturbation took, without stopping at success, so that both
    spend the same norm.

    An image whose perturbation is zero gets a control of vanishing norm.

    Args:
        model, image, result: the perturbation and what it was made of.
        support: where the control's pixels may change, as for :func:`~ssimpert.perturb`; default everywhere. A result
            does not keep its own: give it for a perturbation that was confined, so that both have the same room.
    """
    made, constraint = result.settings, result.constraint
    if made["recentred"] and isinstance(constraint, solvers.GlobalSSIM):
        distance = constraint.distance
        return perturb(
            model,
            image,
            lambda reference: solvers.LpBall(2, seed_radius(distance, reference)),
            steps=int(made["steps"]),
            margin=result.margin,
            label=result.label,
            recentred=True,
            support=support,
            stop_at_success=bool(made["stop_at_success"]),
            name=CONTROL_NAME,
        )
    engine = made.get("engine")
    radius = norm(result.delta.to(torch.float64)).clamp_min(VANISHING)
    region = None if support is None else solvers.Support(support)
    steps = result.steps.clamp_min(1)
    parts, order = [], []
    # By their number of steps, so that no image's control depends on those beside it.
    for count in steps.unique().tolist():
        chosen = (steps == count).nonzero()[:, 0]
        parts.append(
            perturb(
                model,
                image[chosen],
                solvers.LpBall(2, radius[chosen]),
                steps=count,
                margin=result.margin,
                label=result.label[chosen],
                engine=engine if engine in HELD else None,
                support=None if region is None else region.select(chosen, len(image)).mask,
                stop_at_success=False,
                name=CONTROL_NAME,
            )
        )
        order.append(chosen)
    control = reordered(joined(parts), torch.cat(order).argsort())
    control = replace(control, constraint=solvers.LpBall(2, radius))
    whole = {"constraint": describe(control.constraint), "steps": int(steps.max()), "label": result.label.tolist()}
    control.settings.update(whole)
    # The line search may stop short of the sphere: stretch to the full norm, as far as the pixel range allows.
    step = control.delta.to(torch.float64)
    stretched = step * per_image(radius / norm(step).clamp_min(VANISHING))
    return remeasure(model, image, control, (image.to(torch.float64) + stretched).clamp(0, 1), measured=constraint)
