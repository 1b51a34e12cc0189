"""What a splitting method needs of a set ``{d : A d in S}``: products with A, a proximal step on the dual, weights.

A *group* p has a weight sigma_p of its own. A group is a window; or the whole image, for a set of images; or all
features, for a feature ball. The step is

    y+ = prox_{sigma h}(y + sigma A v) = sigma (u - P_S(u)),    u = y/sigma + A v,

with h the support function of S and P_S the projection onto S (Moreau's identity). For windows and images the matrix
``A' Sigma A`` is diagonal: :meth:`Block.curvature` gives the diagonal. For features it gives a bound, by the largest
eigenvalue of ``J'J``.
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

# A weight starts at INITIAL_WEIGHT_FACTOR |A g'|/scale, with g' the gradient shared out among the windows over a pixel.
# GRADIENT_FLOOR times the mean of |A g'| is added to |A g'|. Both are measured on real gradients
# (docs/notes/overlapping-solvers.md).
INITIAL_WEIGHT_FACTOR, GRADIENT_FLOOR = 3.0, 0.1
# The power method for J'J: its steps, and the margin that makes the estimate an upper bound.
POWER_STEPS, EIGENVALUE_MARGIN = 20, 1.05


class Block(ABC):
    """One set's dual block for K images.

    Attributes:
        bound: the set, bound to the images.
    """

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
        """``weight``, one number per group, shaped to multiply the block's values."""

    @abstractmethod
    def curvature(self, weight: Tensor) -> Tensor:
        """The diagonal of ``A' Sigma A``, or a bound on it, broadcastable to (K, C, H, W)."""

    @abstractmethod
    def initial_weight(self, vector: Tensor) -> Tensor:
        """The first weights, for the gradient or the point to project, ``vector`` (K, C, H, W)."""

    def zeros(self) -> Tensor:
        """A block of zeros."""
        raise NotImplementedError

    def values_of(self, block: DualBlock) -> Tensor:
        """``block``, a dual block in any form that the set takes, as values."""
        raise NotImplementedError


class WindowBlock(Block):
    """The windows of a WindowSSIM: values (K, C, P_h, P_w, size^2), weights (K, C, P_h, P_w)."""

    def __init__(self, bound: BoundWindowSSIM) -> None:
        self.bound: BoundWindowSSIM = bound
        self.operator = bound.operator
        # Counted from a x, every ball has its centre at 0; the intervals are shifted.
        self.center = bound.ball_center * bound.reference
        shift = bound.ball_center * bound.reference_mean
        self.low, self.high = bound.mean_lower - shift, bound.mean_upper - shift

    def apply(self, image: Tensor) -> Tensor:
        return self.operator.vectors(image)

    def adjoint(self, values: Tensor) -> Tensor:
        return self.operator.fold(values)

    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        # Ball and interval constrain orthogonal parts of the window's vector, so each part is projected alone.
        roots = self.operator.root_weights
        shifted = self.operator.vectors(image - self.center).mul_(weight[..., None]).add_(values)
        mean = (shifted * roots).sum(dim=-1)
        # The part orthogonal to sqrt(w), less its projection onto the ball of radius sigma r.
        centred = shifted.addcmul_(mean[..., None], roots, value=-1)
        length = torch.linalg.vector_norm(centred, dim=-1)
        tiny = torch.finfo(centred.dtype).tiny
        centred.mul_((1 - weight * self.bound.radius / length.clamp_min(tiny)).clamp_min_(0)[..., None])
        # The part along sqrt(w), less its projection onto sigma times the interval.
        slope = mean - torch.minimum(torch.maximum(mean, weight * self.low), weight * self.high)
        return centred.addcmul_(slope[..., None], roots)

    def size(self, values: Tensor) -> Tensor:
        return torch.linalg.vector_norm(values, dim=-1)

    def spread(self, weight: Tensor) -> Tensor:
        return weight[..., None]

    def curvature(self, weight: Tensor) -> Tensor:
        return self.operator.adjoint(weight)

    def initial_weight(self, vector: Tensor) -> Tensor:
        op, bound = self.operator, self.bound
        # |A g'|: the gradient's root mean square in the window, with a floor.
        shared = torch.where(op.covered, vector / op.coverage.clamp_min(1e-30), 0.0)
        size = op.mean(shared.square()).clamp_min(0).sqrt()
        size = size + GRADIENT_FLOOR * _mean(size)
        # The scale: the smaller of the radius and three times the interval.
        interval = 3 * torch.maximum(bound.mean_upper, -bound.mean_lower)
        # Kept means have no width, and a window cut to one pixel may have no radius. Those do not count.
        radius = torch.where(bound.radius > 0, bound.radius, torch.inf)
        scale = torch.minimum(radius, torch.where(interval > 0, interval, torch.inf))
        scale = torch.where(scale.isinf(), 0.0, scale)
        typical = _mean(scale)
        scale = torch.where(scale > 0, scale, typical).clamp_min(1e-3 * typical)
        return INITIAL_WEIGHT_FACTOR * size / scale

    def zeros(self) -> Tensor:
        return self.bound.radius.new_zeros(self.bound.block_shapes()[0])

    def values_of(self, block: DualBlock) -> Tensor:
        return window_vectors(self.bound.operator, block)


class ImageBlock(Block):
    """A set of whole images with an exact projection (LpBall, GlobalSSIM): A = I, values (K, C, H, W), weights
    (K, 1, 1, 1)."""

    def __init__(self, bound: BoundConstraint, like: Tensor) -> None:
        self.bound = bound
        self.like = like

    def apply(self, image: Tensor) -> Tensor:
        return image

    def adjoint(self, values: Tensor) -> Tensor:
        return values

    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        shifted = values / weight + image
        nearest = self.bound.project(shifted)
        assert nearest is not None
        return weight * (shifted - nearest)

    def size(self, values: Tensor) -> Tensor:
        return per_image(norm(values))

    def spread(self, weight: Tensor) -> Tensor:
        return weight

    def curvature(self, weight: Tensor) -> Tensor:
        return weight

    def initial_weight(self, vector: Tensor) -> Tensor:
        # The scale: how far the set reaches along the vector.
        length = norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)
        reach = self.bound.support(vector / per_image(length))
        assert reach is not None
        return per_image(INITIAL_WEIGHT_FACTOR * length / reach)

    def zeros(self) -> Tensor:
        return torch.zeros_like(self.like)

    def values_of(self, block: DualBlock) -> Tensor:
        return torch.as_tensor(block).to(self.like)


class FeatureBlock(Block):
    """A ball in linear features: A = J, seen through products only; values (K, F), weights (K, 1).

    Attributes:
        jacobian: J.
        largest_eigenvalue: of ``J'J`` per image, (K,), a little from above.
    """

    def __init__(self, bound: BoundFeatureBall) -> None:
        self.bound: BoundFeatureBall = bound
        self.jacobian = bound.jacobian
        self.largest_eigenvalue = self._power_method()

    def apply(self, image: Tensor) -> Tensor:
        return self.jacobian.apply(image)

    def adjoint(self, values: Tensor) -> Tensor:
        return self.jacobian.apply_adjoint(values)

    def step(self, values: Tensor, weight: Tensor, image: Tensor) -> Tensor:
        shifted = values + weight * self.jacobian.apply(image)
        length = self.size(shifted).clamp_min(torch.finfo(shifted.dtype).tiny)
        return shifted * (1 - weight * self.bound.radius[:, None] / length).clamp_min(0)

    def size(self, values: Tensor) -> Tensor:
        return norm(values)[:, None]

    def spread(self, weight: Tensor) -> Tensor:
        return weight

    def curvature(self, weight: Tensor) -> Tensor:
        return per_image(weight[:, 0] * self.largest_eigenvalue)

    def initial_weight(self, vector: Tensor) -> Tensor:
        tiny = torch.finfo(vector.dtype).tiny
        scale = self.largest_eigenvalue.clamp_min(tiny).sqrt() * self.bound.radius
        return (INITIAL_WEIGHT_FACTOR * norm(vector) / scale)[:, None]

    def zeros(self) -> Tensor:
        return self.bound.radius.new_zeros(self.bound.block_shapes()[0])

    def values_of(self, block: DualBlock) -> Tensor:
        return torch.as_tensor(block).to(self.bound.radius)

    def _power_method(self) -> Tensor:
        """The largest eigenvalue of J'J per image, (K,), with a margin."""
        generator = torch.Generator().manual_seed(0)
        shape = self.bound.reference.shape[1:]
        image = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.bound.reference)
        image = image.expand_as(self.bound.reference)
        tiny = torch.finfo(image.dtype).tiny
        for _ in range(POWER_STEPS):
            image = image / per_image(norm(image).clamp_min(tiny))
            image = self.jacobian.apply_adjoint(self.jacobian.apply(image))
        return EIGENVALUE_MARGIN * norm(image)


def block_of(bound: BoundConstraint, like: Tensor) -> Block | None:
    """The block of a bound set, or ``None`` for an elementwise set; ``like`` is a batch of images (K, C, H, W)."""
    if bound.is_elementwise:
        return None
    if isinstance(bound, BoundWindowSSIM):
        return WindowBlock(bound)
    if isinstance(bound, BoundFeatureBall):
        return FeatureBlock(bound)
    return ImageBlock(bound, like)


def _mean(values: Tensor) -> Tensor:
    """The mean of ``values`` per image, shaped (K, 1, 1, 1)."""
    return per_image(values.flatten(1).mean(dim=1))
