"""foolbox's attacks as :func:`ssimpert.foolbox_baseline` runs them.

PGD takes a radius per image, the projection of FMN is mended, and every gradient is counted. Losses, loops and step
rules are foolbox's. Import this file after :func:`~ssimpert.perturbation.baselines.foolbox_import.require_foolbox`.

Rauber, Brendel, Bethge, "Foolbox: a Python toolbox to benchmark the robustness of machine learning models", 2017;
Rauber, Zimmermann, Bethge, Brendel, "Foolbox Native", JOSS 2020.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import foolbox
import torch
from torch import Tensor, nn

from solvers.batch_algebra import norm, per_image
from ssimpert.linearization import Targeted
from ssimpert.models.forward_passes import (
    Model,
    call_model,
    differentiable_logits,
    gradient_at,
    gradients_enabled,
    model_dtype,
)
from ssimpert.perturbation.goal import Goal

# A norm is divided by no less than this, as in foolbox.
_MIN_NORM = 1e-12
# A step, as a share of the radius, is this number divided by the number of steps (Madry et al. 2018, section 5). So the
# steps reach the sphere from anywhere in the ball. foolbox's defaults do not depend on the number of steps: 40 steps of
# .025 do not reach it.
STEP_SHARE = 2.5


class CountedModel(nn.Module):
    """``model`` for foolbox. Backward passes through the model are counted, and do not reach its parameters' ``grad``.

    The model is no submodule, so that foolbox neither moves it to a device nor sees its mode.

    Attributes:
        gradient_calls: backward passes so far.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = (model,)
        self.gradient_calls = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) in the images' dtype, computed in the model's."""
        (model,) = self._model
        if images.requires_grad:
            logits: Tensor = _Counted.apply(images, self)
            return logits
        return call_model(model, images, dtype=model_dtype(model)).to(images.dtype)


class _Counted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, counted: CountedModel) -> Tensor:
        (model,) = counted._model
        with torch.enable_grad():
            ctx.leaf, ctx.logits = differentiable_logits(model, images, dtype=model_dtype(model))
        ctx.counted = counted
        return ctx.logits.detach().to(images.dtype)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor, None]:
        (weight,) = weights
        ctx.counted.gradient_calls += 1
        (model,) = ctx.counted._model
        gradient = gradient_at(ctx.leaf, ctx.logits, model, weight=weight.to(ctx.logits.dtype))
        return gradient.to(weight.dtype), None


class _Radii:
    """PGD with a radius per image, (B,); foolbox's PGD takes one number.

    Run it with ``epsilon=1``: steps are then shares of the radius.
    """

    def __init__(self, radius: Tensor, steps: int) -> None:
        super().__init__(rel_stepsize=STEP_SHARE / steps, steps=steps, random_start=False)  # type: ignore[call-arg]
        self.radius = per_image(radius)

    def normalize(self, gradients: Any, *, x: Any, bounds: Any) -> Any:
        return super().normalize(gradients, x=x, bounds=bounds) * self.radius  # type: ignore[misc]


class L2PGD(_Radii, foolbox.attacks.L2ProjectedGradientDescentAttack):
    """See :class:`_Radii`."""

    def project(self, x: Any, x0: Any, epsilon: float) -> Any:
        return _within_l2(x, x0, self.radius)


class LinfPGD(_Radii, foolbox.attacks.LinfProjectedGradientDescentAttack):
    """See :class:`_Radii`."""

    def project(self, x: Any, x0: Any, epsilon: float) -> Any:
        return x0 + (x - x0).raw.clamp(-self.radius, self.radius)


class FMN(foolbox.attacks.L2FMNAttack):
    """FMN with its projection. foolbox 3.3.4 divides the norm by itself there, so that it never projects a step."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        return _within_l2(x, x0, per_image(epsilon.raw))


def _within_l2(x: Any, x0: Any, radius: Tensor) -> Any:
    """``x`` projected on the ball of ``radius`` (B, 1, 1, 1) around ``x0``; eagerpy tensors."""
    size = per_image(norm((x - x0).raw)).clamp_min(_MIN_NORM)
    return x0 + (x - x0) * (radius / size).clamp_max(1)


def run_attack(attack: str, goal: Goal, image: Tensor, *, radius: Tensor, steps: int) -> tuple[Tensor, int]:
    """Run one attack of foolbox.

    Args:
        attack: "l2-pgd", "linf-pgd", "ddn" or "fmn".
        goal: untargeted or targeted.
        image: the clean images, (B, C, H, W).
        radius: of PGD, (B,); the other attacks do without.
        steps: of the attack.

    Returns:
        The images (B, C, H, W) that foolbox returns, and the number of gradients taken of each.
    """
    counted = CountedModel(goal.model)
    foolbox_model = foolbox.PyTorchModel(counted, bounds=(0, 1), device=image.device)
    if isinstance(goal.margin, Targeted):
        criterion = foolbox.criteria.TargetedMisclassification(torch.full_like(goal.label, goal.margin.number))
    else:
        criterion = foolbox.criteria.Misclassification(goal.label)
    if attack in ("l2-pgd", "linf-pgd"):
        method = (L2PGD if attack == "l2-pgd" else LinfPGD)(radius.to(image.dtype), steps)
        run = partial(method.run, foolbox_model, image, criterion, epsilon=1.0)
    else:
        method = (foolbox.attacks.DDNAttack if attack == "ddn" else FMN)(steps=steps)
        run = partial(method.run, foolbox_model, image, criterion)
    with gradients_enabled():
        attacked: Tensor = run().detach()
    return attacked, counted.gradient_calls
