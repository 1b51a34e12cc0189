"""Bring a perturbation into overlapping SSIM windows, at little cost to whatever it was good for.

Scaling towards 0 is closed form but dear: one window's factor falls on all pixels under it, and because the pixels
then shrink unevenly, the means of the neighbours (large terms that cancel) move out of their intervals in turn. So
first the windows pull together: every violated window asks for its nearest point, pixels take the average of what
their violated windows ask (an averaged projection, after Censor, Opt. Methods Softw. 2012), with Nesterov's momentum
and its restart (O'Donoghue and Candes, Found. Comput. Math. 2015). Scaling takes what is left.

Measured on astronaut at 3x224x224, 7x7 at stride 1, an iterate with objective 140.91 and 7% of windows violated:
scaling ends at 139.65, 60 plain averaged projections and scaling at 140.13, 60 accelerated ones at 140.57 (the
optimum is under 140.93).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from solvers.backends.cuda_graph import CapturedStep
from solvers.batch_algebra import inner, norm, per_image
from solvers.windows import WindowOperator

# Windows that a factor this near to 1 brings inside count as inside.
NEAR = 1e-5
# An image all of whose windows a factor this near to 1 would bring inside is nearly there.
SLIGHT = 1e-3
PULLS = 80
FEW_PULLS = 16
SHRINKAGES = 40
LOOKS = 8  # averages between looks at who is inside

# From a point (B, C, H, W) to how far its windows' structures and means are outside, (B, C, P_h, P_w) each, 0 for none,
# and the average move, an image, that those outside ask for (computed when called).
Asked = tuple[Tensor, Tensor, Callable[[], Tensor]]
ViolationAndMove = Callable[[Tensor], Asked]


class WindowSet(Protocol):
    """Sets of overlapping windows that can be entered."""

    operator: WindowOperator

    def window_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` inside, window by window: (B, C, P_h, P_w)."""

    def select(self, images: Tensor) -> WindowSet:
        """The set of the images at ``images`` (long, (K,)) alone."""

    def violation_and_move(self, delta: Tensor, margin: float) -> ViolationAndMove:
        """What violated windows ask of points on the way from ``delta``; windows count as violated unless they are
        ``margin`` inside, relatively."""


def make_feasible(bound: WindowSet, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """``delta`` (B, C, H, W) moved into the set and within ``lower <= delta <= upper``, up to a factor near 1.

    An image that is inside up to NEAR stays as it is; one that SLIGHT would bring inside gets few averaged
    projections.
    """
    factor = bound.window_factor(delta).flatten(1).amin(dim=1)
    for near, steps in ((factor >= 1 - SLIGHT, FEW_PULLS), (factor < 1 - SLIGHT, PULLS)):
        outside = (near & (factor < 1 - NEAR)).nonzero()[:, 0]
        # One image at a time fits a CPU's cache; a larger batch would only be slower.
        for images in outside.split(1 if delta.device.type == "cpu" else max(len(outside), 1)):
            moved = averaged_projections(bound.select(images), delta[images], lower[images], upper[images], steps)
            delta = delta.index_copy(0, images, moved)
    return shrink_or_scale(bound, delta)


def shrink_or_scale(bound: WindowSet, delta: Tensor) -> Tensor:
    """``delta`` shrunk locally, or scaled as a whole, image by image whichever moves it less.

    Shrinking is for a few windows that are far outside. For many that are barely outside it can be a disaster: on
    camera at 3x224x224, luminance "split", an iterate 1e-4 outside lost 9% of its objective to it, 1e-4 by scaling.
    """
    factor = bound.window_factor(delta).flatten(1).amin(dim=1)
    if bool((factor >= 1 - NEAR).all()):
        return delta
    shrunk = shrink_locally(bound, delta)
    shrunk = shrunk * per_image(bound.window_factor(shrunk).flatten(1).amin(dim=1))
    scaled = delta * per_image(factor)
    return torch.where(per_image(norm(shrunk - delta) < norm(scaled - delta)), shrunk, scaled)


def averaged_projections(
    bound: WindowSet, delta: Tensor, lower: Tensor, upper: Tensor, steps: int = PULLS, margin: float = 2e-6
) -> Tensor:
    """Accelerated averaged projections, at most ``steps``, fewer once all windows are inside.

    Args:
        bound: of the images of ``delta``, in its dtype.
        delta, lower, upper: (B, C, H, W).
        steps: each costs two means and five adjoints.
        margin: windows are asked to be this share inside, so that rounding does not leave them out.
    """
    result = start = delta.clamp(lower, upper)
    images = torch.arange(len(delta), device=delta.device)
    course = _Averaging(bound, start, lower, upper, margin)
    for step in range(0, steps, LOOKS):
        # An image that is inside stays where it is: momentum would carry it on while its neighbours move.
        outside = course.outside()
        keep = outside.nonzero()[:, 0]
        if len(keep) < len(images):
            entered = (~outside).nonzero()[:, 0]
            point = course.point[entered].clamp(lower[images[entered]], upper[images[entered]])
            result = result.index_copy(0, images[entered], point)
            images = images[keep]
            if len(images) == 0:
                return result
            course = course.select(bound.select(images), start[images], keep, margin)
        for _ in range(min(LOOKS, steps - step)):
            course.move()
    return result.index_copy(0, images, course.previous)


class _Averaging:
    """Accelerated averaged projections of some images, (K, C, H, W). The state stays in the same memory.

    Attributes:
        point: where the next average is taken, with momentum; not within the bounds.
        previous: the latest average.
    """

    def __init__(self, bound: WindowSet, start: Tensor, lower: Tensor, upper: Tensor, margin: float) -> None:
        self.point, self.previous = start.clone(), start.clone()
        self.momentum = torch.ones_like(start[:, 0, 0, 0])
        self.lower, self.upper = lower, upper
        self._ask = bound.violation_and_move(start, margin)
        self._asked: Asked | None = None
        # The first move after a look is a plain one.
        self._repeated = CapturedStep(self._move, start, warmup_calls=0)

    def select(self, bound: WindowSet, start: Tensor, keep: Tensor, margin: float) -> _Averaging:
        """The course of the images at ``keep`` (long), whose set is ``bound`` and which began at ``start``."""
        part = _Averaging(bound, start, self.lower[keep], self.upper[keep], margin)
        part.point, part.previous, part.momentum = self.point[keep], self.previous[keep], self.momentum[keep]
        return part

    def outside(self) -> Tensor:
        """Which images have a window that asks, (K,) bool."""
        self._asked = self._ask(self.point)
        excess, shift, _ = self._asked
        return (excess.flatten(1) + shift.flatten(1).abs() > 0).any(dim=1)

    def move(self) -> None:
        """One average, and the momentum after it."""
        if self._asked is not None:
            self._move()
        else:
            self._repeated()

    def _move(self) -> None:
        _, _, move = self._asked or self._ask(self.point)
        self._asked = None
        latest = (self.point - move()).clamp(self.lower, self.upper)
        turned = inner(self.point - latest, latest - self.previous) > 0
        momentum = torch.where(turned, 1.0, self.momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        self.point.copy_(latest + per_image((momentum - 1) / following) * (latest - self.previous))
        self.previous.copy_(latest)
        self.momentum.copy_(following)


def averaged(asked: Tensor, askers: Tensor) -> Tensor:
    """``asked/askers``, the average over those that ask; 0 for pixels under none."""
    return asked / torch.where(askers > 0, askers, 1.0)


def shrink_locally(bound: WindowSet, delta: Tensor, steps: int = SHRINKAGES) -> Tensor:
    """Scale each pixel by the smallest factor of the windows over it, at most ``steps`` times; once is exact for
    windows that don't overlap. Later steps overshoot, so that they end."""
    for step in range(steps):
        factor = bound.window_factor(delta)
        # Image by image: none goes on for its neighbours' sake.
        going = (factor < 1 - (NEAR if step else 0)).flatten(1).any(dim=1)
        if not bool(going.any()):
            break
        overshoot = 1.0 if step == 0 else 1 - 1e-4 if step < steps // 2 else 1 - 1e-2
        factor = torch.where((factor < 1) & per_image(going), factor * overshoot, 1.0)
        delta = delta * bound.operator.spread_min(factor).clamp_max(1)
    return delta
