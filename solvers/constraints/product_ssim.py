"""SSIM of at least a threshold in every window, each with its own split between luminance and structure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.constraints.base import ConicForm, Constraint, DualBlock
from solvers.constraints.ssim_windows.feasibility import (
    Violation,
    ViolationOf,
    averaged,
    make_feasible,
    shrink_locally,
)
from solvers.constraints.ssim_windows.loss_split import Loss, largest, levels, share_of
from solvers.constraints.ssim_windows.moments import BoundWindows, WindowBalls, check_data_range, with_uncovered
from solvers.constraints.ssim_windows.pixel_bounds import implied_bounds
from solvers.constraints.ssim_windows.window_dual import WindowDual, exponents, spread_over_windows
from solvers.errors import ProblemError
from solvers.root_finding import SearchTolerances, last_nonnegative
from solvers.rounding import UNIT, gamma, rounded_up, times_power_of_two, total_up, unscaled_value
from solvers.validation import flag, positive, share
from solvers.windows import Window
from solvers.windows.quadratic import Bounds

if TYPE_CHECKING:
    import cvxpy as cp

# The hyperbola of splits is cut into so many pieces. Each implies a box, and their union is the implied box.
PIXEL_BOUND_PIECES = 6
# The level of a window whose structure, or whose mean, is lost.
LOST_LEVEL = 1e12
# The largest number of steps in the search for a window's scale factor.
MAX_SCALE_STEPS = 60
# Roundings, at most, of a window's largest dual value, relative to the magnitudes of its terms.
LEVEL_ROUNDINGS = 1 << 10


@dataclass(frozen=True)
class ProductSSIM(Constraint):
    """``SSIM_p(x, x + d) >= threshold`` in every window p of every channel: the product ``S1 S2``, both positive.

    :class:`~solvers.WindowSSIM` fixes one split of the loss between luminance (S1) and contrast-structure (S2) for all
    windows. It is convex, and lies inside this set. Here every window splits its loss as suits the objective. The union
    over all splits is the exact set, for pixels at or above 0, where S1 is positive. The set is **not convex**, but it
    is nearly convex at thresholds near 1. The support function of each window's set is known, so bounds are rigorous
    and global.

    At threshold 0.95 a window's mean may move by about 20% of itself. Optimal perturbations use this, and the moved
    means show as blotches. An attack loses little without them: prefer WindowSSIM with its default luminance.

    Attributes:
        threshold: t, 0 < t < 1.
        window: the sliding window. A stride equal to the size gives tiles. Under ``border="valid"`` a pixel that lies
            in no window keeps its value.
        sample_covariance: whether variances have the factor N/(N - 1), as they have by default in scikit-image.
        data_range: L of C1 = (0.01 L)^2 and C2 = (0.03 L)^2: the range of values that pixels can take, default 1 for
            pixels in [0, 1]. A problem is refused whose pixels spread over more than 4 L in a channel.

    Raises:
        ProblemError: a value lies outside its range.
    """

    threshold: float
    window: Window = field(default_factory=Window.uniform)
    sample_covariance: bool = False
    data_range: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", share("ProductSSIM threshold", self.threshold))
        object.__setattr__(self, "data_range", positive("ProductSSIM data_range", self.data_range))
        object.__setattr__(self, "sample_covariance", flag("ProductSSIM sample_covariance", self.sample_covariance))
        if not isinstance(self.window, Window):
            raise ProblemError(f"ProductSSIM window must be a solvers.Window, got {self.window!r}")

    @property
    def is_convex(self) -> bool:
        return False

    @property
    def has_linear_blocks(self) -> bool:
        return True

    def check(self, reference: Tensor) -> None:
        self.window.check_fits(reference.shape[-2], reference.shape[-1])

    def check_pixels(self, reference: Tensor, sound: Tensor) -> None:
        check_data_range(self.kind, self.data_range, reference, sound)

    def bind(self, reference: Tensor) -> BoundProductSSIM:
        return BoundProductSSIM(self, reference)


class BoundProductSSIM(BoundWindows):
    """The set for a batch of images. A dual block is a :class:`~solvers.WindowDual`.

    Attributes:
        spread_base, mean_base: ``2 V_p(x) + C2`` and ``2 m_p(x)^2 + C1``, (B, C, P_h, P_w).
    """

    constraint: ProductSSIM

    def __init__(self, constraint: ProductSSIM, reference: Tensor) -> None:
        self.constraint = constraint
        super().__init__(
            reference, constraint.window, constraint.data_range, sample_covariance=constraint.sample_covariance
        )
        self.centred_mean = self.operator.mean(self.centred_reference)
        self.spread_base = 2 * self.reference_variance + self.c2
        self.mean_base = 2 * self.reference_mean.square() + self.c1

    def select(self, image_indices: Tensor) -> BoundProductSSIM:
        """The set of the images at ``image_indices`` (long, (K,)) alone."""
        return BoundProductSSIM(self.constraint, self.reference[image_indices])

    def split(self, share: Tensor, margin: float = 0.0) -> WindowBalls:
        """The ball and the interval of every window at one split of its loss.

        Args:
            share: the contrast's share of the loss, in [0, 1], (B, C, P_h, P_w); see
                :func:`~solvers.constraints.ssim_windows.loss_split.levels`.
            margin: balls and intervals are about this share smaller than allowed.
        """
        allowed = (1 - margin) ** 2 * (1 / self.constraint.threshold - 1)
        a, b = levels(share, 1 / (1 + allowed))
        radius = (a * (self.spread_base + a * self.reference_variance)).sqrt()
        middle = b * self.reference_mean
        half_width = (b * (self.mean_base + middle * self.reference_mean)).sqrt()
        return WindowBalls(a, radius, middle - half_width, middle + half_width)

    # -- membership ----------------------------------------------------------------------------------------

    def index(self, delta: Tensor) -> Tensor:
        """``SSIM_p(x, x + d)`` of every window, (B, C, P_h, P_w)."""
        luminance, contrast = self.losses(delta)
        return (1 - luminance) * (1 - contrast)

    def excess(self, delta: Tensor) -> Tensor:
        """In units of SSIM: the largest of ``t - S1 S2`` over the windows, (B,).

        Where S1 or S2 is negative, ``t - S1`` or ``t - S2`` counts instead of the product. A pixel that lies in no
        window counts by its size.
        """
        return self._excess(delta, *self.losses(delta))

    def certain_excess(self, delta: Tensor) -> Tensor:
        return self._excess(delta, *self.certain_losses(delta), rounding=8 * UNIT)

    def _excess(self, delta: Tensor, luminance: Tensor, contrast: Tensor, rounding: float = 0.0) -> Tensor:
        product_loss = luminance + contrast - luminance * contrast
        loss = torch.maximum(torch.maximum(luminance, contrast), product_loss)
        excess = loss.flatten(1).amax(dim=1) - (1 - self.constraint.threshold) + rounding
        return with_uncovered(self.operator, excess, delta)

    def window_levels(self, mean: Tensor, variance: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """The levels A and B that perturbations use, (B, C, P_h, P_w) each; see :meth:`moments` for the arguments.

        A level is LOST_LEVEL where its term, S2 or S1, is not positive.
        """
        contrast = variance, self.spread_base + 2 * covariance
        luminance = mean.square(), self.mean_base + 2 * self.reference_mean * mean
        return _level(*contrast), _level(*luminance)

    def moments(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``m_p(d)``, ``V_p(d)`` and ``cov_p(d, x)``, (B, C, P_h, P_w) each."""
        means = self.operator.mean(torch.stack([delta, delta.square(), delta * self.centred_reference]))
        mean = means[0]
        return mean, (means[1] - mean.square()).clamp_min(0), means[2] - mean * self.centred_mean

    def window_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` inside, window by window: (B, C, P_h, P_w).

        Both losses rise along the ray while S1 and S2 are positive, so all smaller t are inside too.
        """
        moments = self.moments(delta)
        a, b = self.window_levels(*moments)
        allowed = 1 / self.constraint.threshold - 1
        factor = torch.ones_like(a)
        outside = ((a + b + a * b) > allowed).nonzero(as_tuple=True)
        if outside[0].numel():
            mean, variance, covariance = (value[outside] for value in moments)
            reference_mean = self.reference_mean[outside]
            contrast = (variance, 2 * covariance, self.spread_base[outside])
            luminance = (mean.square(), 2 * reference_mean * mean, self.mean_base[outside])
            factor[outside] = _scale(contrast, luminance, allowed)
        return factor

    def scale_factor(self, delta: Tensor) -> Tensor:
        return self.window_factor(delta).flatten(1).amin(dim=1)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Move ``delta`` (B, C, H, W) into the windows; see :mod:`solvers.constraints.ssim_windows.feasibility`."""
        if self.constraint.window.is_tiling:
            return shrink_locally(self, delta, steps=1)
        return make_feasible(self, delta, lower, upper)

    def violation_and_move(self, delta: Tensor, margin: float) -> ViolationOf:
        """See :class:`solvers.constraints.ssim_windows.feasibility.WindowSet`.

        A window asks for the nearest point of one convex set, which stays the same on the way: the set of the split at
        which the two levels have the ratio that they have at ``delta``.
        """
        op, x = self.operator, self.centred_reference
        tiny = torch.finfo(x.dtype).tiny
        split = self.split(share_of(*self.window_levels(*self.moments(delta))), margin)
        a = torch.as_tensor(split.ball_center)

        def violation_of(point: Tensor) -> Violation:
            mean, variance, covariance = self.moments(point)
            distance = (variance - 2 * a * covariance + a.square() * self.reference_variance).clamp_min(0).sqrt()
            structure_excess = (1 - split.radius / distance.clamp_min(tiny)).clamp_min(0)
            mean_excess = mean - mean.clamp(split.mean_lower, split.mean_upper)

            def average_move() -> Tensor:
                violated = (structure_excess > 0).to(structure_excess), (mean_excess != 0).to(structure_excess)
                offset_mean = mean - a * self.centred_mean
                per_window = torch.stack(
                    [structure_excess, structure_excess * a, structure_excess * offset_mean, mean_excess, *violated]
                )
                slope, centre_slope, mean_part, mean_sum, ball_count, interval_count = op.adjoint(per_window).unbind()
                structure_move = averaged(point * slope - x * centre_slope - mean_part, ball_count)
                return structure_move + averaged(mean_sum, interval_count)

            return Violation(structure_excess, mean_excess, average_move)

        return violation_of

    def implied_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Elementwise bounds on d that the set and ``lower <= d <= upper`` imply, (B, C, H, W) each.

        The hyperbola of splits is cut into pieces. On a piece the largest ball and the longest interval hold all
        others; these two imply a box. The union of the boxes holds the set.
        """
        boxes, ones = [], torch.ones_like(self.spread_base)
        for piece in range(PIXEL_BOUND_PIECES):
            first_share, last_share = (
                math.sin(math.pi / 2 * end / PIXEL_BOUND_PIECES) ** 2 for end in (piece, piece + 1)
            )
            # The ball grows with the contrast's share, and the interval shrinks.
            largest_balls, longest_intervals = self.split(last_share * ones), self.split(first_share * ones)
            center = float(levels(torch.tensor(last_share, dtype=torch.float64), self.constraint.threshold)[0])
            balls = WindowBalls(
                center, largest_balls.radius, longest_intervals.mean_lower, longest_intervals.mean_upper
            )
            # The levels of the piece are at most `allowed`, and so are their errors.
            allowed = 1 / self.constraint.threshold - 1
            error = self.balls_error(balls, allowed, allowed)
            boxes.append(implied_bounds(self.operator, self.centred_reference, balls, Bounds(lower, upper), error))
        lowest = torch.stack([box.lower for box in boxes]).amin(dim=0)
        highest = torch.stack([box.upper for box in boxes]).amax(dim=0)
        return lowest, highest

    # -- duality -------------------------------------------------------------------------------------------

    def check_block(self, block: WindowDual) -> None:
        if not isinstance(block, WindowDual):
            raise ProblemError(f"dual block of ProductSSIM must be a WindowDual, got {type(block).__name__}")
        block.check(tuple(self.spread_base.shape), tuple(self.reference.shape))

    def adjoint(self, block: WindowDual) -> Tensor:
        return block.adjoint(self.operator, self.reference)

    def adjoint_error(self, block: WindowDual) -> Tensor:
        return block.adjoint_error(self.operator, self.reference)

    def dual_value(self, block: WindowDual) -> Tensor:
        """The support function of all windows' exact sets, a bound on ``y'Ad`` for every d of the set, (B,), rounded
        up.

        The support function of a set is that of its convex hull, so the bound holds although the set is not convex.
        """
        part = block.centred(self.operator, self.reference)
        # Of ordinary size, since the bound multiplies sizes; the value grows with the block, so it is scaled back.
        exponent = exponents(torch.stack([part.size, block.mean.abs()], dim=1), dim=1)
        part, mean = part.times_power_of_two(-exponent), times_power_of_two(block.mean, -exponent)
        # Both losses rise with all four numbers, so each of them may be too large. The square roots are those of sizes
        # whose rounding is known.
        eta = 8 * self.operator.relative_error
        std_up = self.reference_variance.sqrt() * (1 + eta) + eta * self._largest_centred * self._several_pixels
        mean_up = self.reference_mean.abs() + eta * self._largest
        contrast = Loss(
            part.along + part.along_error, part.size, (2 * std_up.square() + self.c2) * (1 + eta), std_up.square()
        )
        luminance = Loss(
            self.reference_mean * mean + eta * self._largest * mean.abs(),
            mean.abs(),
            (2 * mean_up.square() + self.c1) * (1 + eta),
            mean_up.square(),
        )
        threshold = self.constraint.threshold
        rounding = gamma(LEVEL_ROUNDINGS) * sum(loss.magnitude(1 / threshold - 1) for loss in (contrast, luminance))
        values = unscaled_value(largest(contrast, luminance, threshold) + rounding, exponent, up=True)
        return total_up(values, operations=8)

    def luminance(self, mean: Tensor) -> Loss:
        """The luminance part of every window's support function, for the dual block's ``mean`` (B, C, P_h, P_w)."""
        return Loss(self.reference_mean * mean, mean.abs(), self.mean_base, self.reference_mean.square())

    def support(self, direction: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd``, z = ``direction``, by a block that spreads z over the windows: (B,).

        See :meth:`BoundWindowSSIM.support`. The value is exact for tiles without a box.
        """
        return self.dual_value(spread_over_windows(self.operator, direction))

    def supremum(self, direction: Tensor, block: DualBlock | None, lower: Tensor, upper: Tensor) -> Tensor:
        """:meth:`support`, and what the block that it makes leaves of z by rounding: (B,)."""
        spread = spread_over_windows(self.operator, direction)
        rest = self.spread_residual(direction, spread, lower, upper)
        return rounded_up(self.dual_value(spread), rest)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        raise ProblemError("ProductSSIM is not convex and has no conic form; WindowSSIM fixes one split and has one")


def _level(square: Tensor, affine: Tensor) -> Tensor:
    """``square/affine``, at most LOST_LEVEL, and LOST_LEVEL where ``affine <= 0``; 0 where ``square`` is 0."""
    level = square / affine.clamp_min(torch.finfo(affine.dtype).tiny)
    return torch.where(square > 0, level.clamp_max(LOST_LEVEL), 0.0)


# A loss along a ray, (n, c, k): the level of ``t d`` is ``t^2 n/(k + t c)``. Each (N,), for N windows.
RayLevel = tuple[Tensor, Tensor, Tensor]


def _scale(contrast: RayLevel, luminance: RayLevel, allowed: float) -> Tensor:
    """The largest t in [0, 1) with ``(1 + A(t d))(1 + B(t d)) <= 1 + allowed``, for N windows, (N,).

    All windows must be outside at t = 1. The search is for the root of ``sqrt(allowed) - sqrt(A + B + A B)``, because
    the square root of the level grows about linearly in t.
    """
    target = allowed**0.5

    def room(t: Tensor) -> Tensor:
        a, b = (_level(t.square() * square, base + t * slope) for square, slope, base in (contrast, luminance))
        return target - (a + b + a * b).sqrt()

    eps = torch.finfo(contrast[0].dtype).eps
    return last_nonnegative(
        room,
        at_zero=torch.full_like(contrast[0], target),
        at_one=room(torch.ones_like(contrast[0])),
        tolerances=SearchTolerances(value=4 * eps * target, width=2 * eps, max_steps=MAX_SCALE_STEPS),
    )
