"""Dual blocks of sets of windows, stored as one image and two or three numbers a window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.errors import ProblemError
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
        constant = self.mean - self.ball * op.mean(self.point)
        if self.reference is None:
            slope, offset = op.adjoint(torch.stack([self.ball, constant]))
            return self.point * slope + offset
        constant = constant - self.reference * op.mean(image)
        slope, image_slope, offset = op.adjoint(torch.stack([self.ball, self.reference, constant]))
        return self.point * slope + image * image_slope + offset

    def centred(self, op: WindowOperator, image: Tensor) -> tuple[Tensor, Tensor]:
        """``|y_perp|`` and ``(R_p x)'y_perp`` of every window, (B, C, P_h, P_w); ``image`` is x."""
        variance, covariance = op.variance(self.point), op.covariance(image, self.point)
        if self.reference is None:
            return self.ball.abs() * variance.sqrt(), self.ball * covariance
        image_variance, factor = op.variance(image), self.reference
        square = self.ball.square() * variance + 2 * self.ball * factor * covariance + factor.square() * image_variance
        along = self.ball * covariance + factor * image_variance
        return square.clamp_min(0).sqrt(), along


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
