"""How a window may divide its loss between luminance and contrast, and what it gains at most by doing so.

With the levels ``A = (1 - S2)/S2`` and ``B = (1 - S1)/S1``, ``SSIM = S1 S2 >= t`` reads ``(1 + A)(1 + B) <= 1/t``: a
window chooses a point of a hyperbola. It is parametrised by the contrast's share s in [0, 1], ``A/B = s/(1 - s)``.

At levels A and B a window is a ball, centre ``A R x`` and square radius ``A (2 V(x) + C2) + A^2 V(x)``, and an interval
alike for means, so the support function of all that it may do is, for a dual vector with
``size = |y_perp|``, ``along = (R x)'y_perp`` and ``mean = sqrt(w)'y``, the largest value along the hyperbola of

    F(A) + G(B),    F(A) = along A + size sqrt(A (2 V + C2) + A^2 V),
                    G(B) = m mean B + |mean| sqrt(B (2 m^2 + C1) + B^2 m^2).

F and G are concave and do not fall. Expanded at any point of the hyperbola, with ``dA`` and ``dB`` from there,

    F(A) = F* + F'* dA - k dA^2,  k = size (2 V + C2)^2 / (4 q* (tau + sqrt(q))),   dB = B'* dA + c dA^2,

exactly, where q is what stands under the root and tau the tangent of the root: k falls in A, c too, and G is alike.
Where k outweighs c, as at thresholds near 1, the point where the slopes balance is the maximum, proved so. Elsewhere
the hyperbola is cut into pieces: on each the tangents at its middle bound F and G, and a plane that does not fall in A
and B is convex along the hyperbola, so that the larger of the two ends bounds the sum. Neither way asks for convexity
of the set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Fixed-point steps to the best share; each gains about a factor of 1/t - 1.
STEPS = 6
# Below this threshold the best share is looked for from a grid of GRID pieces.
ONE_PEAK, GRID = 0.75, 16
# Of the value, what the expansion may leave open before pieces are tried.
SLACK = 1e-7
# Pieces at first, and how often they are halved.
PIECES, HALVINGS = 8, 12
WINDOWS_TOGETHER = 1 << 17  # whose pieces are in memory at once


@dataclass(frozen=True)
class Loss:
    """One of a window's two losses, as a function of its level: ``along L + size sqrt(L base + L^2 square)``.

    Attributes:
        along, size: of the dual vector; size >= 0 and ``|along| <= size sqrt(square)``.
        base, square: ``2 V + C2`` and V, or ``2 m^2 + C1`` and m^2.
    """

    along: Tensor
    size: Tensor
    base: Tensor
    square: Tensor

    def value(self, level: Tensor) -> Tensor:
        return self.along * level + self.size * (level * (self.base + level * self.square)).sqrt()

    def __getitem__(self, index: tuple[Tensor, ...]) -> Loss:
        return Loss(self.along[index], self.size[index], self.base[index], self.square[index])

    def rate(self, level: Tensor) -> Tensor:
        """The derivative times the square root of the level, which stays finite at 0."""
        root = (self.base + level * self.square).sqrt()
        tiny = torch.finfo(root.dtype).tiny
        steep = self.size * (self.base + 2 * level * self.square) / (2 * root).clamp_min(tiny)
        return (self.along * level.sqrt() + steep).clamp_min(0)

    def slope(self, level: Tensor) -> Tensor:
        """The derivative; infinite at 0, but 0 where nothing can be gained."""
        rate = self.rate(level)
        return torch.where(rate > 0, rate / level.sqrt(), 0.0)

    def curvature(self, level: Tensor, most: float) -> Tensor:
        """The least k, for levels up to ``most``, of the expansion at ``level``; see the module's text."""
        under = level * (self.base + level * self.square)
        root, last = under.sqrt(), (most * (self.base + most * self.square)).sqrt()
        tangent = root + (most - level) * (self.base + 2 * level * self.square) / (2 * root)
        k = self.size * self.base.square() / (4 * under * (tangent + last))
        return torch.where((self.size > 0) & (under > 0), k, 0.0)


def levels(share: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """A and B with ``(1 + A)(1 + B) = 1/t`` and ``A/B = share/(1 - share)``, in the shape of ``share``."""
    return _levels(share, 1 - share, 1 / threshold - 1)


def share_of(level_a: Tensor, level_b: Tensor) -> Tensor:
    """The share at which levels stand to one another, 1/2 where both are 0."""
    total = level_a + level_b
    return torch.where(total > 0, level_a / total.clamp_min(torch.finfo(total.dtype).tiny), 0.5)


def best_share(
    contrast: Loss, luminance: Loss, threshold: float, share: Tensor | None = None, steps: int = STEPS
) -> Tensor:
    """About the share at which ``F(A) + G(B)`` is largest, from ``share`` on: where ``(1 + A) F' = (1 + B) G'``, a
    fixed point, as ``sqrt(A) F'`` and ``sqrt(B) G'`` hardly vary."""
    start = torch.full_like(contrast.size, 0.5) if share is None else share
    if share is None and threshold < ONE_PEAK:
        start = _best_of_grid(contrast, luminance, threshold)
    share = start
    for _ in range(steps):
        level_a, level_b = levels(share, threshold)
        first = (contrast.rate(level_a) * (1 + level_a)).square()
        second = (luminance.rate(level_b) * (1 + level_b)).square()
        share = share_of(first, second)
    if threshold >= ONE_PEAK:
        return share
    better = _sum(contrast, luminance, threshold, share) >= _sum(contrast, luminance, threshold, start)
    return torch.where(better, share, start)


def _best_of_grid(contrast: Loss, luminance: Loss, threshold: float) -> Tensor:
    """The best of a few shares: at low thresholds there may be two peaks."""
    best, most = torch.zeros_like(contrast.size), torch.full_like(contrast.size, -torch.inf)
    for k in range(GRID + 1):
        share = torch.full_like(best, math.sin(math.pi / 2 * k / GRID) ** 2)
        value = _sum(contrast, luminance, threshold, share)
        best, most = torch.where(value > most, share, best), torch.maximum(value, most)
    return best


def _sum(contrast: Loss, luminance: Loss, threshold: float, share: Tensor) -> Tensor:
    level_a, level_b = levels(share, threshold)
    return contrast.value(level_a) + luminance.value(level_b)


def largest(contrast: Loss, luminance: Loss, threshold: float) -> Tensor:
    """An upper bound on ``max F(A) + G(B)`` along the hyperbola, rigorous whatever :func:`best_share` finds."""
    share = best_share(contrast, luminance, threshold)
    most, proved = _around(contrast, luminance, threshold, share)
    # At low thresholds these are most windows, and each has tens of pieces.
    for part in (~proved).nonzero().split(WINDOWS_TOGETHER):
        rest = part.unbind(dim=1)
        pieces = _by_pieces(contrast[rest], luminance[rest], threshold, share[rest])
        most[rest] = torch.minimum(most[rest], pieces)
    return most


def _around(contrast: Loss, luminance: Loss, threshold: float, share: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value by the expansion at ``share``, infinite where that proves nothing, and whether it is proved to
    within SLACK of the value there."""
    a, b = levels(share, threshold)
    whole, allowed = 1 / threshold, 1 / threshold - 1
    value = contrast.value(a) + luminance.value(b)
    slope_a, slope_b = contrast.slope(a), luminance.slope(b)
    # dA >= -A and dB at least dA/(1 + A*) in size: k and c at their least and most.
    bend = slope_b * whole / (1 + a).square()
    curvature = contrast.curvature(a, allowed) + luminance.curvature(b, allowed) / (1 + a).square() - bend
    tilt = slope_a - slope_b * whole / (1 + a).square()
    ends = torch.maximum(-tilt * a, tilt * (allowed - a))
    tiny = torch.finfo(value.dtype).tiny
    more = torch.minimum(tilt.square() / (4 * curvature.clamp_min(tiny)), ends).clamp_min(0)
    sound = (curvature > 0) & more.isfinite()
    return torch.where(sound, value + more, torch.inf), sound & (more <= SLACK * value)


def _by_pieces(contrast: Loss, luminance: Loss, threshold: float, best: Tensor) -> Tensor:
    """The largest value, (N,), by branch and bound over pieces of the hyperbola, against the value at the shares
    ``best`` (N,)."""
    allowed = 1 / threshold - 1
    known = _sum(contrast, luminance, threshold, best)
    count = known.numel()

    def at(angle: Tensor) -> Levels:
        return _levels(angle.sin().square(), angle.cos().square(), allowed)

    window = torch.arange(count, device=known.device).repeat(PIECES)
    first = torch.arange(PIECES, device=known.device).repeat_interleave(count).to(known.dtype)
    width = math.pi / 2 / PIECES
    first, last = width * first, width * (first + 1)
    for halving in range(HALVINGS + 1):
        index = (window,)
        value = _piece(contrast[index], luminance[index], at(first), at((first + last) / 2), at(last))
        most = known.scatter_reduce(0, window, value, "amax")
        open_ = value > (1 + SLACK) * known[window]
        if halving == HALVINGS or not bool(open_.any()):
            break
        window, first, last = window[open_], first[open_], last[open_]
        middle = (first + last) / 2
        window, first, last = window.repeat(2), torch.cat([first, middle]), torch.cat([middle, last])
    return torch.maximum(most, (1 + SLACK) * known)


Levels = tuple[Tensor, Tensor]


def _piece(contrast: Loss, luminance: Loss, first: Levels, middle: Levels, last: Levels) -> Tensor:
    """A bound on ``F + G`` between two points, contrast rising from first to last: the tangents at the middle, or
    either loss at its largest."""
    value = contrast.value(middle[0]) + luminance.value(middle[1])
    slope_a, slope_b = contrast.slope(middle[0]), luminance.slope(middle[1])
    ends = [slope_a * (a - middle[0]) + slope_b * (b - middle[1]) for a, b in (first, last)]
    tangent = value + torch.maximum(ends[0], ends[1])
    apart = contrast.value(last[0]) + luminance.value(first[1])
    return torch.where(tangent < apart, tangent, apart)


def _levels(share: Tensor, rest: Tensor, allowed: float) -> Levels:
    scale = 2 * allowed / (1 + (1 + 4 * allowed * share * rest).sqrt())
    return scale * share, scale * rest
