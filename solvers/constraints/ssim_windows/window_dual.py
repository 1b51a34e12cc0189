"""Dual blocks of sets of windows without their window vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.errors import ProblemError
from solvers.windows import WindowOperator


@dataclass(frozen=True, eq=False)
class WindowDual:
    """A dual block without its window vectors: ``y_p = ball_p R_p v + mean_p sqrt(w)`` with one image v.

    This is the form that optimal blocks have, with v = d - a x. Where a differs from window to
    window, v = d and ``reference_p = -ball_p a_p``: ``y_p = ball_p R_p v + reference_p R_p x + mean_p sqrt(w)``. Memory
    is that of an image, not of image x window.

    Attributes:
        ball: (B, C, P_h, P_w), a factor per window.
        point: v, (B, C, H, W).
        mean: s_p, (B, C, P_h, P_w).
        reference: a factor of the image itself, (B, C, P_h, P_w); ``None`` for none, and always for WindowSSIM.
    """

    ball: Tensor
    point: Tensor
    mean: Tensor
    reference: Tensor | None = None

    def parts(self) -> tuple[Tensor, ...]:
        """The tensors that there are, in the order of the constructor's arguments."""
        some = (self.ball, self.point, self.mean)
        return some if self.reference is None else (*some, self.reference)

    def to(self, *, dtype: torch.dtype, device: torch.device | None = None) -> WindowDual:
        """The block in another dtype or on another device."""
        return WindowDual(*(part.to(dtype=dtype, device=device) for part in self.parts()))

    def __getitem__(self, index: Tensor) -> WindowDual:
        return WindowDual(*(part[index] for part in self.parts()))

    def check(self, lattice: tuple[int, ...], image: tuple[int, ...]) -> None:
        """Raise :class:`ProblemError` where the parts are not of these shapes, (B, C, P_h, P_w) and (B, C, H, W)."""
        expected = {"ball": lattice, "point": image, "mean": lattice, "reference": lattice}
        for name, shape in expected.items():
            part = getattr(self, name)
            if part is not None and tuple(part.shape) != shape:
                raise ProblemError(f"WindowDual {name} must have shape {shape}, got {tuple(part.shape)}")

    def adjoint(self, op: WindowOperator, image: Tensor) -> Tensor:
        """``A'y``, (B, C, H, W); ``image`` is x."""
        # sum_p w (ball_p (v - m_p(v)) + reference_p (x - m_p(x)) + mean_p)
        level = self.mean - self.ball * op.mean(self.point)
        if self.reference is None:
            slope, offset = op.adjoint(torch.stack([self.ball, level]))
            return self.point * slope + offset
        level = level - self.reference * op.mean(image)
        slope, tilt, offset = op.adjoint(torch.stack([self.ball, self.reference, level]))
        return self.point * slope + image * tilt + offset

    def centred(self, op: WindowOperator, image: Tensor) -> tuple[Tensor, Tensor]:
        """``|y_perp|`` and ``(R_p x)'y_perp`` of every window, (B, C, P_h, P_w); ``image`` is x."""
        spread, along = op.variance(self.point), op.covariance(image, self.point)
        if self.reference is None:
            return self.ball.abs() * spread.sqrt(), self.ball * along
        own, tilt = op.variance(image), self.reference
        square = self.ball.square() * spread + 2 * self.ball * tilt * along + tilt.square() * own
        along = self.ball * along + tilt * own
        return square.clamp_min(0).sqrt(), along


def window_vectors(op: WindowOperator, block: WindowDual | Tensor) -> Tensor:
    """The block as window vectors (B, C, P_h, P_w, size^2), ``y_p = ball_p R_p v + mean_p sqrt(w)``, in the dtype of
    ``op``. Memory: image x window."""
    dtype, device = op.rows.dtype, op.rows.device
    if not isinstance(block, WindowDual):
        return torch.as_tensor(block).to(dtype=dtype, device=device)
    block = block.to(dtype=dtype, device=device)
    along = block.mean - block.ball * op.mean(block.point)
    return op.vectors(block.point).mul_(block.ball[..., None]).add_(along[..., None] * op.root_weights)
