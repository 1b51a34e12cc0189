"""How a window may split its loss between luminance and contrast, and the largest dual value that a split gives.

With the levels ``A = (1 - S2)/S2`` and ``B = (1 - S1)/S1`` the constraint ``SSIM = S1 S2 >= t`` reads
``(1 + A)(1 + B) <= 1/t``: a window chooses a point of a hyperbola. The contrast's share s in [0, 1] parametrises the
hyperbola, ``A/B = s/(1 - s)``.

At levels A and B the window's set is a ball with the centre ``A R x`` and the squared radius
``A (2 V(x) + C2) + A^2 V(x)``, and an interval of the same form for the mean. Let a dual vector y have
``size = |y_perp|``, ``along = (R x)'y_perp`` and ``mean = sqrt(w)'y``. The support function of the window's whole set
is then the largest value along the hyperbola of

    F(A) + G(B),    F(A) = along A + size sqrt(A (2 V + C2) + A^2 V),
                    G(B) = m mean B + |mean| sqrt(B (2 m^2 + C1) + B^2 m^2).

F and G are concave and do not fall. At any point of the hyperbola (marked *), with the differences dA and dB from it,

    F(A) = F* + F'* dA - k dA^2,  k = size (2 V + C2)^2 / (4 q* (tau + sqrt(q))),   dB = B'* dA + c dA^2,

exactly, where q is the radicand and tau the tangent of the root at *. Both k and c fall in A; G has the same form. Two
ways bound the largest value:

- Where k outweighs c, as at thresholds near 1, the point at which the slopes balance is proved to be the maximum.
- Elsewhere the hyperbola is cut into pieces. On a piece the tangents at its middle bound F and G. They make a plane
  that does not fall in A and B, so it is convex along the hyperbola, and the larger of the piece's two ends bounds the
  sum.

Neither way needs the set to be convex.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import take

# Fixed-point steps to the best share. Each step reduces the error by about the factor 1/t - 1.
SHARE_STEPS = 6
# From this threshold on the sum has one peak. Below it, the search starts at the best of SHARE_GRID + 1 shares.
ONE_PEAK_THRESHOLD, SHARE_GRID = 0.75, 16
# The rounding of a curvature, relative to its terms.
CURVATURE_ROUNDING = 1e-13
# The gap, relative to the value, that the expansion may leave before pieces are tried.
SPLIT_SLACK = 1e-7
# The number of pieces at first, and how often they are halved.
FIRST_PIECES, MAX_PIECE_HALVINGS = 8, 12
# The number of windows whose pieces are in memory at the same time.
WINDOW_CHUNK = 1 << 17


# A and B, in the same shape.
Levels = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Loss:
    """F or G, a window's dual value as a function of one level L: ``along L + size sqrt(L base + L^2 square)``.

    Attributes:
        along, size: of the dual vector, in any shape; size >= 0 and ``|along| <= size sqrt(square)``.
        base, square: ``2 V + C2`` and V for contrast, ``2 m^2 + C1`` and m^2 for luminance, in the same shape.
    """

    along: Tensor
    size: Tensor
    base: Tensor
    square: Tensor

    def value(self, level: Tensor) -> Tensor:
        """The value at a level, in the shape of ``level``."""
        return self.along * level + self.size * (level * (self.base + level * self.square)).sqrt()

    def magnitude(self, level: Tensor | float) -> Tensor:
        """The sum of the terms' magnitudes at a level."""
        return self.along.abs() * level + self.size * (level * (self.base + level * self.square)).sqrt()

    def __getitem__(self, index: tuple[Tensor, ...]) -> Loss:
        return take(self, index)

    def rate(self, level: Tensor) -> Tensor:
        """The derivative times the square root of the level. This product stays finite at level 0."""
        root = (self.base + level * self.square).sqrt()
        tiny = torch.finfo(root.dtype).tiny
        root_part = self.size * (self.base + 2 * level * self.square) / (2 * root).clamp_min(tiny)
        return (self.along * level.sqrt() + root_part).clamp_min(0)

    def slope(self, level: Tensor) -> Tensor:
        """The derivative: infinite at level 0, unless the value is 0 at all levels."""
        rate = self.rate(level)
        return torch.where(rate > 0, rate / level.sqrt(), 0.0)

    def curvature(self, level: Tensor, max_level: float) -> Tensor:
        """The smallest k, for levels up to ``max_level``, of the expansion at ``level``; see the module's text."""
        radicand = level * (self.base + level * self.square)
        root, last_root = radicand.sqrt(), (max_level * (self.base + max_level * self.square)).sqrt()
        tangent = root + (max_level - level) * (self.base + 2 * level * self.square) / (2 * root)
        k = self.size * self.base.square() / (4 * radicand * (tangent + last_root))
        return torch.where((self.size > 0) & (radicand > 0), k, 0.0)


def levels(share: Tensor, threshold: float) -> Levels:
    """A and B with ``(1 + A)(1 + B) = 1/t`` and ``A/B = share/(1 - share)``, in the shape of ``share``."""
    return _levels(share, 1 - share, 1 / threshold - 1)


def share_of(level_a: Tensor, level_b: Tensor) -> Tensor:
    """The contrast's share ``A/(A + B)``, and 1/2 where both levels are 0."""
    total = level_a + level_b
    return torch.where(total > 0, level_a / total.clamp_min(torch.finfo(total.dtype).tiny), 0.5)


def best_share(
    contrast: Loss, luminance: Loss, threshold: float, share: Tensor | None = None, steps: int = SHARE_STEPS
) -> Tensor:
    """About the share at which ``F(A) + G(B)`` is largest.

    At this share ``(1 + A) F' = (1 + B) G'``. It is found by a fixed-point iteration, which converges fast because
    ``sqrt(A) F'`` and ``sqrt(B) G'`` hardly vary.

    Args:
        contrast: F.
        luminance: G.
        threshold: t of the hyperbola ``(1 + A)(1 + B) = 1/t``.
        share: where the iteration starts, in the shape of the losses; ``None``: at 1/2, or at low thresholds at the
            best of a grid.
        steps: the number of iterations.
    """
    start = torch.full_like(contrast.size, 0.5) if share is None else share
    if share is None and threshold < ONE_PEAK_THRESHOLD:
        start = _best_of_grid(contrast, luminance, threshold)
    share = start
    for _ in range(steps):
        level_a, level_b = levels(share, threshold)
        first = (contrast.rate(level_a) * (1 + level_a)).square()
        second = (luminance.rate(level_b) * (1 + level_b)).square()
        share = share_of(first, second)
    if threshold >= ONE_PEAK_THRESHOLD:
        return share
    is_better = _sum(contrast, luminance, threshold, share) >= _sum(contrast, luminance, threshold, start)
    return torch.where(is_better, share, start)


def _best_of_grid(contrast: Loss, luminance: Loss, threshold: float) -> Tensor:
    """The best of a few shares; at low thresholds the sum may have two peaks."""
    best, best_value = torch.zeros_like(contrast.size), torch.full_like(contrast.size, -torch.inf)
    for k in range(SHARE_GRID + 1):
        share = torch.full_like(best, math.sin(math.pi / 2 * k / SHARE_GRID) ** 2)
        value = _sum(contrast, luminance, threshold, share)
        best = torch.where(value > best_value, share, best)
        best_value = torch.maximum(value, best_value)
    return best


def _sum(contrast: Loss, luminance: Loss, threshold: float, share: Tensor) -> Tensor:
    """``F(A) + G(B)`` at a share."""
    level_a, level_b = levels(share, threshold)
    return contrast.value(level_a) + luminance.value(level_b)


def largest(contrast: Loss, luminance: Loss, threshold: float) -> Tensor:
    """An upper bound on ``max F(A) + G(B)`` along the hyperbola, rigorous whatever :func:`best_share` finds."""
    share = best_share(contrast, luminance, threshold)
    upper_bound, is_proved = _by_expansion(contrast, luminance, threshold, share)
    # At low thresholds most windows are not proved yet, and each has tens of pieces.
    for chunk in (~is_proved).nonzero().split(WINDOW_CHUNK):
        windows = chunk.unbind(dim=1)
        by_pieces = _by_pieces(contrast[windows], luminance[windows], threshold, share[windows])
        upper_bound[windows] = torch.minimum(upper_bound[windows], by_pieces)
    return upper_bound


def _by_expansion(contrast: Loss, luminance: Loss, threshold: float, share: Tensor) -> tuple[Tensor, Tensor]:
    """An upper bound on the largest value, by the expansion at ``share``, and whether it is tight.

    The bound is infinite where the expansion proves nothing. It is tight where it exceeds the value at ``share`` by at
    most the share SPLIT_SLACK.
    """
    a, b = levels(share, threshold)
    product, allowed = 1 / threshold, 1 / threshold - 1
    value = contrast.value(a) + luminance.value(b)
    slope_a, slope_b = contrast.slope(a), luminance.slope(b)
    # dA >= -A, and dB is at least dA/(1 + A*) in size: take k at its smallest and c at its largest.
    bend = slope_b * product / (1 + a).square()
    rise = contrast.curvature(a, allowed) + luminance.curvature(b, allowed) / (1 + a).square()
    # Less what rounding may have added: a curvature that is lost in it proves nothing.
    curvature = rise - bend - CURVATURE_ROUNDING * (rise + bend)
    net_slope = slope_a - slope_b * product / (1 + a).square()
    at_ends = torch.maximum(-net_slope * a, net_slope * (allowed - a))
    tiny = torch.finfo(value.dtype).tiny
    possible_gain = torch.minimum(net_slope.square() / (4 * curvature.clamp_min(tiny)), at_ends).clamp_min(0)
    is_valid = (curvature > 0) & possible_gain.isfinite()
    upper_bound = torch.where(is_valid, value + possible_gain, torch.inf)
    return upper_bound, is_valid & (possible_gain <= SPLIT_SLACK * value)


def _by_pieces(contrast: Loss, luminance: Loss, threshold: float, best: Tensor) -> Tensor:
    """An upper bound on the largest value of N windows, (N,), by branch and bound over pieces of the hyperbola.

    Pieces that cannot exceed the value at the shares ``best`` (N,) are dropped.
    """
    allowed = 1 / threshold - 1
    attained = _sum(contrast, luminance, threshold, best)
    count = attained.numel()

    def at(angle: Tensor) -> Levels:
        return _levels(angle.sin().square(), angle.cos().square(), allowed)

    # A piece is an interval of the angle whose squared sine is the share; `window` says whose piece it is.
    window = torch.arange(count, device=attained.device).repeat(FIRST_PIECES)
    first = torch.arange(FIRST_PIECES, device=attained.device).repeat_interleave(count).to(attained.dtype)
    width = math.pi / 2 / FIRST_PIECES
    first, last = width * first, width * (first + 1)
    for halving in range(MAX_PIECE_HALVINGS + 1):
        index = (window,)
        value = _piece(contrast[index], luminance[index], at(first), at((first + last) / 2), at(last))
        upper_bound = attained.scatter_reduce(0, window, value, "amax")
        is_open = value > (1 + SPLIT_SLACK) * attained[window]
        if halving == MAX_PIECE_HALVINGS or not bool(is_open.any()):
            break
        window, first, last = window[is_open], first[is_open], last[is_open]
        middle = (first + last) / 2
        window, first, last = window.repeat(2), torch.cat([first, middle]), torch.cat([middle, last])
    return torch.maximum(upper_bound, (1 + SPLIT_SLACK) * attained)


def _piece(contrast: Loss, luminance: Loss, first: Levels, middle: Levels, last: Levels) -> Tensor:
    """A bound on ``F + G`` between two points of the hyperbola; the contrast's level rises from first to last.

    It is the smaller of two bounds: the tangents at the middle, and the sum of both losses at their largest.
    """
    value = contrast.value(middle[0]) + luminance.value(middle[1])
    slope_a, slope_b = contrast.slope(middle[0]), luminance.slope(middle[1])
    ends = [slope_a * (a - middle[0]) + slope_b * (b - middle[1]) for a, b in (first, last)]
    tangent = value + torch.maximum(ends[0], ends[1])
    separate = contrast.value(last[0]) + luminance.value(first[1])
    return torch.where(tangent < separate, tangent, separate)


def _levels(contrast_share: Tensor, luminance_share: Tensor, allowed: float) -> Levels:
    """The levels A and B, for shares that sum to 1 and ``allowed = 1/t - 1``, without cancellation in ``1 - share``."""
    scale = 2 * allowed / (1 + (1 + 4 * allowed * contrast_share * luminance_share).sqrt())
    return scale * contrast_share, scale * luminance_share
