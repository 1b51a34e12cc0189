"""Oracles of the sets for which an image is one vector: pixel bounds, lp balls, global SSIM, feature balls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers.conformance.oracles.base import Array, DualParts, box_support
from solvers.constraints import FeatureBall, GlobalSSIM


class BoxOracle:
    """Pixel bounds ``lower <= d <= upper``; a pixel whose bounds agree is fixed."""

    def __init__(self, lower: Array, upper: Array) -> None:
        self.lower, self.upper, self.unit = lower, upper, 1.0

    def excess(self, delta: Array) -> float:
        return float(max((self.lower - delta).max(), (delta - self.upper).max()))

    def equality_error(self, delta: Array) -> float:
        fixed = self.lower == self.upper
        return float(np.abs(delta - self.lower)[fixed].max(initial=0.0))

    def bounds(self) -> tuple[Array, Array]:
        return self.lower, self.upper

    def reach(self, direction: Array) -> float:
        return box_support(direction, self.lower, self.upper)

    def parts(self, delta: Array, block: Any) -> DualParts:
        raise TypeError("pixel bounds have no dual block; stationarity of d takes them into account")


class LpOracle:
    """``|d|_p <= radius``."""

    def __init__(self, p: float, radius: float, shape: tuple[int, ...]) -> None:
        self.p, self.radius, self.shape, self.unit = p, radius, shape, radius
        self.dual_order = {1: math.inf, 2: 2, math.inf: 1}[p]

    def excess(self, delta: Array) -> float:
        return float(np.linalg.norm(delta.ravel(), self.p)) - self.radius

    def equality_error(self, delta: Array) -> float:
        return 0.0

    def bounds(self) -> tuple[Array, Array] | None:
        if self.p != math.inf:
            return None
        return np.full(self.shape, -self.radius), np.full(self.shape, self.radius)

    def reach(self, direction: Array) -> float:
        return self.radius * float(np.linalg.norm(direction.ravel(), self.dual_order))

    def parts(self, delta: Array, block: Any) -> DualParts:
        y = np.asarray(block, dtype=np.float64).reshape(self.shape)
        size, distance = (
            np.linalg.norm(y.ravel(), self.dual_order),
            np.linalg.norm(delta.ravel(), self.p),
        )
        return DualParts(
            adjoint=y,
            support=float(self.radius * size),
            direction=float(size * distance - (y * delta).sum()),
            slackness=float(size * (self.radius - distance)),
        )


class GlobalOracle:
    """One window over the whole image: ``sqrt(1 - S2) <= e`` with the image's mean kept."""

    def __init__(self, constraint: GlobalSSIM, image: Array) -> None:
        self.distance, self.unit = constraint.distance, 1.0
        self.scale, self.constant = constraint.pixel_scale, constraint.constant
        self.image = image
        centred = image - image.mean()
        share = constraint.distance**2
        # The ball |d - a x~|^2 <= k^2, from (1 - S2)(|x~|^2 + |y~|^2 + c2) = |d|^2 for a d of mean 0.
        constant = constraint.constant / constraint.pixel_scale**2
        energy = float((centred**2).sum())
        self.center = share / (1 - share) * centred
        self.radius = math.sqrt((share * (2 * energy + constant)) / (1 - share) + (share / (1 - share)) ** 2 * energy)

    def excess(self, delta: Array) -> float:
        # By the paper's definition, in its pixel range.
        x, y = self.scale * self.image, self.scale * (self.image + delta)
        x, y = x - x.mean(), y - y.mean()
        similarity = (2 * (x * y).sum() + self.constant) / ((x * x).sum() + (y * y).sum() + self.constant)
        return max(math.sqrt(max(1 - similarity, 0.0)) - self.distance, self.equality_error(delta))

    def equality_error(self, delta: Array) -> float:
        return abs(float(delta.mean()))

    def bounds(self) -> None:
        return None

    def reach(self, direction: Array) -> float:
        centred = direction - direction.mean()
        return float((self.center * centred).sum() + self.radius * np.linalg.norm(centred))

    def parts(self, delta: Array, block: Any) -> DualParts:
        y = np.asarray(block, dtype=np.float64).reshape(self.image.shape)
        centred, offset = y - y.mean(), delta - delta.mean() - self.center
        size, distance = np.linalg.norm(centred), np.linalg.norm(offset)
        return DualParts(
            adjoint=y,
            support=self.reach(y),
            direction=float(size * distance - (centred * offset).sum()),
            slackness=float(size * (self.radius - distance)),
        )


class FeatureOracle:
    """``|J d| <= radius``. Of J only products are known, as the problem gives them."""

    def __init__(self, constraint: FeatureBall, radius: float, reference: Tensor, image: int) -> None:
        self.jacobian, self.radius, self.unit = constraint.jacobian, radius, radius
        self.reference, self.image = reference, image

    def _apply(self, delta: Array) -> Array:
        return self.jacobian.apply(self._whole_batch(delta))[self.image].cpu().numpy()

    def _whole_batch(self, values: Array) -> Tensor:
        # J multiplies whole batches only.
        batch = torch.zeros(len(self.reference), *values.shape, dtype=torch.float64, device=self.reference.device)
        batch[self.image] = torch.from_numpy(np.ascontiguousarray(values))
        return batch

    def excess(self, delta: Array) -> float:
        return float(np.linalg.norm(self._apply(delta))) - self.radius

    def equality_error(self, delta: Array) -> float:
        return 0.0

    def bounds(self) -> None:
        return None

    def reach(self, direction: Array) -> float:
        return math.inf if direction.any() else 0.0

    def parts(self, delta: Array, block: Any) -> DualParts:
        y = np.asarray(block, dtype=np.float64).ravel()
        features = self._apply(delta)
        size, distance = np.linalg.norm(y), np.linalg.norm(features)
        return DualParts(
            adjoint=self.jacobian.apply_adjoint(self._whole_batch(y))[self.image].cpu().numpy(),
            support=float(self.radius * size),
            direction=float(size * distance - features @ y),
            slackness=float(size * (self.radius - distance)),
        )
