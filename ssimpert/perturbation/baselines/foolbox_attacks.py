"""foolbox's attacks as :func:`ssimpert.foolbox_baseline` runs them: a radius per image, FMN's projection mended, every
gradient counted. Import it after
:func:`~ssimpert.perturbation.baselines.foolbox_import.require_foolbox`.

Rauber, Brendel, Bethge, "Foolbox: a Python toolbox to benchmark the robustness of machine learning models", 2017;
Rauber, Zimmermann, Bethge, Brendel, "Foolbox Native", JOSS 2020. Losses, loops and step rules are foolbox's own.
"""

from __future__ import annotations

from typing import Any

import foolbox
import torch
from torch import Tensor, nn

from solvers.batch_algebra import norm, per_image
from ssimpert.linearization import Margin, Targeted
from ssimpert.models.forward_passes import Model, model_dtype

# As foolbox's own guard against division by zero.
_TINY = 1e-12
# A step, as a share of the radius, is this by the number of steps (Madry et al. 2018, section 5): the ball's border is
# reached from anywhere within. foolbox's own defaults don't depend on the number: 40 steps of .025 stop short of it.
STEP_SHARE = 2.5


class CountedModel(nn.Module):
    """``model`` for foolbox: counts the backward passes through it and keeps them from its parameters' ``grad``.

    It is no submodule: foolbox neither moves it to a device nor sees its mode.

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
        return model(images.to(model_dtype(model))).to(images.dtype)


class _Counted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, counted: CountedModel) -> Tensor:
        (model,) = counted._model
        with torch.enable_grad():
            ctx.leaf = images.detach().to(model_dtype(model)).requires_grad_(True)
            ctx.logits = model(ctx.leaf)
        ctx.counted = counted
        return ctx.logits.detach().to(images.dtype)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor, None]:
        (weight,) = weights
        ctx.counted.gradient_calls += 1
        (gradient,) = torch.autograd.grad(ctx.logits, ctx.leaf, weight.to(ctx.logits.dtype))
        return gradient.to(weight.dtype), None


class _Radii:
    """PGD with radii (B,); foolbox's takes one number. Run with ``epsilon=1``: steps are shares of the radius."""

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
    """With its projection: foolbox 3.3.4 divides the norm by itself there, so that no step is ever projected."""

    def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
        return _within_l2(x, x0, per_image(epsilon.raw))


def _within_l2(x: Any, x0: Any, radius: Tensor) -> Any:
    """``x`` projected on the ball of ``radius`` (B, 1, 1, 1) around ``x0``; eagerpy tensors."""
    size = per_image(norm((x - x0).raw)).clamp_min(_TINY)
    return x0 + (x - x0) * (radius / size).clamp_max(1)


def run_attack(
    attack: str,
    model: Model,
    image: Tensor,
    label: Tensor,
    margin: Margin,
    *,
    radius: Tensor,
    steps: int,
) -> tuple[Tensor, int]:
    """The images (B, C, H, W) that foolbox returns, and the gradients taken of each. ``radius`` (B,) is PGD's."""
    counted = CountedModel(model)
    watched = foolbox.PyTorchModel(counted, bounds=(0, 1), device=image.device)
    if isinstance(margin, Targeted):
        criterion = foolbox.criteria.TargetedMisclassification(torch.full_like(label, margin.target))
    else:
        criterion = foolbox.criteria.Misclassification(label)
    if attack in ("l2-pgd", "linf-pgd"):
        method = (L2PGD if attack == "l2-pgd" else LinfPGD)(radius.to(image.dtype), steps)
        found = method.run(watched, image, criterion, epsilon=1.0)
    else:
        method = (foolbox.attacks.DDNAttack if attack == "ddn" else FMN)(steps=steps)
        found = method.run(watched, image, criterion)
    return found.detach(), counted.gradient_calls
