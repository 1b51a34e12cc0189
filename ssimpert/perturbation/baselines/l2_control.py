"""The l2 control: an ascent within l2 balls of the same norm. It shows what the perceptual constraint adds."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from solvers.constraints.global_ssim import remove_mean
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import Model
from ssimpert.perturbation.engines.catalog import ENGINES_AROUND_ORIGINAL
from ssimpert.perturbation.evaluation import remeasure
from ssimpert.perturbation.perturb import perturb
from ssimpert.perturbation.results import PerturbResult
from ssimpert.records import describe

CONTROL_NAME = "l2 control"
# A radius of 0 makes no ball; this one makes a ball that no image's dtype can tell from its centre.
VANISHING_RADIUS = 1e-12


def seed_radius(distance: float, reference: Tensor) -> Tensor:
    """``sqrt(2) e |x~|`` per image, (B,), with e the distance and ``x~`` the reference less its mean.

    To within 1e-4 this is the radius of the GlobalSSIM ball (methods B).
    """
    return math.sqrt(2) * distance * norm(remove_mean(reference))


@takes_model
def l2_control(model: Model, image: Tensor, result: PerturbResult, *, support: Tensor | None = None) -> PerturbResult:
    """An ascent within l2 balls, to compare with ``result``: in the same loop, with the same goal, on the same images.

    For a re-centred GlobalSSIM perturbation the balls have radius ``sqrt(2) e |x~|`` around each iterate. The control
    takes at most as many steps, stops at success where the perturbation did, and is drawn back where the perturbation
    was.

    For any other perturbation the ball is around the image, and its radius is the norm of ``result.delta``. The control
    takes as many steps as the image's perturbation took, without stopping at success, so that both have the same norm.

    An image whose perturbation is zero gets a control of vanishing norm.

    Args:
        model: the classifier that ``result`` is about.
        image: the clean images, (B, C, H, W).
        result: a perturbation of these images.
        support: where the control's pixels may change, as for :func:`~ssimpert.perturb`; default everywhere. A result
            does not hold its own mask: give it for a perturbation that was confined, so that both may change the same
            pixels.
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
            shrink=bool(made.get("shrink")),
            name=CONTROL_NAME,
        )
    radius = norm(result.delta.to(torch.float64)).clamp_min(VANISHING_RADIUS)
    control = _control_of_same_norm(model, image, result, radius, support)
    # The line search may stop short of the sphere. Stretch the control to the full norm, as far as the pixels allow.
    step = control.delta.to(torch.float64)
    stretched = step * per_image(radius / norm(step).clamp_min(VANISHING_RADIUS))
    adversarial = (image.to(torch.float64) + stretched).clamp(0, 1)
    return remeasure(model, image, control, adversarial, window_of=constraint)


def _control_of_same_norm(
    model: Model, image: Tensor, result: PerturbResult, radius: Tensor, support: Tensor | None
) -> PerturbResult:
    """The control within l2 balls of ``radius``, (B,), the perturbations' norms.

    Images are perturbed in groups of equal numbers of steps, so that no image's control depends on the other images.
    """
    steps = result.steps.clamp_min(1)
    region = None if support is None else solvers.Support(support)
    engine = result.settings.get("engine")
    groups = [(steps == count).nonzero()[:, 0] for count in steps.unique().tolist()]
    controls = [
        perturb(
            model,
            image[group],
            solvers.LpBall(2, radius[group]),
            steps=int(steps[group[0]]),
            margin=result.margin,
            label=result.label[group],
            engine=engine if engine in ENGINES_AROUND_ORIGINAL else None,
            support=None if region is None else region.select(group, len(image)).mask,
            stop_at_success=False,
            name=CONTROL_NAME,
        )
        for group in groups
    ]
    in_groups = torch.cat(groups)
    control = replace(PerturbResult.concatenate(controls), constraint=solvers.LpBall(2, radius[in_groups]))
    control = control.select(in_groups.argsort())
    whole = {"constraint": describe(control.constraint), "steps": int(steps.max()), "label": result.label.tolist()}
    history = sorted(control.history, key=lambda row: (row["step"], row["image"]))
    return replace(control, history=tuple(history), settings=control.settings | whole)
