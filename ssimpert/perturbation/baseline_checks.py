"""What :func:`ssimpert.foolbox_baseline` accepts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssimpert.errors import InputError, unknown_name
from ssimpert.linearization import Margin, Targeted, Untargeted
from ssimpert.perturbation.results import PerturbResult
from ssimpert.validation import check_seed

FIXED_BUDGET, MINIMAL_NORM = ("l2-pgd", "linf-pgd"), ("ddn", "fmn")
MATCHES = ("l2", "ssim")


def check_baseline_options(
    attack: str,
    batch: int,
    *,
    steps: int | None,
    radius: float | Tensor | None,
    match: str | None,
    matched_to: PerturbResult | None,
    seed: int,
) -> None:
    """Raise :class:`InputError` unless the options fit one another and ``batch`` images."""
    if attack not in FIXED_BUDGET + MINIMAL_NORM:
        raise unknown_name("attack", str(attack), FIXED_BUDGET + MINIMAL_NORM)
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise InputError(f"steps must be an integer of at least 1, got {steps!r}")
    check_seed(seed)
    if match is not None and match not in MATCHES:
        raise InputError(f"match must be one of {', '.join(MATCHES)} or None, got {match!r}")
    if (match is None) != (matched_to is None):
        raise InputError(
            f"match and matched_to go together: got match={match!r} "
            f"{'with' if matched_to is not None else 'without'} a perturbation to match"
        )
    if matched_to is not None and not isinstance(matched_to, PerturbResult):
        raise InputError(f"matched_to must be a PerturbResult, got {type(matched_to).__name__}")
    if attack in MINIMAL_NORM:
        if radius is not None:
            raise InputError(
                f"{attack} finds the least norm and takes no radius, got {radius!r}; those that take one: "
                f"{', '.join(FIXED_BUDGET)}"
            )
    elif match is not None:
        if radius is not None:
            raise InputError(f"radius={radius!r} and match={match!r} exclude each other: a matched budget is found")
    else:
        _check_radius(attack, batch, radius)


def check_goal(margin: Margin) -> None:
    """Raise :class:`InputError` unless foolbox knows the goal."""
    if not isinstance(margin, (Untargeted, Targeted)):
        raise InputError(
            f"foolbox's attacks take margin=ssimpert.Untargeted() or ssimpert.Targeted(class), got {margin!r}"
        )


def _check_radius(attack: str, batch: int, radius: float | Tensor | None) -> None:
    if radius is None:
        raise InputError(f"{attack} needs radius, a positive number, or match with matched_to")
    if isinstance(radius, Tensor):
        if tuple(radius.shape) not in ((), (batch,)):
            raise InputError(f"radius must be one number or ({batch},), got shape {tuple(radius.shape)}")
        for k, value in enumerate(radius.reshape(-1).tolist()):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"radius must be positive and finite, got {value} for image {k}")
    elif isinstance(radius, bool) or not isinstance(radius, (int, float)) or not 0 < radius < torch.inf:
        raise InputError(f"radius must be positive and finite, got {radius!r}")
