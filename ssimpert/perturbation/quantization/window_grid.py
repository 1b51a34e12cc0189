"""Perturbations of 8-bit pixels inside SSIM windows: grey values moved one step at a time.

Rounding adds noise of about 1/255/sqrt(12) a pixel. A window of many textured pixels hardly notices the noise. A flat
or black window has a radius of a few grey steps, and its mean may move by less than one step of ten pixels, so some of
its pixels go back to the reference's grey value. The set is convex and holds d = 0, so the moves always end inside it
where the reference itself has grey values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.constraints import WindowSSIM
from solvers.constraints.window_ssim import BoundWindowSSIM

# Windows must be inside by this share of their radius, so that pixels pass whether they are read as float32 or float64.
INSIDE_SHARE = 1e-4
# A pixel's cost to the margin counts as at least this share of the mean cost.
MIN_COST_SHARE = 0.1


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
        self.radius = (bound.radius * (1 - INSIDE_SHARE)).square()
        self.interval_middle = bound.window_balls.mean_middle
        self.half_interval = (bound.window_balls.mean_half_width * (1 - INSIDE_SHARE)).square()
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

    def settle(self, grey: Tensor, gradient: Tensor) -> Tensor:
        """Grey values near ``grey``, with every window inside where that is possible.

        Of the moves that help a window, those come first that cost the margin least, ``gradient' move``.

        Args:
            grey: (1, C, H, W) float64, integers in [0, 255].
            gradient: the margin's, (1, C, H, W) float64.
        """
        from ssimpert.perturbation.quantization.window_grid_numba import settle_plane

        # A pixel in no window keeps its value (border "valid").
        grey = torch.where(self.bound.operator.covered, grey, self.nearest).clone()
        states = self._states(grey)
        base = self.image + self.center
        floor = max(MIN_COST_SHARE * float(gradient.abs().mean()), 1e-30)
        for channel in range(grey.shape[1]):
            planes = (value[0, channel].numpy() for value in (grey, self.nearest, base, gradient))
            state = tuple(value.numpy() for value in states[:, channel])
            settle_plane(*planes, floor, self._extent, self._axes, state)
        return grey

    def lift(self, grey: Tensor, gradient: Tensor, needed: float) -> Tensor:
        """Grey values moved along the gradient, at the pixels of largest slope first, where every window has room.

        Args:
            grey: (1, C, H, W) float64, integers in [0, 255].
            gradient: the margin's, (1, C, H, W) float64.
            needed: the moves end where they promise, to first order, so much more margin.
        """
        from ssimpert.perturbation.quantization.window_grid_numba import lift_image

        grey = grey.clone()
        order = gradient.abs().flatten().argsort(descending=True, stable=True)
        base = self.image + self.center
        planes = (value[0].numpy() for value in (grey, base, gradient))
        covered = self.bound.operator.covered.numpy()
        lift_image(*planes, covered, order.numpy(), needed, self._axes, self._states(grey).numpy())
        return grey

    def _states(self, grey: Tensor) -> Tensor:
        """The windows' states, (5, C, P_h, P_w), for ``c = d - a x``.

        These are the means of c, of c^2, and of d less the middle of its interval; then the squared radius, and the
        squared half of the interval.
        """
        op, delta = self.bound.operator, grey / 255 - self.image
        centred = delta - self.center
        mean, square, shift = op.mean(torch.stack([centred, centred.square(), delta]))
        return torch.stack([mean, square, shift - self.interval_middle, self.radius, self.half_interval])[:, 0]


def _windows_over(starts: list[int], size: int, length: int) -> tuple[Tensor, Tensor]:
    """The index of the first window over each pixel of an axis, and the number of windows over it, (length,) each."""
    edges, pixels = torch.tensor(starts), torch.arange(length)
    first = torch.searchsorted(edges, pixels - size, right=True)
    return first, torch.searchsorted(edges, pixels, right=True) - first
