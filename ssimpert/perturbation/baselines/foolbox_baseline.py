"""``foolbox_baseline``: the lp attacks that a perceptual perturbation is compared with, run by foolbox."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import all_finite, per_image
from ssimpert.errors import InputError, unknown_name
from ssimpert.linearization import Margin, Targeted, Untargeted
from ssimpert.linearization.margins import margin_for
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_passes import CHUNK, Model, in_chunks
from ssimpert.perturbation.baselines.foolbox_import import require_foolbox
from ssimpert.perturbation.baselines.l2_control import VANISHING_RADIUS
from ssimpert.perturbation.baselines.matching import l2_size, rescale, ssim_size
from ssimpert.perturbation.engines.step_solver import StepSolver
from ssimpert.perturbation.evaluation import measure
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.inputs import check_image, checked_goal
from ssimpert.perturbation.results import FinalIterate, PerturbResult, check_made_from
from ssimpert.records import describe
from ssimpert.validation import Numbers, check_count, check_radii, check_seed

Attack = Literal["l2-pgd", "linf-pgd", "ddn", "fmn"]
Match = Literal["l2", "ssim"]
FIXED_BUDGET, MINIMAL_NORM = ("l2-pgd", "linf-pgd"), ("ddn", "fmn")
MATCHES = ("l2", "ssim")
PGD_STEPS, MINIMAL_NORM_STEPS = 40, 100
# How exactly sizes are matched, relative: of an l2 norm, and of 1 - SSIM.
_L2_TOLERANCE, _SSIM_TOLERANCE = 1e-9, 1e-6
NOT_FOUND = "no adversarial found"
_NAME_SUFFIX: dict[Match | None, str] = {"l2": " (same l2 norm)", "ssim": " (same SSIM)"}


@takes_model
def foolbox_baseline(
    model: Model,
    image: Tensor,
    attack: Attack,
    *,
    margin: Margin | None = None,
    label: Tensor | None = None,
    steps: int | None = None,
    radius: float | Numbers | None = None,
    match: Match | None = None,
    matched_to: PerturbResult | None = None,
    name: str | None = None,
    seed: int = 0,
) -> PerturbResult:
    """Perturb images by an lp attack of foolbox 3.3 (extra ``baselines``), measured as every other perturbation is.

    - "l2-pgd", "linf-pgd": Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to
      adversarial attacks", ICLR 2018: ascent of the cross-entropy within a ball of ``radius``, from the clean image,
      steps of 2.5 radius/steps, all of them taken; the last iterate is returned.
    - "ddn": Rony, Hafemann, Oliveira, Ben Ayed, Sabourin, Granger, "Decoupling direction and norm for efficient
      gradient-based l2 adversarial attacks and defenses", CVPR 2019: the least l2 norm found.
    - "fmn": Pintor, Roli, Brendel, Biggio, "Fast minimum-norm adversarial attacks through adaptive norm constraints",
      NeurIPS 2021: the least l2 norm found. foolbox 3.3.4 never projects in this attack, since it divides the norm by
      itself, and its norms are then many times too large; the projection is mended here. As published the attack aims
      at the decision boundary itself, and may stay next to it without crossing it.

    Where ddn and fmn find no adversarial, foolbox returns the clean image. This function returns the clean image too,
    and ``messages`` says "no adversarial found". It also returns the clean image where an attack leaves pixels that are
    not finite.

    To compare with another perturbation of the same images, give that perturbation as ``matched_to``. PGD then runs in
    the ball whose radius is that perturbation's l2 norm, image by image (linf-pgd: that norm divided by the root of the
    number of values). ddn and fmn run as without it. Then every perturbation that was found is multiplied by a scalar
    per image, and clipped to the pixel range. The scalar makes

    - for ``match="l2"`` the l2 norm equal to that of ``matched_to``, as far as the pixel range allows;
    - for ``match="ssim"`` the mean SSIM equal (Gaussian 11x11, as in ``PerturbResult.ssim``). Bisection finds this
      scalar, to 1e-6 of ``1 - SSIM``; it may be above 1. The attack itself does not see SSIM.

    Args:
        model: a classifier on [0, 1] images that returns logits (B, K), in evaluation mode and on the images' device.
        image: (B, C, H, W) in [0, 1], float32 or float64.
        attack: "l2-pgd", "linf-pgd", "ddn" or "fmn".
        margin: :class:`~ssimpert.Untargeted` or :class:`~ssimpert.Targeted`; default that of ``matched_to``, else
            untargeted.
        label: the images' classes (B,); default those of ``matched_to``, else the model's own labels.
        steps: at least 1; default 40 for PGD, 100 for ddn and fmn. One gradient a step.
        radius: for PGD, unless matched: of the ball, positive; one number, or one per image: a tensor, array or list
            (B,).
        match: "l2" or "ssim"; needs ``matched_to``.
        matched_to: the perturbation to match, of the same images; needs ``match``.
        name: what tables call it; default made from the attack.
        seed: of the noise that ddn takes in the place of a gradient that vanishes. Nothing else is drawn at random. The
            states of the global generators do not change.

    Returns:
        One entry per image; failures are returned too. ``constraint`` is the ball, ``None`` for ddn, fmn and a matched
        SSIM. ``settings["gradient_calls"]`` counts the backward passes that each image went through, as made.
        ``history`` is empty.

    Raises:
        InputError: images, labels or options that can't be used, or foolbox not installed; raised before any step.
    """
    began = time.perf_counter()
    check_image(image)
    steps, seed = None if steps is None else check_count("steps", steps), check_seed(seed)
    check_baseline_options(attack, image, radius=radius, match=match, matched_to=matched_to)
    if matched_to is not None:
        check_made_from(image, matched_to, "matched_to")
        margin = matched_to.margin if margin is None else margin
        label = matched_to.label if label is None else label
    margin = margin_for(margin, model)
    check_margin(margin)
    require_foolbox()
    goal = checked_goal(model, image, label, margin)
    steps = steps or (PGD_STEPS if attack in FIXED_BUDGET else MINIMAL_NORM_STEPS)
    radii = _radii(image, attack, radius, matched_to)
    attacked, gradient_calls = _run(goal, image, attack, radii, steps, seed)
    clean = image.double()
    finite = all_finite(attacked)
    # foolbox's x + d may exceed 1 by a rounding error.
    images = torch.where(per_image(finite), attacked.double().clamp(0, 1), clean)
    matched = torch.ones_like(finite)
    constraint: solvers.LpBall | None = None
    if matched_to is not None:
        other = matched_to.adversarial.double()
        size, tolerance = (l2_size, _L2_TOLERANCE) if match == "l2" else (ssim_size, _SSIM_TOLERANCE)
        images, matched = rescale(clean, images - clean, size, size(clean, other), tolerance=tolerance)
        if match == "l2":
            constraint = solvers.LpBall(2, l2_size(clean, other).clamp_min(VANISHING_RADIUS))
    elif attack in FIXED_BUDGET:
        constraint = solvers.LpBall(2 if attack == "l2-pgd" else torch.inf, radii)
    result = measure(
        goal,
        image,
        FinalIterate(images, torch.full_like(goal.label, steps), [""] * len(image)),
        step_solver=None if constraint is None else StepSolver(constraint, len(image)),
        constraint=constraint,
        name=name or attack + _NAME_SUFFIX.get(match, ""),
        settings={
            "method": "foolbox_baseline",
            "attack": attack,
            "steps": steps,
            "gradient_calls": gradient_calls,
            "margin": describe(margin),
            "radius": None if attack not in FIXED_BUDGET else radii.tolist(),
            "match": match,
            "matched_to": None if matched_to is None else matched_to.name,
            "recentred": False,
            "stop_at_success": False,
            "seed": seed,
            "label": None if label is None else goal.label.tolist(),
        },
    )
    # ddn and fmn return the clean image where they find nothing, and also where the clean image is what they look for.
    found = (attacked.double() != clean).flatten(1).any(dim=1) | result.success | (attack in FIXED_BUDGET)
    messages = tuple(
        _message(match, finite=bool(finite[k]), found=bool(found[k]), matched=bool(matched[k]))
        for k in range(len(image))
    )
    return replace(result, messages=messages, seconds=time.perf_counter() - began)


def _radii(image: Tensor, attack: Attack, radius: float | Numbers | None, matched_to: PerturbResult | None) -> Tensor:
    """PGD's radii, (B,) float64; 1 for the attacks that take none."""
    if matched_to is not None:
        radius = l2_size(image.double(), matched_to.adversarial.double()).clamp_min(VANISHING_RADIUS)
        if attack == "linf-pgd":
            radius = radius / image[0].numel() ** 0.5
    return check_radii("radius", 1.0 if radius is None else radius, image)


def _run(goal: Goal, image: Tensor, attack: Attack, radii: Tensor, steps: int, seed: int) -> tuple[Tensor, int]:
    """Run the attack on slices of the batch, each from the same seed.

    Args:
        goal: of the whole batch.
        image: the clean images, (B, C, H, W).
        attack: its name.
        radii: of PGD, (B,) float64.
        steps: of the attack.
        seed: of every slice.

    Returns:
        The images that foolbox returns, (B, C, H, W), and the number of gradients taken of each.
    """
    from ssimpert.perturbation.baselines.foolbox_attacks import run_attack

    gradient_calls = 0

    def attack_slice(images: Tensor, label: Tensor, radius: Tensor) -> tuple[Tensor]:
        nonlocal gradient_calls
        # foolbox draws on the images' device; torch.manual_seed would reset the generators of all others too.
        if images.is_cuda:
            with torch.cuda.device(images.device):
                torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        attacked, calls = run_attack(attack, replace(goal, label=label), images, radius=radius, steps=steps)
        gradient_calls = max(gradient_calls, calls)
        return (attacked,)

    with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
        (attacked,) = in_chunks(attack_slice, image, goal.label, radii, chunk=CHUNK)
    return attacked, gradient_calls


def _message(match: Match | None, *, finite: bool, found: bool, matched: bool) -> str:
    if not finite:
        return "the attack left pixels that are not finite: this is the clean image"
    if not found:
        return NOT_FOUND
    if not matched:
        return f"the pixel range does not allow the matched {'l2 norm' if match == 'l2' else 'SSIM'} along this line"
    return ""


def check_baseline_options(
    attack: str,
    image: Tensor,
    *,
    radius: float | Numbers | None,
    match: str | None,
    matched_to: PerturbResult | None,
) -> None:
    """Raise :class:`InputError` unless the options fit one another and the images.

    Args:
        attack, radius, match, matched_to: as for :func:`foolbox_baseline`.
        image: the clean images, (B, C, H, W).
    """
    if attack not in FIXED_BUDGET + MINIMAL_NORM:
        raise unknown_name("attack", str(attack), FIXED_BUDGET + MINIMAL_NORM)
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
        if radius is None:
            raise InputError(f"{attack} needs radius, a positive number, or match with matched_to")
        check_radii("radius", radius, image)


def check_margin(margin: Margin) -> None:
    """Raise :class:`InputError` unless foolbox has a criterion for the margin."""
    if not isinstance(margin, (Untargeted, Targeted)):
        raise InputError(
            f"foolbox's attacks take margin=ssimpert.Untargeted() or ssimpert.Targeted(class), got {margin!r}"
        )
