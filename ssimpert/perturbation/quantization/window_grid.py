"""Perturbations of 8-bit pixels inside SSIM windows: integer levels moved one grid step at a time.

Rounding adds noise of about 1/255/sqrt(12) a pixel. A window of many textured pixels hardly notices; a flat or black
one has a radius of a few grid steps and a mean that may move by less than one step of ten pixels, so some of its pixels
go back to the reference's own level. The set is convex and holds d = 0: for a reference on the grid that always ends
inside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.constraints import WindowSSIM
from solvers.constraints.window_ssim import BoundWindowSSIM

# Windows are asked to be this share of their radius inside, so that pixels read as float32 or float64 both pass.
INSIDE = 1e-4
# A pixel's cost to the margin counts as at least this share of the mean one.
LEAST_COST = 0.1


class WindowGrid:
    """The windows of one image, and the moves of its pixels that they allow.

    Args:
        constraint: with means that may move (luminance not ``"preserve"``).
        image: the reference, (1, C, H, W), float64, on the CPU.
    """

    def __init__(self, constraint: WindowSSIM, image: Tensor) -> None:
        bound = constraint.bind(image)
        assert isinstance(bound, BoundWindowSSIM)
        self.image, self.bound = image, bound
        self.center = bound.ball_center * image
        self.radius = (bound.radius * (1 - INSIDE)).square()
        self.middle = (bound.mean_upper + bound.mean_lower) / 2
        self.half = ((bound.mean_upper - bound.mean_lower) / 2 * (1 - INSIDE)).square()
        self.nearest = (image * 255).round()
        op = bound.operator
        sides = ((op.row_starts, op.rows, op.height), (op.column_starts, op.columns_t.t(), op.width))
        size = op.window.size
        self._axes: tuple[object, ...] = ()
        self._extent: tuple[object, ...] = ()
        for starts, weights, length in sides:
            first, count = _windows_over(starts, size, length)
            self._axes += (first.numpy(), count.numpy(), weights.contiguous().numpy())
            edges = torch.tensor(starts)
            self._extent += (edges.clamp_min(0).numpy(), (edges + size).clamp_max(length).numpy())

    def settle(self, levels: Tensor, gradient: Tensor) -> Tensor:
        """Levels near ``levels`` with every window inside where that is possible; of the moves that help, those
        that cost ``gradient' move`` least. All (1, C, H, W), float64, levels integers in [0, 255]."""
        from ssimpert.perturbation.quantization.window_grid_numba import settle_plane

        # A pixel in no window keeps its value (border "valid").
        levels = torch.where(self.bound.operator.covered, levels, self.nearest).clone()
        states = self._states(levels)
        base = self.image + self.center
        floor = max(LEAST_COST * float(gradient.abs().mean()), 1e-30)
        for channel in range(levels.shape[1]):
            planes = (value[0, channel].numpy() for value in (levels, self.nearest, base, gradient))
            state = tuple(value.numpy() for value in states[:, channel])
            settle_plane(*planes, floor, self._extent, self._axes, state)
        return levels

    def lift(self, levels: Tensor, gradient: Tensor, need: float) -> Tensor:
        """Levels moved along the gradient, largest slope first, where the windows have room, until the linear model
        promises ``need`` more margin."""
        from ssimpert.perturbation.quantization.window_grid_numba import lift_image

        levels = levels.clone()
        order = gradient.abs().flatten().argsort(descending=True, stable=True)
        base = self.image + self.center
        planes = (value[0].numpy() for value in (levels, base, gradient))
        covered = self.bound.operator.covered.numpy()
        lift_image(*planes, covered, order.numpy(), need, self._axes, self._states(levels).numpy())
        return levels

    def _states(self, levels: Tensor) -> Tensor:
        """Means of c, of c^2 and of d less its middle; squared radius and half interval: (5, C, P_h, P_w)."""
        op, delta = self.bound.operator, levels / 255 - self.image
        centred = delta - self.center
        mean, square, shift = op.mean(torch.stack([centred, centred.square(), delta]))
        return torch.stack([mean, square, shift - self.middle, self.radius, self.half])[:, 0]


def _windows_over(starts: list[int], size: int, length: int) -> tuple[Tensor, Tensor]:
    """Number of the first window over each pixel of an axis, and how many there are, (length,) each."""
    edges, pixels = torch.tensor(starts), torch.arange(length)
    first = torch.searchsorted(edges, pixels - size, right=True)
    return first, torch.searchsorted(edges, pixels, right=True) - first
