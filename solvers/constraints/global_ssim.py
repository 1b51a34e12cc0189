"""The global SSIM ball of Pochimireddy, Siripuram and Channappayya (arXiv 2106.12731): one window, the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.batch_algebra import ball_scale_factor, inner, norm, per_image
from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.validation import positive, share

if TYPE_CHECKING:
    import cvxpy as cp


@dataclass(frozen=True)
class GlobalSSIM(Constraint):
    """``d2 = sqrt(1 - S2) <= distance`` with the mean kept, the whole image and all channels as one vector.

    With ``x~ = x - mean(x)``, ``1 - S2 = |x~ - y~|^2 / (|x~|^2 + |y~|^2 + c2)``; the set is exactly the ball
    ``|d - a x~| <= k`` in the subspace ``mean(d) = 0``, with ``a = e^2/(1 - e^2)`` and
    ``k^2 = |x~|^2 (1/(1 - e^2)^2 - 1) + c2 e^2/(1 - e^2)``. Note that c2 is added to *sums* of squares, as in the
    paper and its released code.

    Attributes:
        distance: e, the bound on d2, 0 < e < 1.
        constant: c2, in the units of the paper's pixels.
        pixel_scale: the paper's pixels lie in [-1, 1], the problem's in [0, 1]: a factor of 2.
    """

    distance: float
    constant: float = 9e-4
    pixel_scale: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", share("GlobalSSIM distance", self.distance))
        for name in ("constant", "pixel_scale"):
            object.__setattr__(self, name, positive(f"GlobalSSIM {name}", getattr(self, name)))

    def bind(self, reference: Tensor) -> BoundGlobalSSIM:
        return BoundGlobalSSIM(self, reference)


class BoundGlobalSSIM(BoundConstraint):
    """The ball and the hyperplane; its dual block is a tensor like the image, ``A = I``."""

    constraint: GlobalSSIM

    def __init__(self, constraint: GlobalSSIM, reference: Tensor) -> None:
        self.constraint = constraint
        square = constraint.distance**2
        self.constant = constraint.constant / constraint.pixel_scale**2
        self.centred_reference = remove_mean(reference)
        energy = self.centred_reference.square().flatten(1).sum(dim=1)
        self.reference_energy = energy
        self.center = square / (1 - square) * self.centred_reference
        # 1/(1-s)^2 - 1 = s (2 - s)/(1 - s)^2, written so that small s does not cancel.
        self.radius = (
            energy * (square * (2 - square) / (1 - square) ** 2) + self.constant * square / (1 - square)
        ).sqrt()

    def distance(self, delta: Tensor) -> Tensor:
        """d2 of ``x`` and ``x + delta`` per image, free of cancellation: (B,)."""
        centred = remove_mean(delta)
        moved = (self.centred_reference + centred).square().flatten(1).sum(dim=1)
        return norm(centred) / (self.reference_energy + moved + self.constant).sqrt()

    def excess(self, delta: Tensor) -> Tensor:
        """The larger of d2 - e and |mean(d)|."""
        mean = delta.flatten(1).mean(dim=1).abs()
        return torch.maximum(self.distance(delta) - self.constraint.distance, mean)

    def scale_factor(self, delta: Tensor) -> Tensor:
        centred = remove_mean(delta)
        constant = self.center.square().flatten(1).sum(dim=1) - self.radius.square()
        return ball_scale_factor(centred.square().flatten(1).sum(dim=1), inner(self.center, centred), constant)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Shift by one number an image and clip, so that the mean becomes 0 within the bounds."""
        return shift_to_zero_mean(delta, lower, upper)

    @property
    def has_equality(self) -> bool:
        return True

    def support(self, direction: Tensor) -> Tensor:
        centred = remove_mean(direction)
        return inner(self.center, centred) + self.radius * norm(centred)

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(self.center.shape),)

    def adjoint(self, block: Tensor) -> Tensor:
        return block

    def dual_value(self, block: Tensor) -> Tensor:
        return self.support(block)

    def project(self, point: Tensor) -> Tensor:
        offset = remove_mean(point) - self.center
        size = norm(offset)
        factor = torch.where(size > self.radius, self.radius / size.clamp_min(torch.finfo(size.dtype).tiny), 1.0)
        return self.center + offset * per_image(factor)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        import cvxpy as cp

        shape = (1, *self.center.shape[1:])
        center = self.center[image].flatten().double().cpu().numpy()
        cone = cp.SOC(cp.Constant(float(self.radius[image])), delta - center)
        mean = cp.sum(delta) == 0

        def dual() -> Tensor:
            block = -torch.as_tensor(cone.dual_value[1]).reshape(shape)
            return remove_mean(block) + float(mean.dual_value)

        return ConicForm([cone, mean], dual)

    def conic_size(self) -> int:
        return 3 * self.center[0].numel()


def remove_mean(image: Tensor) -> Tensor:
    """``v - mean(v)`` per image, over all channels and pixels."""
    return image - image.mean(dim=(1, 2, 3), keepdim=True)


def shift_to_zero_mean(delta: Tensor, lower: Tensor, upper: Tensor, steps: int = 60) -> Tensor:
    """``clip(delta + theta, lower, upper)`` with theta chosen per image so that the mean is 0.

    It is the nearest point of the bounds within that hyperplane. The mean is a non-decreasing, piecewise linear
    function of theta: Newton steps inside a shrinking bracket.
    """
    finite_lower = torch.where(lower.isfinite(), lower, delta - delta.abs().amax() - 1)
    finite_upper = torch.where(upper.isfinite(), upper, delta + delta.abs().amax() + 1)
    low = (finite_lower - delta).flatten(1).amin(dim=1)
    high = (finite_upper - delta).flatten(1).amax(dim=1)
    theta = torch.zeros_like(low)
    for _ in range(steps):
        moved = (delta + per_image(theta)).clamp(lower, upper)
        mean = moved.flatten(1).mean(dim=1)
        free = ((moved > lower) & (moved < upper)).flatten(1).to(delta.dtype).mean(dim=1)
        high = torch.where(mean > 0, torch.minimum(high, theta), high)
        low = torch.where(mean < 0, torch.maximum(low, theta), low)
        newton = theta - mean / free.clamp_min(torch.finfo(delta.dtype).tiny)
        inside = (newton > low) & (newton < high)
        step = torch.where(inside, newton, (low + high) / 2)
        if bool((mean.abs() <= torch.finfo(delta.dtype).eps * 0.1).all()):
            break
        theta = torch.where(mean == 0, theta, step)
    return (delta + per_image(theta)).clamp(lower, upper)
