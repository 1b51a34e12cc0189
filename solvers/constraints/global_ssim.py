"""The global SSIM ball of Pochimireddy, Siripuram and Channappayya (arXiv 2106.12731): the image is one window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.batch_algebra import ball_scale_factor, inner, per_image
from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.data_range import check_spread
from solvers.rounding import UNIT, gamma, length, rounded_up, sum_operations, total, total_and_error
from solvers.validation import positive, share

if TYPE_CHECKING:
    import cvxpy as cp

# c2 of the paper, for pixels in [-1, 1].
PAPER_CONSTANT = 9e-4


# The size of a mean that counts as 0, relative to the range of pixels.
KEPT_MEAN_SHARE = 2.0**-50


@dataclass(frozen=True)
class GlobalSSIM(Constraint):
    """``d2 = sqrt(1 - S2) <= distance`` with the mean kept; the whole image, with all channels, is one vector.

    With ``y = x + d`` and ``v~ = v - mean(v)``, ``1 - S2 = |x~ - y~|^2 / (|x~|^2 + |y~|^2 + c2)``. The derivation in
    :mod:`solvers.constraints.window_ssim` applies with ``alpha = e^2``: the set is exactly the ball ``|d - a x~| <= k``
    in the subspace ``mean(d) = 0``, with ``a = e^2/(1 - e^2)`` and ``k^2 = |x~|^2 (1/(1 - e^2)^2 - 1) + c2 e^2/(1 -
    e^2)``. As in the paper and its released code, c2 is added to *sums* of squares.

    Attributes:
        distance: e, the bound on d2, 0 < e < 1.
        constant: c2, for the paper's pixels; default 9e-4.
        pixel_scale: the factor between differences of the paper's pixels, in [-1, 1], and of the problem's pixels;
            default 2, for pixels in [0, 1]. For pixels with a range of L it is 2/L. A problem is refused whose pixels
            spread over more than 4 L.

    Raises:
        ProblemError: a value lies outside its range.
    """

    distance: float
    constant: float = PAPER_CONSTANT
    pixel_scale: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", share("GlobalSSIM distance", self.distance))
        for name in ("constant", "pixel_scale"):
            object.__setattr__(self, name, positive(f"GlobalSSIM {name}", getattr(self, name)))

    def check_pixels(self, reference: Tensor, sound: Tensor) -> None:
        data_range = pixel_range(self.constant, self.pixel_scale)
        check_spread(
            reference.flatten(1)[:, None],
            data_range,
            sound,
            option=f"GlobalSSIM pixel_scale is {self.pixel_scale:g}, for pixels with a range of {data_range:g}",
            group="",
            remedy="2 over the range that pixels can take (2/255 for 8 bits, 2/65535 for 16)",
        )

    def bind(self, reference: Tensor) -> BoundGlobalSSIM:
        return BoundGlobalSSIM(self, reference)


class BoundGlobalSSIM(BoundConstraint):
    """The ball in the hyperplane ``mean(d) = 0``. Its dual block is a tensor like the image, ``A = I``.

    Attributes:
        center: a x~, (B, C, H, W).
        radius: k, (B,).
        kept_mean_tolerance: a mean of d of at most this size, in pixels, counts as 0: floating point can't meet the
            equality. The certificate's bound speaks of the set with this tolerance.
    """

    constraint: GlobalSSIM

    def __init__(self, constraint: GlobalSSIM, reference: Tensor) -> None:
        self.constraint = constraint
        square = constraint.distance**2
        self.constant = constraint.constant / constraint.pixel_scale**2
        self.centred_reference = remove_mean(reference)
        energy = total(self.centred_reference.square())
        self.reference_energy = energy
        self.center = square / (1 - square) * self.centred_reference
        # 1/(1 - s)^2 - 1 = s (2 - s)/(1 - s)^2, in a form without cancellation for small s.
        self.radius = (
            energy * (square * (2 - square) / (1 - square) ** 2) + self.constant * square / (1 - square)
        ).sqrt()
        operations = sum_operations(reference)
        scale = pixel_range(constraint.constant, constraint.pixel_scale)
        self.kept_mean_tolerance = (KEPT_MEAN_SHARE + 2 * operations * UNIT) * scale
        # How far, as a vector, rounding may have moved the centre, and by how much the radius may be too small.
        self._largest_reference = reference.abs().flatten(1).amax(dim=1)
        spread = gamma(operations) * reference[0].numel() ** 0.5 * self._largest_reference
        ratio, steepness = square / (1 - square), 1 / (1 - square)
        self._center_error = 4 * ratio * (spread + 4 * UNIT * steepness * length(self.centred_reference))
        self._radius_error = gamma(4 * operations) * steepness * self.radius
        self._radius_error = self._radius_error + 4 * (ratio * (2 + ratio)) ** 0.5 * spread

    def distance(self, delta: Tensor) -> Tensor:
        """d2 of ``x`` and ``x + delta``, free of cancellation: (B,)."""
        centred = remove_mean(delta)
        perturbed_energy = total((self.centred_reference + centred).square())
        return length(centred) / (self.reference_energy + perturbed_energy + self.constant).sqrt()

    def excess(self, delta: Tensor) -> Tensor:
        """The larger of d2 - e and, in pixels, the size of d's mean beyond ``kept_mean_tolerance``, (B,)."""
        mean = _mean(delta).abs() - self.kept_mean_tolerance
        return torch.maximum(self.distance(delta) - self.constraint.distance, mean)

    def certain_excess(self, delta: Tensor) -> Tensor:
        size, error = total_and_error(delta)
        mean_up = (size.abs() + error) / delta[0].numel() * (1 + 4 * UNIT)
        return torch.maximum(self.certain_excess_but_for_means(delta), mean_up - self.kept_mean_tolerance)

    def certain_excess_but_for_means(self, delta: Tensor) -> Tensor:
        operations, pixels = sum_operations(delta), delta[0].numel()
        # Subtracting a mean that is slightly wrong adds to both sums of squares, which matters beside the constant.
        largest = self._largest_reference + delta.abs().flatten(1).amax(dim=1)
        added = pixels * (gamma(operations) * largest).square() / self.constant
        distance_up = self.distance(delta) * (1 + gamma(8 * operations) + added) + 1e-300
        return distance_up - self.constraint.distance

    def largest_pixel(self) -> Tensor:
        largest = self.center.abs().flatten(1).amax(dim=1) + self.radius
        return (largest + self._center_error + self._radius_error) * (1 + 8 * UNIT) + self.kept_mean_tolerance

    def scale_factor(self, delta: Tensor) -> Tensor:
        centred = remove_mean(delta)
        constant = self.center.square().flatten(1).sum(dim=1) - self.radius.square()
        return ball_scale_factor(centred.square().flatten(1).sum(dim=1), inner(self.center, centred), constant)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """``delta`` plus one number an image, clipped to the bounds, so that the mean is 0."""
        return shift_to_zero_mean(delta, lower, upper)

    @property
    def has_equality(self) -> bool:
        return True

    def support(self, direction: Tensor) -> Tensor:
        """``c'z~ + k |z~|`` with ``z~ = z - mean(z)``, rounded up, (B,).

        With the float ``s`` for the mean of z, ``z'd = (z - s)'d + s sum(d)``, and the sum of d is at most the number
        of pixels times ``kept_mean_tolerance``. So an inexact s costs next to nothing.
        """
        pixels = direction[0].numel()
        mean = _mean(direction)
        centred = direction - per_image(mean)
        size = length(centred)
        along, error = total_and_error(self.center * centred, operations=4)
        radius = self.radius + self._radius_error + self._center_error + pixels**0.5 * self.kept_mean_tolerance
        kept = pixels * self.kept_mean_tolerance * mean.abs()
        value = along + radius * size + kept
        # The subtraction rounds every pixel of `centred`, and |d| is at most that of the centre and the radius.
        reach = length(self.center) + radius
        error = error + gamma(sum_operations(direction)) * (along.abs() + 4 * reach * size + kept)
        return rounded_up(value, error)

    def gap_of_tolerance(self, direction: Tensor) -> Tensor:
        """A d with pixels of at most ``kept_mean_tolerance`` beside the mean 0, once in the bound, once in its
        rounding. It decides where z is constant: the optimum over means of exactly 0 is 0."""
        return 2 * direction[0].numel() ** 0.5 * self.kept_mean_tolerance * length(direction)

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(self.center.shape),)

    def adjoint(self, block: Tensor) -> Tensor:
        return block

    def adjoint_error(self, block: Tensor) -> Tensor:
        return torch.zeros_like(self.radius)

    def dual_value(self, block: Tensor) -> Tensor:
        return self.support(block)

    def project(self, point: Tensor) -> Tensor:
        offset = remove_mean(point) - self.center
        size = length(offset)
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


def pixel_range(constant: float, pixel_scale: float) -> float:
    """L, the range of pixels that ``constant`` and ``pixel_scale`` of :class:`GlobalSSIM` stand for.

    A constant above the paper's is one for pixels of a wider range than the paper's. A smaller one says nothing of the
    range: it makes the constant negligible.
    """
    return 2 / pixel_scale * math.sqrt(max(1.0, constant / PAPER_CONSTANT))


def remove_mean(image: Tensor) -> Tensor:
    """``v - mean(v)`` for every image, over all channels and pixels: (B, C, H, W)."""
    return image - per_image(_mean(image))


def _mean(image: Tensor) -> Tensor:
    """The mean over all channels and pixels, (B,)."""
    return total(image) / image[0].numel()


def shift_to_zero_mean(delta: Tensor, lower: Tensor, upper: Tensor, steps: int = 60) -> Tensor:
    """``clip(delta + theta, lower, upper)`` with one theta an image, chosen so that the mean is 0.

    The result is the nearest point that has mean 0 and lies within the bounds. The mean is a non-decreasing, piecewise
    linear function of theta, and Newton steps inside a shrinking bracket find its root.
    """
    finite_lower = torch.where(lower.isfinite(), lower, delta - delta.abs().amax() - 1)
    finite_upper = torch.where(upper.isfinite(), upper, delta + delta.abs().amax() + 1)
    low = (finite_lower - delta).flatten(1).amin(dim=1)
    high = (finite_upper - delta).flatten(1).amax(dim=1)
    theta = torch.zeros_like(low)
    for _ in range(steps):
        shifted = (delta + per_image(theta)).clamp(lower, upper)
        mean = shifted.flatten(1).mean(dim=1)
        # The derivative of the mean is the share of pixels that are not at a bound.
        free_share = ((shifted > lower) & (shifted < upper)).flatten(1).to(delta.dtype).mean(dim=1)
        high = torch.where(mean > 0, torch.minimum(high, theta), high)
        low = torch.where(mean < 0, torch.maximum(low, theta), low)
        newton = theta - mean / free_share.clamp_min(torch.finfo(delta.dtype).tiny)
        inside = (newton > low) & (newton < high)
        step = torch.where(inside, newton, (low + high) / 2)
        if bool((mean.abs() <= torch.finfo(delta.dtype).eps * 0.1).all()):
            break
        theta = torch.where(mean == 0, theta, step)
    return (delta + per_image(theta)).clamp(lower, upper)
