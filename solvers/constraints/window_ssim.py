"""A convex set within SSIM of at least a threshold in every window: a ball for structure, an interval for the mean.

Write ``y = x + d``, and m, V and cov for the weighted mean, variance and covariance in one window (Wang et al., TIP
2004)::

    S1 = (2 m(x) m(y) + C1)/(m(x)^2 + m(y)^2 + C1),    S2 = (2 cov(x, y) + C2)/(V(x) + V(y) + C2),    SSIM = S1 S2.

The bound ``1 - S2 <= alpha`` is a ball. Let ``0 < alpha < 1`` and ``a = alpha/(1 - alpha)``. Every step is an
equivalence::

    1 - S2 = V(d)/(V(x) + V(x + d) + C2)                          since V(x) + V(y) - 2 cov(x, y) = V(y - x) = V(d)
    1 - S2 <= alpha
      <=>  V(d) <= alpha (V(x) + V(x + d) + C2)                   the denominator is positive
      <=>  (1 - alpha) V(d) - 2 alpha cov(x, d) <= alpha (2 V(x) + C2)     V(x + d) = V(x) + 2 cov(x, d) + V(d)
      <=>  V(d) - 2 a cov(x, d) <= a (2 V(x) + C2)                divided by 1 - alpha > 0
      <=>  V(d - a x) <= a (2 V(x) + C2) + a^2 V(x) = r^2         a^2 V(x) added on both sides

``V(v) = |R v|^2`` with ``R v = sqrt(w) (v - m(v))``, so the last line is the ball ``|R d - a R x| <= r``.

The bound ``1 - S1 <= beta`` is an interval. The same steps, with m in the place of R and ``b = beta/(1 - beta)``,
give::

    1 - S1 = m(d)^2/(m(x)^2 + (m(x) + m(d))^2 + C1)
    1 - S1 <= beta  <=>  |m(d) - b m(x)| <= l,    l^2 = b (2 m(x)^2 + C1) + b^2 m(x)^2

With sample covariance C2 in the ball is divided by ``N/(N - 1)``. The page ``docs/concepts/ssim-ball.md`` explains
every step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from solvers.batch_algebra import ball_scale_factor
from solvers.constraints.base import ConicForm, Constraint, DualBlock
from solvers.constraints.ssim_windows.feasibility import (
    Violation,
    ViolationOf,
    averaged,
    make_feasible,
    shrink_locally,
)
from solvers.constraints.ssim_windows.mean_preservation import project_to_zero_means
from solvers.constraints.ssim_windows.moments import BoundWindows, check_data_range, with_uncovered
from solvers.constraints.ssim_windows.pixel_bounds import implied_bounds
from solvers.constraints.ssim_windows.window_dual import CentredDual, WindowDual, exponents, spread_over_windows
from solvers.errors import ProblemError
from solvers.rounding import gamma, rounded_up, times_power_of_two, total_up
from solvers.validation import flag, positive, real, share
from solvers.windows import Window
from solvers.windows.quadratic import Bounds

if TYPE_CHECKING:
    import cvxpy as cp


@dataclass(frozen=True)
class WindowSSIM(Constraint):
    """A convex set *inside* ``{d : SSIM_p(x, x + d) >= threshold in every window p of every channel}``.

    SSIM is the product of a luminance term S1 and a contrast-structure term S2 (Wang et al., TIP 2004). The set asks
    ``S1 >= 1 - beta`` and ``S2 >= 1 - alpha`` with ``(1 - alpha)(1 - beta) = threshold``, one split of the loss for all
    windows. This set is convex: a ball on the centred window and an interval on the window's mean.

    Every point of the set has the SSIM that is promised. The converse does not hold: a perturbation may have that SSIM
    in every window and yet lie outside of this set. Its objective may then exceed the ``bound`` over this set.
    :class:`~solvers.ProductSSIM` is the exact set. Take ProductSSIM to judge perturbations that were not made for this
    set, to bound *all* perturbations with that SSIM, or for the largest objective. Take this set to attack and to
    look at the result: at the default luminance the windows' means hardly move.

    Measured: the optimum over this set as a share of the optimum over ProductSSIM, at threshold 0.95, for six photos of
    3x224x224 with gradients of EfficientNet-lite0 (docs/notes/product-ssim.md). At the default luminance it is 75% to
    98% with 7x7 windows at stride 1 and 55% to 80% on 8x8 tiles. With ``"split"`` it is 72% to 79% and 86% to 91%.

    Attributes:
        threshold: t, 0 < t < 1.
        window: the sliding window. A stride equal to the size gives tiles.
        luminance: beta, the share of the budget given to the windows' means. A number in [0, 1 - t), default 1e-3.
            ``"split"``: alpha = beta = 1 - sqrt(t). ``"preserve"``: beta = 0, so that every window's mean is kept.
        sample_covariance: whether variances have the factor N/(N - 1), as they have by default in scikit-image.
        data_range: L of C1 = (0.01 L)^2 and C2 = (0.03 L)^2: the range of values that pixels can take, default 1 for
            pixels in [0, 1]. A problem is refused whose pixels spread over more than 4 L in a channel.

    Raises:
        ProblemError: a value lies outside its range.
    """

    threshold: float
    window: Window = field(default_factory=Window.uniform)
    luminance: float | Literal["split", "preserve"] = 1e-3
    sample_covariance: bool = False
    data_range: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", share("WindowSSIM threshold", self.threshold))
        object.__setattr__(self, "data_range", positive("WindowSSIM data_range", self.data_range))
        object.__setattr__(self, "sample_covariance", flag("WindowSSIM sample_covariance", self.sample_covariance))
        if not isinstance(self.window, Window):
            raise ProblemError(f"WindowSSIM window must be a solvers.Window, got {self.window!r}")
        if isinstance(self.luminance, str):
            if self.luminance not in ("split", "preserve"):
                raise ProblemError(
                    f"WindowSSIM luminance must be a number, 'split' or 'preserve', got {self.luminance!r}"
                )
            return
        try:
            luminance = real("", self.luminance)
        except ProblemError:
            raise ProblemError(
                f"WindowSSIM luminance must be a number, 'split' or 'preserve', got {self.luminance!r}"
            ) from None
        if not 0 <= luminance < 1 - self.threshold:
            raise ProblemError(
                f"WindowSSIM luminance must lie in [0, {1 - self.threshold:.6g}) at threshold {self.threshold}, "
                f"got {self.luminance}"
            )
        object.__setattr__(self, "luminance", luminance)

    @property
    def beta(self) -> float:
        """The bound on 1 - S1."""
        if self.luminance == "split":
            # Rounded down, so that the split keeps what it promises.
            return math.nextafter(1 - math.sqrt(self.threshold), 0.0)
        if self.luminance == "preserve":
            return 0.0
        return float(self.luminance)

    @property
    def alpha(self) -> float:
        """The bound on 1 - S2: the largest number with ``(1 - alpha)(1 - beta) >= threshold`` in exact arithmetic."""
        return _largest_alpha(self.threshold, self.beta)

    def check(self, reference: Tensor) -> None:
        self.window.check_fits(reference.shape[-2], reference.shape[-1])

    def check_pixels(self, reference: Tensor, sound: Tensor) -> None:
        check_data_range(self.kind, self.data_range, reference, sound)

    def bind(self, reference: Tensor) -> BoundWindowSSIM:
        return BoundWindowSSIM(self, reference)


@lru_cache(maxsize=256)
def _largest_alpha(threshold: float, beta: float) -> float:
    exact = 1 - Fraction(threshold) / (1 - Fraction(beta))
    alpha = float(exact)
    return alpha if alpha <= exact else math.nextafter(alpha, 0.0)


class BoundWindowSSIM(BoundWindows):
    """Balls and intervals of all windows: ``|R_p d - a R_p x| <= r_p`` and ``lo_p <= m_p(d) <= hi_p``.

    A dual block is a :class:`WindowDual` or window vectors (B, C, P_h, P_w, size^2).

    Attributes:
        ball_center: a, a number. The ball's centre is ``a R_p x``.
        radius, mean_lower, mean_upper: r_p, lo_p, hi_p, each (B, C, P_h, P_w).
        window_balls: these four values as one record.
    """

    constraint: WindowSSIM

    def __init__(self, constraint: WindowSSIM, reference: Tensor) -> None:
        self.constraint = constraint
        super().__init__(
            reference, constraint.window, constraint.data_range, sample_covariance=constraint.sample_covariance
        )
        self.window_balls = self.balls(constraint.alpha, constraint.beta)
        self.ball_center = float(self.window_balls.ball_center)
        self.radius = self.window_balls.radius
        self.mean_lower, self.mean_upper = self.window_balls.mean_lower, self.window_balls.mean_upper

    def select(self, image_indices: Tensor) -> BoundWindowSSIM:
        """The set of the images at ``image_indices`` (long, (K,)) alone."""
        return BoundWindowSSIM(self.constraint, self.reference[image_indices])

    # -- membership ----------------------------------------------------------------------------------------

    def excess(self, delta: Tensor) -> Tensor:
        """In units of SSIM: the largest of ``(1 - S1) - beta`` and ``(1 - S2) - alpha`` over the windows, (B,).

        Where means are kept, the size of ``m_p(d)`` beyond ``kept_mean_tolerance``, in pixels, stands in the place of
        ``(1 - S1) - beta``. A pixel that lies in no window counts by its size.
        """
        mean = self.operator.mean(delta).abs() if self.has_equality else None
        return self._excess(delta, *self.losses(delta), mean)

    def certain_excess(self, delta: Tensor) -> Tensor:
        mean = self.certain_mean(delta) if self.has_equality else None
        return self._excess(delta, *self.certain_losses(delta), mean)

    def certain_excess_but_for_means(self, delta: Tensor) -> Tensor:
        luminance, contrast = self.certain_losses(delta)
        return self._excess(delta, luminance, contrast, torch.zeros_like(contrast) if self.has_equality else None)

    def _excess(self, delta: Tensor, luminance: Tensor, contrast: Tensor, mean: Tensor | None) -> Tensor:
        mean_excess = luminance - self.constraint.beta if mean is None else mean - self.kept_mean_tolerance
        excess = torch.maximum(mean_excess, contrast - self.constraint.alpha)
        return with_uncovered(self.operator, excess.flatten(1).amax(dim=1), delta)

    def window_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` inside, window by window: (B, C, P_h, P_w)."""
        op = self.operator
        a, shift = self.ball_center, op.mean(delta)
        # |a R x|^2 - r^2, in a form without cancellation.
        constant = -a * (2 * self.reference_variance + self.c2)
        ball = ball_scale_factor(op.variance(delta), a * op.covariance(self.centred_reference, delta), constant)
        limit = torch.where(shift > 0, self.mean_upper, self.mean_lower)
        beyond = shift.abs() > limit.abs()
        interval = torch.where(beyond, limit / torch.where(beyond, shift, 1.0), 1.0)
        if self.constraint.beta == 0:
            # The mean is an equality. Scaling cannot reach it; `retract` does, up to rounding.
            return ball
        return torch.minimum(ball, interval)

    def scale_factor(self, delta: Tensor) -> Tensor:
        return self.window_factor(delta).flatten(1).amin(dim=1)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Move ``delta`` (B, C, H, W) into the windows; see :mod:`solvers.constraints.ssim_windows.feasibility`.

        Where means are kept, the windows' means are brought to 0 first.
        """
        tiles = self.constraint.window.is_tiling
        if self.constraint.beta == 0:
            delta = project_to_zero_means(self.operator, delta, lower, upper, scale=self.constraint.data_range)
            # A local scaling would change the means of overlapping windows.
            return shrink_locally(self, delta, steps=1) if tiles else delta
        return shrink_locally(self, delta, steps=1) if tiles else make_feasible(self, delta, lower, upper)

    def violation_and_move(self, delta: Tensor, margin: float) -> ViolationOf:
        """See :class:`solvers.constraints.ssim_windows.feasibility.WindowSet`."""
        op, ball_centre = self.operator, self.ball_center * self.centred_reference
        centre_mean = op.mean(ball_centre)
        radius = (1 - margin) * self.radius
        middle, half_width = self.window_balls.mean_middle, self.window_balls.mean_half_width
        mean_lower, mean_upper = middle - (1 - margin) * half_width, middle + (1 - margin) * half_width
        tiny = torch.finfo(radius.dtype).tiny

        def violation_of(point: Tensor) -> Violation:
            offset = point - ball_centre
            means = op.mean(torch.stack([offset, offset.square()]))
            deviation = (means[1] - means[0].square()).clamp_min(0).sqrt()
            structure_excess = (1 - radius / deviation.clamp_min(tiny)).clamp_min(0)
            mean = means[0] + centre_mean
            mean_excess = mean - mean.clamp(mean_lower, mean_upper)

            def average_move() -> Tensor:
                violated = (structure_excess > 0).to(structure_excess), (mean_excess != 0).to(structure_excess)
                per_window = torch.stack([structure_excess, structure_excess * means[0], mean_excess, *violated])
                slope, mean_part, mean_sum, ball_count, interval_count = op.adjoint(per_window).unbind()
                structure_move = averaged(offset * slope - mean_part, ball_count)
                return structure_move + averaged(mean_sum, interval_count)

            return Violation(structure_excess, mean_excess, average_move)

        return violation_of

    @property
    def has_equality(self) -> bool:
        return self.constraint.beta == 0

    def implied_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        error = self.rounding_error + (self.kept_mean_tolerance if self.has_equality else 0.0)
        box = implied_bounds(self.operator, self.centred_reference, self.window_balls, Bounds(lower, upper), error)
        return box.lower, box.upper

    @cached_property
    def rounding_error(self) -> Tensor:
        """A bound on what rounding changed in radii and intervals, (B, C, 1, 1)."""
        return self.balls_error(self.window_balls, self.ball_center, self.constraint.beta / (1 - self.constraint.beta))

    # -- duality -------------------------------------------------------------------------------------------

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((*self.radius.shape, self.operator.window.size**2),)

    def check_block(self, block: WindowDual | Tensor) -> None:
        if not isinstance(block, WindowDual):
            super().check_block(block)
            return
        if block.reference is not None:
            raise ProblemError("WindowDual of WindowSSIM has no part 'reference': one ball centre serves all windows")
        block.check(tuple(self.radius.shape), tuple(self.reference.shape))

    def adjoint(self, block: WindowDual | Tensor) -> Tensor:
        if isinstance(block, Tensor):
            return self.operator.fold(block)
        return block.adjoint(self.operator, self.reference)

    def adjoint_error(self, block: WindowDual | Tensor) -> Tensor:
        if isinstance(block, Tensor):
            # The weights of a window sum to 1, so its part of A'y is at most |y_p| in the l1 norm.
            return gamma(2 * block.shape[-1]) * total_up(torch.linalg.vector_norm(block, dim=-1), block.shape[-1])
        return block.adjoint_error(self.operator, self.reference)

    def dual_value(self, block: WindowDual | Tensor) -> Tensor:
        """``sum_p a (R_p x)'y_perp + r_p |y_perp| + max(lo_p s_p, hi_p s_p)``, rounded up, (B,).

        Here ``s_p = sqrt(w)'y_p`` and ``y_perp = y_p - s_p sqrt(w)``: the support function of ball and interval. Where
        means are kept, the interval is that of ``kept_mean_tolerance``.
        """
        if isinstance(block, Tensor):
            mean, mean_error, part = self._centred_vectors(block)
        else:
            mean, part = block.mean, block.centred(self.operator, self.reference)
            mean_error = torch.zeros_like(mean)
        half_width = self.kept_mean_tolerance if self.has_equality else self.rounding_error
        interval = torch.maximum(self.mean_lower * mean, self.mean_upper * mean) + half_width * mean.abs()
        interval = interval + mean_error * torch.maximum(-self.mean_lower, self.mean_upper)
        terms = torch.stack(
            [
                self.ball_center * part.along,
                self.ball_center * part.along_error,
                (self.radius + self.rounding_error) * part.size,
                interval,
            ],
            dim=1,
        )
        return total_up(terms, operations=16)

    def _centred_vectors(self, block: Tensor) -> tuple[Tensor, Tensor, CentredDual]:
        """``s_p``, a bound on its rounding, and the orthogonal part, of window vectors."""
        op, share = self.operator, gamma(2 * block.shape[-1])
        exponent = exponents(block, dim=-1)
        block = times_power_of_two(block, -exponent[..., None])
        length = torch.linalg.vector_norm(block, dim=-1) * (1 + share)
        mean = (block * op.root_weights).sum(dim=-1)
        centred = block - mean[..., None] * op.root_weights
        size = torch.linalg.vector_norm(centred, dim=-1) + 4 * share * length
        along = (op.vectors(self.centred_reference) * centred).sum(dim=-1)
        largest = self.centred_reference.abs().amax(dim=(-2, -1), keepdim=True)
        part = CentredDual(size, along, 8 * share * largest * length).times_power_of_two(exponent)
        mean, mean_error = (times_power_of_two(value, exponent) for value in (mean, share * length))
        return mean, mean_error, part

    def support(self, direction: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd``, z = ``direction``, by a block that spreads z over the windows: (B,).

        ``A'A = diag(coverage)``, so ``y_p = A_p (z/coverage)`` has ``A'y = z`` on covered pixels. The value is exact
        for tiles and an upper bound where windows overlap.
        """
        return self.dual_value(spread_over_windows(self.operator, direction))

    def supremum(self, direction: Tensor, block: DualBlock | None, lower: Tensor, upper: Tensor) -> Tensor:
        """:meth:`support`, and what the block that it makes leaves of z by rounding: (B,)."""
        spread = spread_over_windows(self.operator, direction)
        rest = self.spread_residual(direction, spread, lower, upper)
        value = self.dual_value(spread)
        return rounded_up(value, rest)

    # -- projection and conic form -----------------------------------------------------------------------------

    def project(self, point: Tensor) -> Tensor | None:
        """The nearest member, exact for tiles: ball and interval of each tile, to machine precision in float64.

        ``None`` where windows overlap, because the intersection of their sets has no closed form.
        """
        if not self.constraint.window.is_tiling:
            return None
        from solvers.constraints.ssim_windows.single_window_solver import solve_groups
        from solvers.constraints.ssim_windows.tiles import from_tiles, tile_groups

        free = torch.full_like(point, math.inf)
        lower, upper = self.bounds() or (-free, free)
        limits = lower.expand_as(point), upper.expand_as(point)
        groups = tile_groups(self, self.window_balls, point, *limits, linear=False)
        return from_tiles(self, solve_groups(groups, linear=False).delta)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        from solvers.constraints.ssim_windows.conic_form import window_cones

        return window_cones(self.operator, self.reference, self.window_balls, delta, image)

    def conic_size(self) -> int:
        # One non-zero a row for A, one for the mean, and the equations that define the means.
        return 3 * self.radius[0].numel() * self.constraint.window.size**2
