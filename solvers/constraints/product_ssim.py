"""SSIM of at least a threshold in every window, each with its own split between luminance and structure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solvers.constraints.base import ConicForm, Constraint
from solvers.constraints.ssim_windows.feasibility import ViolationAndMove, averaged, make_feasible, shrink_locally
from solvers.constraints.ssim_windows.loss_split import Loss, largest, levels, share_of
from solvers.constraints.ssim_windows.moments import BoundWindows, WindowBalls, with_uncovered
from solvers.constraints.ssim_windows.pixel_bounds import implied_bounds
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.errors import ProblemError
from solvers.validation import positive, share
from solvers.windows import Window

if TYPE_CHECKING:
    import cvxpy as cp

# Splits between which the implied box is taken: it is the union of as many boxes.
BOXES = 6
UNBOUNDED = 1e12  # the level of a window whose structure, or mean, is lost
# Most secants to a window's scale.
STEPS = 60


@dataclass(frozen=True)
class ProductSSIM(Constraint):
    """``SSIM_p(x, x + d) >= threshold`` in every window p of every channel: the product ``S1 S2``, both positive.

    :class:`~solvers.WindowSSIM` fixes how the loss is divided between luminance (S1) and contrast-structure (S2), the
    same for all windows, and is convex. Here every window divides it as suits the objective; all splits together make
    the exact set (for pixels at or above 0, where S1 is positive). It is **not convex**, but nearly so at thresholds
    near 1, and each window's support function is known, so that bounds are rigorous and global.

    A window's mean may move by about 20% of itself at threshold 0.95, and optimal perturbations do: they show as
    blotches. That costs the attack little to give up; WindowSSIM with its default is the one to look at.

    Attributes:
        threshold: t, 0 < t < 1.
        window: the sliding window; tiles where its stride equals its size. Under ``border="valid"`` a pixel that lies
            in no window keeps its value.
        sample_covariance: variances with the factor N/(N - 1), as scikit-image's default has.
        data_range: L of C1 = (0.01 L)^2 and C2 = (0.03 L)^2.
    """

    threshold: float
    window: Window = field(default_factory=Window.uniform)
    sample_covariance: bool = False
    data_range: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", share("ProductSSIM threshold", self.threshold))
        object.__setattr__(self, "data_range", positive("ProductSSIM data_range", self.data_range))
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
        self.spread_base = 2 * self.reference_variance + self.c2
        self.mean_base = 2 * self.reference_mean.square() + self.c1

    def select(self, images: Tensor) -> BoundProductSSIM:
        """The set of the images at ``images`` (long, (K,)) alone."""
        return BoundProductSSIM(self.constraint, self.reference[images])

    def split(self, share: Tensor, margin: float = 0.0) -> WindowBalls:
        """The windows at contrast's share ``share`` (B, C, P_h, P_w) of the loss
        (:func:`~solvers.constraints.ssim_windows.loss_split.levels`); with a ``margin``, about so much smaller,
        relatively."""
        allowed = (1 - margin) ** 2 * (1 / self.constraint.threshold - 1)
        a, b = levels(share, 1 / (1 + allowed))
        radius = (a * (self.spread_base + a * self.reference_variance)).sqrt()
        middle = b * self.reference_mean
        half = (b * (self.mean_base + middle * self.reference_mean)).sqrt()
        return WindowBalls(a, radius, middle - half, middle + half)

    # -- membership ----------------------------------------------------------------------------------------

    def index(self, delta: Tensor) -> Tensor:
        """``SSIM_p(x, x + d)`` of every window, (B, C, P_h, P_w)."""
        luminance, contrast = self.losses(delta)
        return (1 - luminance) * (1 - contrast)

    def excess(self, delta: Tensor) -> Tensor:
        """In units of SSIM: the largest of ``t - S1 S2`` over the windows, of ``t - S1`` or ``t - S2`` where one of
        them is negative; a pixel in no window counts with its size."""
        luminance, contrast = self.losses(delta)
        whole = luminance + contrast - luminance * contrast
        loss = torch.maximum(torch.maximum(luminance, contrast), whole)
        return with_uncovered(self.operator, loss.flatten(1).amax(dim=1) - (1 - self.constraint.threshold), delta)

    def used(self, shift: Tensor, spread: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """The levels A and B of perturbations with window means ``shift``, variances ``spread`` and covariances
        ``along`` with x; UNBOUNDED where S2 or S1 is not positive, though the image is moved."""
        contrast = spread, self.spread_base + 2 * along
        luminance = shift.square(), self.mean_base + 2 * self.reference_mean * shift
        return _level(*contrast), _level(*luminance)

    def moments(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``m_p(d)``, ``V_p(d)`` and ``cov_p(d, x)``, (B, C, P_h, P_w) each."""
        means = self.operator.mean(torch.stack([delta, delta.square(), delta * self.reference]))
        shift = means[0]
        return shift, (means[1] - shift.square()).clamp_min(0), means[2] - shift * self.reference_mean

    def window_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` inside, window by window: (B, C, P_h, P_w). Both losses rise along
        the ray while S1 and S2 are positive, so all smaller t are inside too."""
        moments = self.moments(delta)
        a, b = self.used(*moments)
        allowed = 1 / self.constraint.threshold - 1
        factor = torch.ones_like(a)
        outside = ((a + b + a * b) > allowed).nonzero(as_tuple=True)
        if outside[0].numel():
            shift, spread, along = (value[outside] for value in moments)
            mean = self.reference_mean[outside]
            contrast = (spread, 2 * along, self.spread_base[outside])
            luminance = (shift.square(), 2 * mean * shift, self.mean_base[outside])
            factor[outside] = _scale(contrast, luminance, allowed)
        return factor

    def scale_factor(self, delta: Tensor) -> Tensor:
        return self.window_factor(delta).flatten(1).amin(dim=1)

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """See :mod:`solvers.constraints.ssim_windows.feasibility`."""
        if self.constraint.window.is_tiling:
            return shrink_locally(self, delta, steps=1)
        return make_feasible(self, delta, lower, upper)

    def violation_and_move(self, delta: Tensor, margin: float) -> ViolationAndMove:
        """See :class:`solvers.constraints.ssim_windows.feasibility.WindowSet`. A window asks for the nearest point of
        one convex set all along: that of the split at which its levels stand to one another as they do at ``delta``."""
        op, x, mean = self.operator, self.reference, self.reference_mean
        tiny = torch.finfo(x.dtype).tiny
        split = self.split(share_of(*self.used(*self.moments(delta))), margin)
        a = torch.as_tensor(split.ball_center)

        def ask(point: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
            shift, spread, along = self.moments(point)
            apart = (spread - 2 * a * along + a.square() * self.reference_variance).clamp_min(0).sqrt()
            excess = (1 - split.radius / apart.clamp_min(tiny)).clamp_min(0)
            beyond = shift - shift.clamp(split.mean_lower, split.mean_upper)

            def move() -> Tensor:
                asking = (excess > 0).to(excess), (beyond != 0).to(excess)
                asked = torch.stack([excess, excess * a, excess * (shift - a * mean), beyond, *asking])
                slope, tilt, offset, level, balls, intervals = op.adjoint(asked).unbind()
                return averaged(point * slope - x * tilt - offset, balls) + averaged(level, intervals)

            return excess, beyond, move

        return ask

    def implied_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The union over pieces of the hyperbola of what the larger of the balls and of the intervals on each imply."""
        boxes, whole = [], torch.ones_like(self.spread_base)
        for k in range(BOXES):
            least, most = (math.sin(math.pi / 2 * end / BOXES) ** 2 for end in (k, k + 1))
            widest, longest = self.split(most * whole), self.split(least * whole)
            center = float(levels(torch.tensor(most, dtype=torch.float64), self.constraint.threshold)[0])
            limits = longest.mean_lower, longest.mean_upper
            boxes.append(implied_bounds(self.operator, self.reference, center, widest.radius, limits, (lower, upper)))
        lowest, highest = zip(*boxes, strict=True)
        return torch.stack(lowest).amin(dim=0), torch.stack(highest).amax(dim=0)

    # -- duality -------------------------------------------------------------------------------------------

    def check_block(self, block: WindowDual) -> None:
        if not isinstance(block, WindowDual):
            raise ProblemError(f"dual block of ProductSSIM must be a WindowDual, got {type(block).__name__}")
        block.check(tuple(self.spread_base.shape), tuple(self.reference.shape))

    def adjoint(self, block: WindowDual) -> Tensor:
        return block.adjoint(self.operator, self.reference)

    def dual_value(self, block: WindowDual) -> Tensor:
        """The support function of all windows' exact sets, which is that of their convex hulls: a bound on ``y'Ad``
        for every d of the set, although it is not convex."""
        size, along = block.centred(self.operator, self.reference)
        contrast = Loss(along, size, self.spread_base, self.reference_variance)
        luminance = self.luminance(block.mean)
        return largest(contrast, luminance, self.constraint.threshold).flatten(1).sum(dim=1)

    def luminance(self, mean: Tensor) -> Loss:
        """What a window gains by its mean, for the dual's part ``mean`` (B, C, P_h, P_w)."""
        return Loss(self.reference_mean * mean, mean.abs(), self.mean_base, self.reference_mean.square())

    def support(self, direction: Tensor) -> Tensor | None:
        """By spreading z over the windows, as in WindowSSIM; exact for tiles without a box."""
        coverage = self.operator.coverage
        point = torch.where(self.operator.covered, direction / coverage.clamp_min(1e-30), 0.0)
        return self.dual_value(WindowDual(torch.ones_like(self.spread_base), point, self.operator.mean(point)))

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        raise ProblemError("ProductSSIM is not convex and has no conic form; WindowSSIM fixes one split and has one")


def _level(square: Tensor, affine: Tensor) -> Tensor:
    """``square/affine``, at most UNBOUNDED, which is what an ``affine`` of 0 or less gives; 0 where nothing moves."""
    level = square / affine.clamp_min(torch.finfo(affine.dtype).tiny)
    return torch.where(square > 0, level.clamp_max(UNBOUNDED), 0.0)


Term = tuple[Tensor, Tensor, Tensor]


def _scale(contrast: Term, luminance: Term, allowed: float) -> Tensor:
    """The largest t in [0, 1) with ``(1 + A(t d))(1 + B(t d)) <= 1 + allowed`` for windows (N,) that are outside at
    t = 1; a term is (n, c, k) with level ``t^2 n/(k + t c)``. The root of the level grows about linearly in t: secants
    of it, safeguarded (Illinois); the end that is inside."""
    target = allowed**0.5

    def value(t: Tensor) -> Tensor:
        level = []
        for square, slope, base in (contrast, luminance):
            below = base + t * slope
            level.append(_level(t.square() * square, below))
        return (level[0] + level[1] + level[0] * level[1]).sqrt() - target

    low, high = torch.zeros_like(contrast[0]), torch.ones_like(contrast[0])
    low_value, high_value = torch.full_like(low, -target), value(high)
    side = torch.zeros_like(low)
    eps = torch.finfo(low.dtype).eps
    left = low_value
    for _ in range(STEPS):
        if bool(((high - low <= 2 * eps * high) | (left >= -4 * eps * target)).all()):
            break
        secant = low - (high - low) * low_value / (high_value - low_value)
        middle = torch.where((secant > low) & (secant < high), secant, (low + high) / 2)
        now = value(middle)
        fits = now <= 0
        left = torch.where(fits, now, left)
        # Illinois: an end that stays twice running counts half.
        high_value = torch.where(fits & (side > 0), high_value / 2, torch.where(fits, high_value, now))
        low_value = torch.where(~fits & (side < 0), low_value / 2, torch.where(fits, now, low_value))
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        side = torch.where(fits, 1.0, -1.0)
    return low
