"""A ball in the linearised deep features of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint, ConicForm, Constraint
from solvers.errors import ProblemError
from solvers.rounding import gamma, length, length_operations, rounded_up, total
from solvers.validation import check_batch, radii

if TYPE_CHECKING:
    import cvxpy as cp


# The share of its length by which a product with J counts as wrong: some hundred roundings of float64.
PRODUCT_ROUNDING = 2.0**-45


@dataclass(frozen=True, eq=False)
class LinearOperator:
    """A matrix known only through products.

    Attributes:
        forward: images (B, C, H, W) -> features (B, F), ``J v`` per image.
        adjoint: features (B, F) -> images (B, C, H, W), ``J' u`` per image.
        dtype: the precision in which the products are computed. Arguments are cast to it and results are cast back.
            ``None`` (default): the dtype of the argument. Certificates are only as exact as the products.
    """

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    dtype: torch.dtype | None = None

    def apply(self, image: Tensor) -> Tensor:
        """``J v`` in the dtype of v."""
        return self.forward(image.to(self.dtype or image.dtype)).to(image.dtype)

    def apply_adjoint(self, features: Tensor) -> Tensor:
        """``J' u`` in the dtype of u."""
        return self.adjoint(features.to(self.dtype or features.dtype)).to(features.dtype)

    def select(self, index: Tensor, batch: int) -> LinearOperator:
        """The operator for the images at ``index`` of a batch of ``batch``. It passes zeros for all other images."""

        def in_whole_batch(value: Tensor) -> Tensor:
            whole_batch = value.new_zeros(batch, *value.shape[1:])
            whole_batch[index] = value
            return whole_batch

        return LinearOperator(
            lambda image: self.forward(in_whole_batch(image))[index],
            lambda features: self.adjoint(in_whole_batch(features))[index],
            self.dtype,
        )


@dataclass(frozen=True, eq=False)
class FeatureBall(Constraint):
    """``|J d| <= radius`` for every image. The set uses J only through the products ``J v`` and ``J' u``.

    The set alone is unbounded along the null space of J, so a problem needs a box or an lp ball beside it.

    Attributes:
        radius: positive; one number, or one for each image: a tensor, array or list (B,).
        jacobian: the two products. They must be linear, and the adjoint must be exact.

    Raises:
        ProblemError: the radius is not positive, or ``jacobian`` is no LinearOperator.
    """

    radius: float | Tensor
    jacobian: LinearOperator

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", radii("FeatureBall radius", self.radius))
        if not isinstance(self.jacobian, LinearOperator):
            raise ProblemError(f"FeatureBall jacobian must be a solvers.LinearOperator, got {self.jacobian!r}")

    def check(self, reference: Tensor) -> None:
        check_batch("FeatureBall radius", self.radius, reference.shape[0])
        try:
            # Certificates are float64, whatever the problem is.
            features = self.jacobian.apply(torch.zeros_like(reference, dtype=torch.float64))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ProblemError(
                f"FeatureBall jacobian.forward fails on float64 images ({reason}); "
                "give LinearOperator(..., dtype=torch.float32) if the products are single precision"
            ) from error
        if features.ndim != 2 or features.shape[0] != reference.shape[0]:
            raise ProblemError(
                f"FeatureBall jacobian.forward must return (B, F) for images {tuple(reference.shape)}, "
                f"got {tuple(features.shape)}"
            )
        image = self.jacobian.apply_adjoint(torch.zeros_like(features))
        if image.shape != reference.shape:
            raise ProblemError(
                f"FeatureBall jacobian.adjoint must return images {tuple(reference.shape)}, got {tuple(image.shape)}"
            )

    def bind(self, reference: Tensor) -> BoundFeatureBall:
        radius = torch.as_tensor(self.radius, dtype=reference.dtype, device=reference.device)
        return BoundFeatureBall(self, radius.expand(reference.shape[0]), reference)

    def select(self, index: Tensor, batch: int) -> FeatureBall:
        radius = self.radius
        if isinstance(radius, Tensor):
            radius = radius[index.to(radius.device)]
        return FeatureBall(radius, self.jacobian.select(index, batch))


class BoundFeatureBall(BoundConstraint):
    """The ball; its dual block is a feature vector (B, F), ``A = J``, ``h(y) = radius |y|``."""

    constraint: FeatureBall

    def __init__(self, constraint: FeatureBall, radius: Tensor, reference: Tensor) -> None:
        self.constraint = constraint
        self.jacobian = constraint.jacobian
        self.radius = radius
        self.reference = reference

    def excess(self, delta: Tensor) -> Tensor:
        """The length of ``J d`` less the radius, (B,)."""
        return length(self.jacobian.apply(delta)) - self.radius

    def certain_excess(self, delta: Tensor) -> Tensor:
        """What is certain of the products as they are computed.

        The set knows J by its products alone. So the entries' magnitudes, which decide the products' rounding, are not
        known: a product counts as wrong by the share PRODUCT_ROUNDING of its length.
        """
        size = length(self.jacobian.apply(delta))
        return rounded_up(size, PRODUCT_ROUNDING * size) - self.radius

    def scale_factor(self, delta: Tensor) -> Tensor:
        size = length(self.jacobian.apply(delta))
        tiny = torch.finfo(size.dtype).tiny
        return torch.where(size > self.radius, self.radius / size.clamp_min(tiny), 1.0)

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self._block_shape,)

    @cached_property
    def _block_shape(self) -> tuple[int, ...]:
        # Only a product tells this shape, and every certificate needs it.
        return tuple(self.jacobian.apply(torch.zeros_like(self.reference)).shape)

    def adjoint(self, block: Tensor) -> Tensor:
        return self.jacobian.apply_adjoint(block)

    @property
    def product_rounding(self) -> float:
        """Some roundings of the precision in which products are made."""
        return 64 * torch.finfo(self.jacobian.dtype or torch.float64).eps

    def adjoint_error(self, block: Tensor) -> Tensor:
        return PRODUCT_ROUNDING * total(self.jacobian.apply_adjoint(block).abs())

    def dual_value(self, block: Tensor) -> Tensor:
        value = self.radius * length(block)
        return rounded_up(value, gamma(length_operations(block)) * value)

    def matrix(self, image: int) -> np.ndarray:
        """J of one image as a matrix, (F, C*H*W), float64. It takes one product a pixel: for small problems only."""
        pixels = self.reference[0].numel()
        columns = []
        for pixel in range(pixels):
            unit = torch.zeros_like(self.reference)
            unit[image].view(-1)[pixel] = 1
            columns.append(self.jacobian.apply(unit)[image].double().cpu().numpy())
        return np.stack(columns, axis=1)

    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        import cvxpy as cp

        cone = cp.SOC(cp.Constant(float(self.radius[image])), self.matrix(image) @ delta)
        return ConicForm([cone], lambda: -torch.as_tensor(cone.dual_value[1]).reshape(1, -1))

    def conic_size(self) -> int:
        return self._block_shape[1] * self.reference[0].numel()
