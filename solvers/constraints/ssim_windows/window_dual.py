"""Dual blocks of sets of windows, stored as one image and two or three numbers a window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.errors import ProblemError
from solvers.rounding import times_power_of_two, total_up
from solvers.windows import WindowOperator


@dataclass(frozen=True, eq=False)
class WindowDual:
    """A dual block without its window vectors: ``y_p = ball_p R_p v + mean_p sqrt(w)`` with one image v.

    Optimal blocks have this form, with v = d - a x. Where a differs from window to window, v = d and
    ``reference_p = -ball_p a_p``, so that ``y_p = ball_p R_p v + reference_p R_p x + mean_p sqrt(w)``. The block needs
    the memory of a few images; window vectors would need size^2 times that.

    Attributes:
        ball: a factor for each window, (B, C, P_h, P_w).
        point: v, (B, C, H, W).
        mean: s_p, (B, C, P_h, P_w).
        reference: a factor of x for each window, (B, C, P_h, P_w), or ``None``. It is always ``None`` for WindowSSIM.
    """

    ball: Tensor
    point: Tensor
    mean: Tensor
    reference: Tensor | None = None

    def parts(self) -> tuple[Tensor, ...]:
        """The tensors that are not ``None``, in the order of the constructor's arguments."""
        required = (self.ball, self.point, self.mean)
        return required if self.reference is None else (*required, self.reference)

    def to(self, *, dtype: torch.dtype, device: torch.device | None = None) -> WindowDual:
        """The block in another dtype or on another device."""
        return WindowDual(*(part.to(dtype=dtype, device=device) for part in self.parts()))

    def __getitem__(self, index: Tensor) -> WindowDual:
        return WindowDual(*(part[index] for part in self.parts()))

    def check(self, lattice: tuple[int, ...], image: tuple[int, ...]) -> None:
        """Raise :class:`ProblemError` where a part has another shape.

        Args:
            lattice: the shape of the parts with one number a window, (B, C, P_h, P_w).
            image: the shape of ``point``, (B, C, H, W).
        """
        expected = {"ball": lattice, "point": image, "mean": lattice, "reference": lattice}
        for name, shape in expected.items():
            part = getattr(self, name)
            if part is not None and tuple(part.shape) != shape:
                raise ProblemError(f"WindowDual {name} must have shape {shape}, got {tuple(part.shape)}")

    def adjoint(self, op: WindowOperator, image: Tensor) -> Tensor:
        """``A'y``, (B, C, H, W); ``image`` is x."""
        # sum_p w (ball_p (v - m_p(v)) + reference_p (x - m_p(x)) + mean_p)
        point = centred_planes(self.point)
        constant = self.mean - self.ball * op.mean(point)
        if self.reference is None:
            slope, offset = op.adjoint(torch.stack([self.ball, constant]))
            return point * slope + offset
        image = centred_planes(image)
        constant = constant - self.reference * op.mean(image)
        slope, image_slope, offset = op.adjoint(torch.stack([self.ball, self.reference, constant]))
        return point * slope + image * image_slope + offset

    def adjoint_error(self, op: WindowOperator, image: Tensor) -> Tensor:
        """A bound on the l1 norm of the rounding error of :meth:`adjoint`, (B,).

        The weights of a window sum to 1. So the terms of ``A'y`` sum, in size, to at most ``|mean_p| + 2 |ball_p v|``
        a window, with the largest ``|v|`` of the channel.
        """
        sizes = self.mean.abs() + 2 * self.ball.abs() * largest_of_planes(centred_planes(self.point))
        if self.reference is not None:
            sizes = sizes + 2 * self.reference.abs() * largest_of_planes(centred_planes(image))
        return 4 * op.relative_error * total_up(sizes, operations=8)

    def centred(self, op: WindowOperator, image: Tensor) -> CentredDual:
        """The part of the block that is orthogonal to the windows' means; ``image`` is x."""
        # The image v is brought to an ordinary size, and its factors make up for it, and then the factors: squares must
        # not vanish. The result grows with the factors, so it is scaled back.
        point, exponent = to_ordinary_size(centred_planes(self.point))
        ball, image = times_power_of_two(self.ball, exponent), centred_planes(image)
        factors = ball[:, None] if self.reference is None else torch.stack([ball, self.reference], dim=1)
        exponent = exponents(factors, dim=1)
        factors = times_power_of_two(factors, -exponent[:, None])
        factor = None if self.reference is None else factors[:, 1]
        return self._centred(op, image, point, factors[:, 0], factor).times_power_of_two(exponent)

    def _centred(
        self, op: WindowOperator, image: Tensor, point: Tensor, ball: Tensor, factor: Tensor | None
    ) -> CentredDual:
        """See :meth:`centred`, for images and factors whose squares are ordinary numbers."""
        variance, covariance = op.variance(point), op.covariance(image, point)
        image_variance = op.variance(image)
        # What rounding changes: a deviation from the mean is wrong by at most 4 eta of itself and of the largest pixel.
        eta = 4 * op.relative_error
        std, image_std = variance.sqrt(), image_variance.sqrt()
        std_error, image_error = (
            torch.where(op.pixels > 1, eta * (value + largest_of_planes(pixels)), 0.0)
            for value, pixels in ((std, point), (image_std, image))
        )
        covariance_error = (std + std_error) * (image_std + image_error) - std * image_std + eta * std * image_std
        if factor is None:
            return CentredDual(ball.abs() * (std + std_error), ball * covariance, ball.abs() * covariance_error)
        variance_error, image_variance_error = (
            (value + error).square() - value.square() + eta * value.square()
            for value, error in ((std, std_error), (image_std, image_error))
        )
        square = ball.square() * variance + 2 * ball * factor * covariance + factor.square() * image_variance
        error = ball.square() * variance_error + 2 * (ball * factor).abs() * covariance_error
        error = error + factor.square() * image_variance_error
        along = ball * covariance + factor * image_variance
        along_error = ball.abs() * covariance_error + factor.abs() * image_variance_error
        return CentredDual((square.clamp_min(0) + error).sqrt(), along, along_error)


@dataclass(frozen=True, eq=False)
class CentredDual:
    """What a support function needs of ``y_perp``, the part of a block orthogonal to the means; (B, C, P_h, P_w) each.

    Attributes:
        size: ``|y_perp|`` of every window, rounded up.
        along: ``(R_p x)'y_perp``.
        along_error: a bound on the rounding of ``along``.
    """

    size: Tensor
    along: Tensor
    along_error: Tensor

    def times_power_of_two(self, exponent: Tensor) -> CentredDual:
        """For the windows' vectors times ``2^k``, with k of each window (B, C, P_h, P_w)."""
        return CentredDual(
            *(times_power_of_two(value, exponent) for value in (self.size, self.along, self.along_error))
        )


def centred_planes(image: Tensor) -> Tensor:
    """The image less the mean of each of its channels, (B, C, H, W)."""
    return image - image.mean(dim=(-2, -1), keepdim=True)


def to_ordinary_size(image: Tensor) -> tuple[Tensor, Tensor]:
    """The image times ``2^-k`` with a largest pixel between 1/2 and 1 in each channel, and k, (B, C, 1, 1)."""
    largest = largest_of_planes(image)
    exponent = torch.where(largest.isfinite() & (largest > 0), torch.frexp(largest).exponent, 0)
    return times_power_of_two(image, -exponent), exponent


def exponents(values: Tensor, dim: int) -> Tensor:
    """The k with which ``2^-k`` times the largest size along a dimension lies between 1/2 and 1, without it."""
    largest = values.abs().amax(dim=dim)
    return torch.where(largest.isfinite() & (largest > 0), torch.frexp(largest).exponent, 0)


def largest_of_planes(image: Tensor) -> Tensor:
    """The largest size of a number in each channel: (B, C, H, W) -> (B, C, 1, 1)."""
    return image.abs().amax(dim=(-2, -1), keepdim=True)


def spread_over_windows(op: WindowOperator, direction: Tensor) -> WindowDual:
    """A block with ``A'y = z`` on the pixels that windows cover, for z = ``direction`` (B, C, H, W).

    ``A'A = diag(coverage)``, so ``y_p = A_p (z/coverage)`` is one.
    """
    point = torch.where(op.covered, direction / op.coverage.clamp_min(1e-30), 0.0)
    mean = op.mean(point)
    return WindowDual(torch.ones_like(mean), point, mean)


def window_vectors(op: WindowOperator, block: WindowDual | Tensor) -> Tensor:
    """The block as window vectors ``y_p = ball_p R_p v + mean_p sqrt(w)``, in the dtype of ``op``.

    The result (B, C, P_h, P_w, size^2) needs about size^2 times the memory of an image where windows overlap densely.
    """
    dtype, device = op.rows.dtype, op.rows.device
    if not isinstance(block, WindowDual):
        return torch.as_tensor(block).to(dtype=dtype, device=device)
    block = block.to(dtype=dtype, device=device)
    constant = block.mean - block.ball * op.mean(block.point)
    return op.vectors(block.point).mul_(block.ball[..., None]).add_(constant[..., None] * op.root_weights)
