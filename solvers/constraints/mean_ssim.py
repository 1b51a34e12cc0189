"""Mean SSIM of at least a threshold: the published index, a sum of ratios.

With the levels ``A_p = (1 - S2)/S2`` and ``B_p = (1 - S1)/S1`` of a window (both convex in d where S1 and S2 are
positive), the index is the mean over windows and channels of ``SSIM_p = 1/((1 + A_p)(1 + B_p))``. A mean of such
ratios is not quasi-concave in general, so the set is not convex. Two honest ways remain. On tiles a Lagrangian bounds
the optimum rigorously (:mod:`solvers.constraints.mean_index.tile_bound`). On overlapping windows a sequence of convex
problems, each over one ellipsoid, leads to a stationary point (:mod:`solvers.constraints.mean_index.ellipsoid`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from solvers.batch_algebra import inner
from solvers.constraints.base import ConicForm, Constraint
from solvers.constraints.mean_index.ellipsoid import MeanSSIMStep
from solvers.constraints.ssim_windows.mean_preservation import project_to_zero_means
from solvers.constraints.ssim_windows.moments import BoundWindows, check_data_range, mean_loss, with_uncovered
from solvers.errors import ProblemError
from solvers.root_finding import SearchTolerances, last_nonnegative
from solvers.rounding import gamma, sum_operations
from solvers.validation import flag, positive, real, share
from solvers.windows import Window

if TYPE_CHECKING:
    import cvxpy as cp

# The share of its full weight that a lost window keeps in the convex step, so that H stays definite.
LOST_WINDOW_WEIGHT = 1e-3
# The largest number of steps in the search for a scale factor.
MAX_SCALE_STEPS = 80


@dataclass(frozen=True)
class MeanSSIM(Constraint):
    """The mean of ``SSIM_p(x, x + d)`` over windows p and channels is at least ``threshold``.

    With uniform 7x7 or Gaussian 11x11 windows and ``border="valid"`` this is the mean SSIM that papers report (Wang et
    al., TIP 2004; scikit-image's ``structural_similarity``). The set is **not convex**. Methods that assume convexity
    refuse it. Where windows overlap there is no tight bound on the optimum; methods find stationary points.

    A mean lets an attack choose where it spends the budget. It may destroy some windows and leave all others as they
    are. :class:`~solvers.WindowSSIM` makes a promise for every window.

    Attributes:
        threshold: t, 0 < t < 1.
        window: the sliding window. A stride equal to the size gives tiles. Under ``border="valid"`` a pixel that lies
            in no window keeps its value, as in WindowSSIM.
        luminance: an additional bound on the luminance term S1 of every window. ``None`` (default): no bound. A number
            beta in (0, 1 - t): ``1 - S1 <= beta``. ``"preserve"``: every window's mean is kept. The index is exact in
            all three cases. Where windows overlap, methods take only ``None``.
        sample_covariance: whether variances have the factor N/(N - 1), as they have by default in scikit-image.
        data_range: L of C1 = (0.01 L)^2 and C2 = (0.03 L)^2: the range of values that pixels can take, default 1 for
            pixels in [0, 1]. A problem is refused whose pixels spread over more than 4 L in a channel.

    Raises:
        ProblemError: a value lies outside its range.
    """

    threshold: float
    window: Window = field(default_factory=Window.uniform)
    luminance: float | Literal["preserve"] | None = None
    sample_covariance: bool = False
    data_range: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", share("MeanSSIM threshold", self.threshold))
        object.__setattr__(self, "data_range", positive("MeanSSIM data_range", self.data_range))
        object.__setattr__(self, "sample_covariance", flag("MeanSSIM sample_covariance", self.sample_covariance))
        if not isinstance(self.window, Window):
            raise ProblemError(f"MeanSSIM window must be a solvers.Window, got {self.window!r}")
        if self.luminance is None or (isinstance(self.luminance, str) and self.luminance == "preserve"):
            return
        try:
            luminance = real("", self.luminance)
        except ProblemError:
            raise ProblemError(
                f"MeanSSIM luminance must be None, a number or 'preserve', got {self.luminance!r}"
            ) from None
        if not 0 < luminance < 1 - self.threshold:
            raise ProblemError(
                f"MeanSSIM luminance must lie in (0, {1 - self.threshold:.6g}) at threshold {self.threshold}, "
                f"got {self.luminance}; 'preserve' keeps the windows' means"
            )
        object.__setattr__(self, "luminance", luminance)

    @property
    def is_convex(self) -> bool:
        return False

    @property
    def beta(self) -> float:
        """The bound on 1 - S1 in every window; infinite where there is none."""
        if self.luminance is None:
            return math.inf
        return 0.0 if self.luminance == "preserve" else float(self.luminance)

    def check(self, reference: Tensor) -> None:
        self.window.check_fits(reference.shape[-2], reference.shape[-1])

    def check_pixels(self, reference: Tensor, sound: Tensor) -> None:
        check_data_range(self.kind, self.data_range, reference, sound)

    def bind(self, reference: Tensor) -> BoundMeanSSIM:
        return BoundMeanSSIM(self, reference)

    def step(self, reference: Tensor, delta: Tensor) -> MeanSSIMStep:
        """The convex set that replaces this one around ``delta``: one ellipsoid an image. Images (B, C, H, W).

        See :mod:`solvers.constraints.mean_index.ellipsoid`.

        Raises:
            ProblemError: luminance is bounded in every window; an ellipsoid knows only the mean.
        """
        return energy_around(self, reference, delta)


class BoundMeanSSIM(BoundWindows):
    """The set for a batch of images. Its dual block is one multiplier of the index for each image, (B,), and only tiles
    have one: see :meth:`supremum`.

    Attributes:
        count: the number of windows of an image, over all channels.
    """

    constraint: MeanSSIM

    def __init__(self, constraint: MeanSSIM, reference: Tensor) -> None:
        self.constraint = constraint
        super().__init__(
            reference, constraint.window, constraint.data_range, sample_covariance=constraint.sample_covariance
        )
        self.count = self.reference_mean[0].numel()

    # -- membership ----------------------------------------------------------------------------------------

    def index(self, delta: Tensor) -> Tensor:
        """The mean of ``SSIM_p(x, x + d)`` over windows and channels, exact: (B,)."""
        return 1 - self.loss(delta)

    def loss(self, delta: Tensor) -> Tensor:
        """``1 - index``, computed without cancellation where the index is nearly 1: (B,)."""
        return mean_loss(*self.losses(delta))

    def excess(self, delta: Tensor) -> Tensor:
        """In units of SSIM: threshold less index, (B,).

        Where ``1 - S1`` is bounded, the largest ``(1 - S1) - beta`` counts too; where means are kept, the largest
        ``|m_p(d)|`` beyond ``kept_mean_tolerance``, in pixels. A pixel that lies in no window counts by its size.
        """
        mean = self.operator.mean(delta).abs() if self.has_equality else None
        return self._excess(delta, *self.losses(delta), mean)

    def certain_excess(self, delta: Tensor) -> Tensor:
        return self._certain_excess(delta, self.certain_mean(delta) if self.has_equality else None)

    def certain_excess_but_for_means(self, delta: Tensor) -> Tensor:
        return self._certain_excess(delta, torch.zeros_like(self.reference_mean) if self.has_equality else None)

    def _certain_excess(self, delta: Tensor, mean: Tensor | None) -> Tensor:
        luminance, contrast = self.certain_losses(delta)
        # The mean of the losses is at most about 1.
        return self._excess(delta, luminance, contrast, mean, rounding=2 * gamma(sum_operations(luminance)))

    def _excess(
        self, delta: Tensor, luminance: Tensor, contrast: Tensor, mean: Tensor | None, rounding: float = 0.0
    ) -> Tensor:
        excess = mean_loss(luminance, contrast) - (1 - self.constraint.threshold) + rounding
        beta = self.constraint.beta
        if mean is not None:
            excess = torch.maximum(excess, mean.flatten(1).amax(dim=1) - self.kept_mean_tolerance)
        elif math.isfinite(beta):
            excess = torch.maximum(excess, luminance.flatten(1).amax(dim=1) - beta)
        return with_uncovered(self.operator, excess, delta)

    def scale_factor(self, delta: Tensor) -> Tensor:
        """A t in [0, 1] such that ``s * delta`` is inside for all s in [0, t], (B,).

        The factor is the largest one unless S1 or S2 turns negative on the way. Each window's losses rise along the ray
        up to a peak with a closed form, and fall after the peak. So the largest losses on a piece of the ray are known,
        and they bound the index on that piece from below.
        """
        mean, variance, covariance = self._moments(delta)
        terms = (
            (mean.square(), self.reference_mean * mean, self._base_mean),
            (variance, covariance, self._base_variance),
        )
        peaks = [torch.where(c < 0, -k / torch.where(c < 0, c, -1.0), math.inf) for _, c, k in terms]

        allowed = 1 - self.constraint.threshold

        def room(low: Tensor, high: Tensor) -> Tensor:
            """The allowed loss less a bound on the loss of ``s * delta``, low <= s <= high, all (B,)."""
            ranges = []
            for (v, c, k), peak in zip(terms, peaks, strict=True):
                ends = [t.reshape(-1, 1, 1, 1) for t in (low, high)]
                at_peak = torch.minimum(torch.maximum(peak, ends[0]), ends[1])
                losses = [_loss(t.square() * v, t * c, k) for t in (*ends, at_peak)]
                ranges.append((torch.minimum(losses[0], losses[1]), losses[2]))
            # 1 - S1 S2 is bilinear in the two losses, so it is largest at a corner.
            corners = [a + b - a * b for a in ranges[0] for b in ranges[1]]
            return allowed - torch.stack(corners).amax(dim=0).flatten(1).mean(dim=1)

        zero, one = torch.zeros_like(mean[:, 0, 0, 0]), torch.ones_like(mean[:, 0, 0, 0])
        factor = _last_inside(lambda t: room(zero, t), zero, one)
        if bool(((factor < 1) & (room(one, one) >= 0)).any()):
            # The end of the ray is inside, but windows past their peak hide it. Bound the loss on pieces of the ray,
            # which get finer near its end.
            ends = [0.0, *(1 - 0.5**k for k in range(2, 41)), 1.0]
            smallest_room = torch.stack([room(a * one, b * one) for a, b in pairwise(ends)]).amin(dim=0)
            factor = torch.where(smallest_room >= -1e-12, one, factor)
        if 0 < self.constraint.beta < math.inf:
            factor = torch.minimum(factor, self._interval_factor(mean).flatten(1).amin(dim=1))
        return factor

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Move the windows' means into their intervals. The index is left to the scaling that follows."""
        if self.constraint.beta == 0:
            return project_to_zero_means(self.operator, delta, lower, upper, scale=self.constraint.data_range)
        if math.isfinite(self.constraint.beta):
            factor = self._interval_factor(self.operator.mean(delta))
            return delta * self.operator.spread_min(factor).clamp_max(1)
        return delta

    @property
    def has_equality(self) -> bool:
        return self.constraint.beta == 0

    # -- duality -------------------------------------------------------------------------------------------

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.reference.shape[0],),)

    def supremum(self, direction: Tensor, block: Tensor | None, lower: Tensor, upper: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd`` over this set and ``lower <= d <= upper``, z = ``direction``: (B,).

        It is the Lagrangian's maximum at the multiplier ``block`` (B,), and is valid although the set is not convex.
        There is one only for tiles in a box of nonnegative pixels; ``None`` otherwise. See
        :mod:`solvers.constraints.mean_index.tile_bound`.
        """
        finite = bool((lower.isfinite() & upper.isfinite()).all())
        if block is None or not (finite and self.constraint.window.is_tiling and self.keeps_luminance(lower)):
            return None
        from solvers.constraints.mean_index.tile_bound import lagrangian_bound

        return lagrangian_bound(self, direction, block.clamp_min(0), lower, upper)

    def keeps_luminance(self, lower: Tensor) -> bool:
        """Whether no d with ``d >= lower`` makes S1 negative: all pixels stay at or above 0, or S1 is bounded."""
        return math.isfinite(self.constraint.beta) or bool(
            (self.reference >= 0).all() and (self.reference + lower >= 0).all()
        )

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        raise ProblemError("MeanSSIM is not convex and has no conic form; its convex step is MeanSSIM.step")

    # -- parts ---------------------------------------------------------------------------------------------

    def _moments(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        op = self.operator
        return op.mean(delta), op.variance(delta), op.covariance(self.centred_reference, delta)

    @property
    def _base_mean(self) -> Tensor:
        return 2 * self.reference_mean.square() + self.c1

    @property
    def _base_variance(self) -> Tensor:
        return 2 * self.reference_variance + self.c2

    def _interval_factor(self, mean: Tensor) -> Tensor:
        """The largest t in [0, 1], window by window, with ``1 - S1 <= beta`` at ``t * mean``: (B, C, P_h, P_w)."""
        b = self.constraint.beta / (1 - self.constraint.beta)
        half_width = (b * self._base_mean + (b * self.reference_mean).square()).sqrt()
        limit = b * self.reference_mean + torch.where(mean > 0, half_width, -half_width)
        beyond = mean.abs() > limit.abs()
        return torch.where(beyond, limit / torch.where(beyond, mean, 1.0), 1.0)


def _loss(square: Tensor, along: Tensor, base: Tensor) -> Tensor:
    """``square/(base + 2 along + square)``, that is 1 - S1 or 1 - S2; 0 where numerator and denominator vanish.

    For S2: square ``V(d)``, along ``cov(x, d)``, base ``2 V(x) + C2``. For S1: ``m(d)^2``, ``m(x) m(d)``,
    ``2 m(x)^2 + C1``.
    """
    total = base + 2 * along + square
    return square / total.clamp_min(torch.finfo(total.dtype).tiny)


def _last_inside(room: Callable[[Tensor], Tensor], zero: Tensor, one: Tensor) -> Tensor:
    """The largest t in [0, 1] with ``room(t) >= 0``, for a falling function of t (B,) that is positive at 0."""
    at_zero, at_one = room(zero), room(one)
    eps = torch.finfo(one.dtype).eps
    tolerances = SearchTolerances(value=8 * eps * at_zero, width=eps, max_steps=MAX_SCALE_STEPS)
    factor = last_nonnegative(room, at_zero, at_one, tolerances, solved=at_one >= 0)
    return torch.where(at_one >= 0, one, factor)


def energy_around(constraint: MeanSSIM, reference: Tensor, delta: Tensor) -> MeanSSIMStep:
    """The ellipsoid around ``delta``; ``reference`` and ``delta`` are images (B, C, H, W) of the same dtype.

    See :meth:`~solvers.MeanSSIM.step` and :mod:`solvers.constraints.mean_index.ellipsoid`, whose symbols appear here.
    """
    if constraint.luminance is not None:
        raise ProblemError(
            f"MeanSSIM has a convex step with luminance=None alone, got {constraint.luminance!r}: an ellipsoid knows "
            "only the mean over windows"
        )
    bound = constraint.bind(reference)
    op, reference_mean, mean = bound.operator, bound.reference_mean, bound.operator.mean(delta)
    variance, covariance = op.variance(delta), op.covariance(bound.centred_reference, delta)
    luminance, contrast = bound.losses(delta)
    # 1 - S2 = N/(N + E) with N = V(d) and E the first of these; 1 - S1 has the same form with the second.
    affine_variance = 2 * bound.reference_variance + bound.c2 + 2 * covariance
    affine_mean = 2 * reference_mean.square() + bound.c1 + 2 * reference_mean * mean
    u, slope_u = _weights(variance, affine_variance, (1 - luminance) / bound.count)
    v, slope_v = _weights(mean.square(), affine_mean, (1 - contrast) / bound.count)
    # Half the gradient of the affine parts: R'R x and m(x) times the window's weights.
    slope, offset = op.adjoint(torch.stack([slope_u, (slope_v - slope_u) * reference_mean]))
    linear = slope * reference + offset
    value = (u * variance + v * mean.square()).flatten(1).sum(dim=1) - 2 * inner(linear, delta)
    level = (1 - constraint.threshold) - mean_loss(luminance, contrast) + value
    return MeanSSIMStep(constraint.window, u, v, linear, level.clamp_min(0))


def _weights(square: Tensor, affine: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` times the derivatives of N/(N + E) in N and, with its sign changed, in E; N = ``square``.

    A window is lost where E <= 0 or where the other term of SSIM is negative. Its derivative in N would reward more
    loss. Such a window has a small positive weight instead. A window with N + E = 0 has no loss and no weight: with the
    sample covariance a window cut to one pixel has N = E = 0, for all d.
    """
    counts = square + affine > 0
    total = torch.where(counts, square + affine, 1.0)
    smallest = LOST_WINDOW_WEIGHT * weight.abs()
    weight = weight.clamp_min(0)
    rising = torch.maximum(weight * affine / total.square(), smallest / total)
    return torch.where(counts, rising, 0.0), torch.where(counts, weight * square / total.square(), 0.0)
