"""One iteration of ``dual``, as on its page of mathematics (docs/methods/dual.md).

Every constraint j (the ball of a window, the interval of a window, an l2 ball) has one multiplier ``lambda_j > 0``. The
unknowns are the logarithms ``y_j = log lambda_j``. From ``y`` and a point d, one iteration makes::

    d+     = argmax L(d, lambda) over the implied box       a few conjugate gradients from d, then clipped
    rho_j  = (what constraint j uses at d+) / (its radius)   1 where the constraint is active
    f_j    = log rho_j                                       0 at a fixed point, or y_j falls for ever
    s      = (1 - w) f + w anderson(y, f)                    w is 1, or 1/2 while the certified gap stalls
    y+     = y + s

A fixed point is optimal: an active constraint has ``rho_j = 1`` and keeps its multiplier, an inactive one has
``rho_j < 1`` and loses it, and d+ maximises the Lagrangian. The update does not depend on the scale of the gradient or
of the radii, which differ tenfold between flat and textured windows of a photo.

This file knows nothing of batches that shrink, of recorded graphs or of warm starts: see :mod:`.image_group` and
:mod:`.warm_start`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.methods.dual.anderson import AndersonAcceleration
from solvers.methods.dual.lagrangian import Lagrangian

ANDERSON_MEMORY = 5  # earlier iterates that are mixed
WARMUP_ITERATIONS = 10  # plain iterations before mixing begins
MAX_LOG_STEP = 1.5  # the largest change of a logarithm in one iteration
MIN_RATIO = 1e-3  # a ratio counts as this at least, and as its inverse at most
MAX_LOG_SPREAD = 20.0  # below the image's largest logarithm by more, a multiplier counts as zero


@dataclass(frozen=True, eq=False)
class DualIterate:
    """Where K images are.

    Attributes:
        log_multipliers: y, (K, n), in the order of :meth:`~.lagrangian.Multipliers.flat`.
        delta: d, (K, C, H, W), within the implied box.
        maximiser: d before it was clipped, (K, C, H, W). The dual bound takes this one: the Lagrangian's gradient
            vanishes there on the free pixels, and clipping would spoil that.
    """

    log_multipliers: Tensor
    delta: Tensor
    maximiser: Tensor


@dataclass(frozen=True, eq=False)
class Controls:
    """What is decided from outside, image by image (:mod:`.stall_schedule`).

    Attributes:
        cg_steps: (K,), long, conjugate gradients of each image in an iteration.
        max_cg_steps: the largest number that ``cg_steps`` ever holds.
        mixing: w, (K,), the share of the mixed step, in (0, 1].
    """

    cg_steps: Tensor
    max_cg_steps: int
    mixing: Tensor


class DualIteration:
    """The map from an iterate to the next.

    Args:
        lagrangian: L of the images; it holds the multipliers that were set last.
        acceleration: the memory of the mixing.
    """

    def __init__(self, lagrangian: Lagrangian, acceleration: AndersonAcceleration) -> None:
        self.lagrangian = lagrangian
        self.acceleration = acceleration

    def next(self, iterate: DualIterate, controls: Controls, count: int) -> DualIterate:
        """The iterate after ``iterate``, which ``count`` iterations have made."""
        lagrangian, logs = self.lagrangian, iterate.log_multipliers
        # Maximise the Lagrangian.
        lagrangian.set(logs.exp())
        maximiser = lagrangian.maximise(iterate.delta, controls.cg_steps, controls.max_cg_steps)
        delta = lagrangian.bounds.clamp(maximiser)
        # What every constraint uses of its radius.
        ratio, share = lagrangian.ratios(delta)
        residual = ratio.clamp(MIN_RATIO, 1 / MIN_RATIO).log_()
        # Mix with earlier iterates.
        step = residual
        if count >= WARMUP_ITERATIONS:
            mixed = self.acceleration.step(logs, residual, share)
            step = torch.lerp(residual, mixed, controls.mixing[:, None])
        # Update the multipliers.
        logs = logs + step.clamp(-MAX_LOG_STEP, MAX_LOG_STEP)
        logs = torch.maximum(logs, logs.amax(dim=1, keepdim=True) - MAX_LOG_SPREAD)
        return DualIterate(logs, delta, maximiser)
