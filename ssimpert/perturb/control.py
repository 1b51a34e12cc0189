"""The l2 control: what does the constraint add beyond where the gradient lies?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import solvers
from solvers.constraints.base import norm
from solvers.constraints.global_ssim import remove_mean
from ssimpert.errors import InputError
from ssimpert.linearize import Margin
from ssimpert.linearize.gradient import Model
from ssimpert.perturb.perturb import perturb
from ssimpert.perturb.result import PerturbResult

CONTROL_NAME = "l2 control"


def seed_radius(distance: float, reference: Tensor) -> Tensor:
    """``sqrt(2) e |x~|`` per image, (B,): to within 1e-4 the radius of the GlobalSSIM ball (methods B)."""
    return math.sqrt(2) * distance * norm(remove_mean(reference))


def l2_control(model: Model, image: Tensor, result: PerturbResult, *, margin: Margin | None = None) -> PerturbResult:
    """l2 ascent to set beside ``result``, in the same loop on the same images.

    For a re-centred GlobalSSIM perturbation: l2 balls of radius ``sqrt(2) e |x~|`` around each iterate, as many steps
    at most, stopping at success likewise. For any other: the l2 ball around the image whose radius is the norm of
    ``result.delta``, without stopping at success, so that both spend the same norm.

    Raises:
        InputError: an image whose perturbation is zero, so that there is no norm to match.
    """
    made = result.settings
    constraint = made["constraint"]
    if made["recentred"] and constraint["kind"] == "GlobalSSIM":
        distance = float(constraint["distance"])
        return perturb(
            model,
            image,
            lambda reference: solvers.LpBall(2, seed_radius(distance, reference)),
            steps=int(made["steps"]),
            margin=margin,
            label=result.label_before,
            recentred=True,
            stop_at_success=bool(made["stop_at_success"]),
            name=CONTROL_NAME,
        )
    radius = norm(result.delta.to(torch.float64))
    if not bool((radius > 0).all()):
        zero = (radius == 0).nonzero()[:, 0].tolist()
        raise InputError(f"the perturbation of image {zero[0]} is zero, so there is no l2 norm for a control to match")
    return perturb(
        model,
        image,
        solvers.LpBall(2, radius),
        steps=max(int(result.steps.max()), 1),
        margin=margin,
        label=result.label_before,
        stop_at_success=False,
        name=CONTROL_NAME,
    )
