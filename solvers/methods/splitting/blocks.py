"""What a splitting method needs of a set ``{d : A d in S}``: products, a proximal step on its dual block, weights.

With a weight ``sigma`` per *group* (a window; the whole image for sets of images; the features for a feature ball)
the step is

    y+ = prox_{sigma h}(y + sigma A v) = sigma (u - P_S(u)),    u = y/sigma + A v,

with h the support function of S (Moreau). For windows and images ``A'SA`` is diagonal, :meth:`Block.curvature`; for
features it is bounded by its largest eigenvalue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import BoundConstraint, DualBlock
from solvers.constraints.feature_ball import BoundFeatureBall
from solvers.constraints.ssim_windows.window_dual import window_vectors
from solvers.constraints.window_ssim import BoundWindowSSIM

# Weights start at FACTOR |A g'|/scale with g' the gradient shared out among the windows over a pixel, and |A g'| not
# under FLOOR of its mean. Measured on real gradients, docs/notes/overlapping-solvers.md.
FACTOR, FLOOR = 3.0, 0.1


class Block(ABC):
    """One set's dual block for K images."""

    bound: BoundConstraint

    @abstractmethod
    def apply(self, image: Tensor) -> Tensor:
        """``A v``: (K, C, H, W) to the block's shape."""

    @abstractmethod
    def adjoint(self, values: Tensor) -> Tensor:
        """``A'y``: back to (K, C, H, W)."""

    @abstractmethod
    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        """``prox_{sigma h}(y + sigma A v)`` for y = ``values``, sigma = ``weight``, v = ``image``."""

    @abstractmethod
    def size(self, values: Tensor) -> Tensor:
        """Euclidean norm group by group, in the shape of the weights."""

    @abstractmethod
    def spread(self, weight: Tensor) -> Tensor:
        """A number per group, shaped to multiply the block's values."""

    @abstractmethod
    def curvature(self, weight: Tensor) -> Tensor:
        """The diagonal of ``A'SA``, or a bound on it, broadcastable to (K, C, H, W)."""

    @abstractmethod
    def first_weight(self, vector: Tensor) -> Tensor:
        """A first weight for the gradient, or the point to project, ``vector`` (K, C, H, W)."""

    def zeros(self) -> Tensor:
        """A block of zeros."""
        raise NotImplementedError

    def values_of(self, block: DualBlock) -> Tensor:
        """A dual block of any form as values."""
        raise NotImplementedError


class WindowBlock(Block):
    """Windows: values (K, C, P_h, P_w, size^2), weights (K, C, P_h, P_w)."""

    def __init__(self, bound: BoundWindowSSIM) -> None:
        self.bound: BoundWindowSSIM = bound
        self.operator = bound.operator
        # Counted from a x, the ball's centre is the origin and only the interval moves.
        self.center = bound.ball_center * bound.reference
        shift = bound.ball_center * bound.reference_mean
        self.low, self.high = bound.mean_lower - shift, bound.mean_upper - shift

    def apply(self, image: Tensor) -> Tensor:
        return self.operator.vectors(image)

    def adjoint(self, values: Tensor) -> Tensor:
        return self.operator.fold(values)

    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        # Ball and interval lie on orthogonal parts of the window: each is projected on by itself.
        roots = self.operator.root_weights
        moved = self.operator.vectors(image - self.center).mul_(weight[..., None]).add_(values)
        mean = (moved * roots).sum(dim=-1)
        moved.addcmul_(mean[..., None], roots, value=-1)
        length = torch.linalg.vector_norm(moved, dim=-1)
        tiny = torch.finfo(moved.dtype).tiny
        moved.mul_((1 - weight * self.bound.radius / length.clamp_min(tiny)).clamp_min_(0)[..., None])
        slope = mean - torch.minimum(torch.maximum(mean, weight * self.low), weight * self.high)
        return moved.addcmul_(slope[..., None], roots)

    def size(self, values: Tensor) -> Tensor:
        return torch.linalg.vector_norm(values, dim=-1)

    def spread(self, weight: Tensor) -> Tensor:
        return weight[..., None]

    def curvature(self, weight: Tensor) -> Tensor:
        return self.operator.adjoint(weight)

    def first_weight(self, vector: Tensor) -> Tensor:
        op, bound = self.operator, self.bound
        share = torch.where(op.covered, vector / op.coverage.clamp_min(1e-30), 0.0)
        pull = op.mean(share.square()).clamp_min(0).sqrt()
        pull = pull + FLOOR * _mean(pull)
        interval = 3 * torch.maximum(bound.mean_upper, -bound.mean_lower)
        # Kept means have no width, and a window cut to one pixel may have no radius.
        radius = torch.where(bound.radius > 0, bound.radius, torch.inf)
        scale = torch.minimum(radius, torch.where(interval > 0, interval, torch.inf))
        scale = torch.where(scale.isinf(), 0.0, scale)
        typical = _mean(scale)
        scale = torch.where(scale > 0, scale, typical).clamp_min(1e-3 * typical)
        return FACTOR * pull / scale

    def zeros(self) -> Tensor:
        return self.bound.radius.new_zeros(self.bound.block_shapes()[0])

    def values_of(self, block: DualBlock) -> Tensor:
        return window_vectors(self.bound.operator, block)


class ImageBlock(Block):
    """Sets of whole images with an exact projection (LpBall, GlobalSSIM), A = I: weights (K, 1, 1, 1)."""

    def __init__(self, bound: BoundConstraint, like: Tensor) -> None:
        self.bound = bound
        self.like = like

    def apply(self, image: Tensor) -> Tensor:
        return image

    def adjoint(self, values: Tensor) -> Tensor:
        return values

    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        moved = values / weight + image
        nearest = self.bound.project(moved)
        assert nearest is not None
        return weight * (moved - nearest)

    def size(self, values: Tensor) -> Tensor:
        return per_image(norm(values))

    def spread(self, weight: Tensor) -> Tensor:
        return weight

    def curvature(self, weight: Tensor) -> Tensor:
        return weight

    def first_weight(self, vector: Tensor) -> Tensor:
        # The radius in l2: how far the set reaches along the vector.
        length = norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)
        reach = self.bound.support(vector / per_image(length))
        assert reach is not None
        return per_image(FACTOR * length / reach)

    def zeros(self) -> Tensor:
        return torch.zeros_like(self.like)

    def values_of(self, block: DualBlock) -> Tensor:
        return torch.as_tensor(block).to(self.like)


class FeatureBlock(Block):
    """A ball in linear features: values (K, F), weights (K, 1); J through products only."""

    def __init__(self, bound: BoundFeatureBall) -> None:
        self.bound: BoundFeatureBall = bound
        self.jacobian = bound.jacobian
        self.largest = self._largest_eigenvalue()

    def apply(self, image: Tensor) -> Tensor:
        return self.jacobian.apply(image)

    def adjoint(self, values: Tensor) -> Tensor:
        return self.jacobian.apply_adjoint(values)

    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        moved = values + weight * self.jacobian.apply(image)
        length = self.size(moved).clamp_min(torch.finfo(moved.dtype).tiny)
        return moved * (1 - weight * self.bound.radius[:, None] / length).clamp_min(0)

    def size(self, values: Tensor) -> Tensor:
        return norm(values)[:, None]

    def spread(self, weight: Tensor) -> Tensor:
        return weight

    def curvature(self, weight: Tensor) -> Tensor:
        return per_image(weight[:, 0] * self.largest)

    def first_weight(self, vector: Tensor) -> Tensor:
        tiny = torch.finfo(vector.dtype).tiny
        return (FACTOR * norm(vector) / (self.largest.clamp_min(tiny).sqrt() * self.bound.radius))[:, None]

    def zeros(self) -> Tensor:
        return self.bound.radius.new_zeros(self.bound.block_shapes()[0])

    def values_of(self, block: DualBlock) -> Tensor:
        return torch.as_tensor(block).to(self.bound.radius)

    def _largest_eigenvalue(self, steps: int = 20) -> Tensor:
        """Of J'J per image, (K,), by the power method, with a margin of 5%."""
        generator = torch.Generator().manual_seed(0)
        shape = self.bound.reference.shape[1:]
        image = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.bound.reference)
        image = image.expand_as(self.bound.reference)
        tiny = torch.finfo(image.dtype).tiny
        for _ in range(steps):
            image = image / per_image(norm(image).clamp_min(tiny))
            image = self.jacobian.apply_adjoint(self.jacobian.apply(image))
        return 1.05 * norm(image)


def block_of(bound: BoundConstraint, like: Tensor) -> Block | None:
    """The block of a bound set, None for elementwise ones; ``like`` is an image batch."""
    if bound.is_elementwise:
        return None
    if isinstance(bound, BoundWindowSSIM):
        return WindowBlock(bound)
    if isinstance(bound, BoundFeatureBall):
        return FeatureBlock(bound)
    return ImageBlock(bound, like)


def _mean(values: Tensor) -> Tensor:
    """Mean per image, shaped (K, 1, 1, 1)."""
    return per_image(values.flatten(1).mean(dim=1))
