"""Mean SSIM of at least a threshold: the published index, a sum of ratios."""

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
from solvers.constraints.ssim_windows.moments import BoundWindows, mean_loss, with_uncovered
from solvers.constraints.ssim_windows.zero_mean_projection import project_to_zero_means
from solvers.errors import ProblemError
from solvers.validation import positive, real, share
from solvers.windows import Window

if TYPE_CHECKING:
    import cvxpy as cp

# Of a window's full weight, what a lost one keeps, so that H stays definite.
LEAST = 1e-3


@dataclass(frozen=True)
class MeanSSIM(Constraint):
    """The mean of ``SSIM_p(x, x + d)`` over windows p and channels is at least ``threshold``.

    With uniform 7x7 or Gaussian 11x11 windows and ``border="valid"`` this is the mean SSIM that papers report (Wang et
    al., TIP 2004; scikit-image's ``structural_similarity``). The set is **not convex**: methods that assume convexity
    refuse it, and where windows overlap there is no tight bound on its optimum, only stationary points.

    A mean lets an attack spend the budget where it likes: some windows may be destroyed while the rest stay as they
    are. :class:`~solvers.WindowSSIM` promises every window.

    Attributes:
        threshold: t, 0 < t < 1.
        window: the sliding window; tiles where its stride equals its size. Under ``border="valid"`` a pixel that lies
            in no window keeps its value, as in WindowSSIM.
        luminance: what else is asked of the luminance term S1. ``None`` (default): nothing, the index alone. A number
            beta in (0, 1 - t): also ``1 - S1 <= beta`` in every window. ``"preserve"``: every window's mean is kept.
            The index is exact in all three. Beside the index alone, methods take only tiles.
        sample_covariance: variances with the factor N/(N - 1), as scikit-image's default has.
        data_range: L of C1 = (0.01 L)^2 and C2 = (0.03 L)^2.
    """

    threshold: float
    window: Window = field(default_factory=Window.uniform)
    luminance: float | Literal["preserve"] | None = None
    sample_covariance: bool = False
    data_range: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", share("MeanSSIM threshold", self.threshold))
        object.__setattr__(self, "data_range", positive("MeanSSIM data_range", self.data_range))
        if not isinstance(self.window, Window):
            raise ProblemError(f"MeanSSIM window must be a solvers.Window, got {self.window!r}")
        if self.luminance is None or self.luminance == "preserve":
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

    def bind(self, reference: Tensor) -> BoundMeanSSIM:
        return BoundMeanSSIM(self, reference)

    def step(self, reference: Tensor, delta: Tensor) -> MeanSSIMStep:
        """The convex set that stands for this one around ``delta``: one ellipsoid an image. Images (B, C, H, W).

        Raises:
            ProblemError: luminance is bounded in every window; an ellipsoid knows only the mean.
        """
        return energy_around(self, reference, delta)


class BoundMeanSSIM(BoundWindows):
    """The set for a batch of images. Its dual block is a multiplier of the index, (B,), and only for tiles: see
    :meth:`supremum`.

    Attributes:
        count: windows of an image, channels counted.
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
        """``1 - index``, which keeps its digits where the index is nearly 1: (B,)."""
        return mean_loss(*self.losses(delta))

    def excess(self, delta: Tensor) -> Tensor:
        """In units of SSIM: threshold less index, or the largest ``(1 - S1) - beta`` where that is bounded
        (``|m_p(d)|`` in pixel units where means are kept); a pixel in no window counts with its size."""
        luminance, contrast = self.losses(delta)
        excess = mean_loss(luminance, contrast) - (1 - self.constraint.threshold)
        beta = self.constraint.beta
        if beta == 0:
            excess = torch.maximum(excess, self.operator.mean(delta).abs().flatten(1).amax(dim=1))
        elif math.isfinite(beta):
            excess = torch.maximum(excess, luminance.flatten(1).amax(dim=1) - beta)
        return with_uncovered(self.operator, excess, delta)

    def scale_factor(self, delta: Tensor) -> Tensor:
        """A t in [0, 1] such that all of ``s * delta``, 0 <= s <= t, is inside; the largest unless S1 or
        S2 turns negative on the way. Each window's losses rise along the ray up to a peak that has a closed form, and
        fall behind it; so their largest values on a piece of the ray, which bound the index from below, are known."""
        shift, spread, along = self._moments(delta)
        terms = (
            (shift.square(), self.reference_mean * shift, self._base_mean),
            (spread, along, self._base_variance),
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
            # 1 - S1 S2 is bilinear in the two losses: largest at a corner.
            corners = [a + b - a * b for a in ranges[0] for b in ranges[1]]
            return allowed - torch.stack(corners).amax(dim=0).flatten(1).mean(dim=1)

        zero, one = torch.zeros_like(shift[:, 0, 0, 0]), torch.ones_like(shift[:, 0, 0, 0])
        factor = _last_with_room(lambda t: room(zero, t), one)
        if bool(((factor < 1) & (room(one, one) >= 0)).any()):
            # Inside at the end, but windows that are past their peak hide it: piece by piece, finer towards the end.
            ends = [0.0, *(1 - 0.5**k for k in range(2, 41)), 1.0]
            slack = torch.stack([room(a * one, b * one) for a, b in pairwise(ends)]).amin(dim=0)
            factor = torch.where(slack >= -1e-12, one, factor)
        if 0 < self.constraint.beta < math.inf:
            factor = torch.minimum(factor, self._interval_factor(shift).flatten(1).amin(dim=1))
        return factor

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Bring the means where they may be; the index is left to scaling."""
        if self.constraint.beta == 0:
            return project_to_zero_means(self.operator, delta, lower, upper)
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
        """For tiles in a box of nonnegative pixels, the Lagrangian's maximum at the multiplier ``block`` (B,), an upper
        bound on ``max z'd`` over this set although it is not convex; ``None`` otherwise. See
        :mod:`solvers.constraints.mean_index.tile_bound`."""
        finite = bool((lower.isfinite() & upper.isfinite()).all())
        if block is None or not (finite and self.constraint.window.is_tiling and self.keeps_luminance(lower)):
            return None
        from solvers.constraints.mean_index.tile_bound import lagrangian_bound

        return lagrangian_bound(self, direction, block.clamp_min(0), lower, upper)

    def keeps_luminance(self, lower: Tensor) -> bool:
        """Whether no d with ``d >= lower`` can make S1 negative: pixels at least 0, or means tied to the image's."""
        return math.isfinite(self.constraint.beta) or bool(
            (self.reference >= 0).all() and (self.reference + lower >= -1e-12).all()
        )

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        raise ProblemError("MeanSSIM is not convex and has no conic form; its convex step is MeanSSIM.step")

    # -- parts ---------------------------------------------------------------------------------------------

    def _moments(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        op = self.operator
        return op.mean(delta), op.variance(delta), op.covariance(self.reference, delta)

    @property
    def _base_mean(self) -> Tensor:
        return 2 * self.reference_mean.square() + self.c1

    @property
    def _base_variance(self) -> Tensor:
        return 2 * self.reference_variance + self.c2

    def _interval_factor(self, shift: Tensor) -> Tensor:
        """The largest t in [0, 1], window by window, with ``1 - S1 <= beta`` at ``t * shift``: (B, C, P_h, P_w)."""
        b = self.constraint.beta / (1 - self.constraint.beta)
        half = (b * self._base_mean + (b * self.reference_mean).square()).sqrt()
        limit = b * self.reference_mean + torch.where(shift > 0, half, -half)
        beyond = shift.abs() > limit.abs()
        return torch.where(beyond, limit / torch.where(beyond, shift, 1.0), 1.0)


def _loss(square: Tensor, along: Tensor, base: Tensor) -> Tensor:
    """``|u|^2 / (2|x|^2 + c + 2x'u + |u|^2)``: 1 - S1 and 1 - S2 alike; 0 where both ends vanish."""
    total = base + 2 * along + square
    return square / total.clamp_min(torch.finfo(total.dtype).tiny)


def _last_with_room(room: Callable[[Tensor], Tensor], one: Tensor, steps: int = 80) -> Tensor:
    """The largest t in [0, 1] with ``room(t) >= 0`` for a falling function of t (B,), room(0) > 0, by the Illinois
    method; the end with room."""
    low, high = torch.zeros_like(one), one.clone()
    low_value, high_value = room(low), room(high)
    inside = high_value >= 0
    side = torch.zeros_like(one)
    eps = torch.finfo(one.dtype).eps
    enough, left = 8 * eps * low_value, low_value
    for _ in range(steps):
        if bool((inside | (left <= enough) | (high - low <= eps * high)).all()):
            break
        secant = low + (high - low) * low_value / (low_value - high_value)
        middle = torch.where((secant > low) & (secant < high), secant, (low + high) / 2)
        value = room(middle)
        fits = value >= 0
        left = torch.where(fits, value, left)
        # Illinois: an end that stays twice running counts half.
        high_value = torch.where(fits & (side > 0), high_value / 2, torch.where(fits, high_value, value))
        low_value = torch.where(~fits & (side < 0), low_value / 2, torch.where(fits, value, low_value))
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        side = torch.where(fits, 1.0, -1.0)
    return torch.where(inside, one, low)


def energy_around(constraint: MeanSSIM, reference: Tensor, delta: Tensor) -> MeanSSIMStep:
    """See :meth:`~solvers.MeanSSIM.step` and :mod:`solvers.constraints.mean_index.ellipsoid`. Images (B, C, H, W) of
    the same dtype."""
    if constraint.luminance is not None:
        raise ProblemError(
            f"MeanSSIM has a convex step with luminance=None alone, got {constraint.luminance!r}: an ellipsoid knows "
            "only the mean over windows"
        )
    bound = constraint.bind(reference)
    op, mean, shift = bound.operator, bound.reference_mean, bound.operator.mean(delta)
    spread, along = op.variance(delta), op.covariance(reference, delta)
    first, second = bound.losses(delta)
    affine_variance = 2 * bound.reference_variance + bound.c2 + 2 * along
    affine_mean = 2 * mean.square() + bound.c1 + 2 * mean * shift
    u, tilt_u = _weights(spread, affine_variance, (1 - first) / bound.count)
    v, tilt_v = _weights(shift.square(), affine_mean, (1 - second) / bound.count)
    # Half the slopes of the affine parts: R'R x and m(x) times the window's weights.
    slope, offset = op.adjoint(torch.stack([tilt_u, (tilt_v - tilt_u) * mean]))
    linear = slope * reference + offset
    value = (u * spread + v * shift.square()).flatten(1).sum(dim=1) - 2 * inner(linear, delta)
    level = (1 - constraint.threshold) - mean_loss(first, second) + value
    return MeanSSIMStep(constraint.window, u, v, linear, level.clamp_min(0))


def _weights(square: Tensor, affine: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` times the slopes of N/(N + E) in N and, negative, in E. A window that is lost (E <= 0 or the other
    term negative) would gain by losing more: it has a little weight instead."""
    total = (square + affine).clamp_min(torch.finfo(square.dtype).tiny)
    least = LEAST * weight.abs()
    weight = weight.clamp_min(0)
    rising = torch.maximum(weight * affine / total.square(), least / total)
    return torch.where(square + affine > 0, rising, 0.0), weight * square / total.square()
