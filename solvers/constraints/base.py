"""What every constraint set offers.

A :class:`Constraint` is a frozen description ("SSIM at least 0.95 in every 7x7 window"); it knows no image.
``constraint.bind(reference)`` gives a :class:`BoundConstraint`: the convex set of perturbations ``d`` for that batch
of images, with its data computed once. Sets contain ``d = 0`` whenever the reference lies in the box, so scaling a
perturbation towards zero keeps it inside every convex set; the certificate's lower bound rests on that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from solvers.errors import ProblemError

if TYPE_CHECKING:
    import cvxpy as cp

# The dual block of one constraint: an image- or feature-shaped tensor, or a set's own structured form.
DualBlock = Any


class Constraint(ABC):
    """A set of perturbations, described without an image; convex but where :attr:`is_convex` says otherwise."""

    @property
    def is_convex(self) -> bool:
        """Whether the set is convex. Where not, methods must name the set to take it."""
        return True

    @property
    def has_linear_blocks(self) -> bool:
        """Whether a dual block y acts by ``A'y`` and bounds by the support function ``h(y)``, as it does for convex
        sets and for others whose support function is known. Elsewhere it is a multiplier for
        :meth:`BoundConstraint.supremum` alone."""
        return self.is_convex

    @property
    def kind(self) -> str:
        """The set's name, as used in the capabilities of methods: the class's name."""
        return type(self).__name__

    def check(self, reference: Tensor) -> None:  # noqa: B027 (most sets fit any image)
        """Raise :class:`~solvers.errors.ProblemError` where the set can't be posed for ``reference`` (B, C, H, W)."""

    @abstractmethod
    def bind(self, reference: Tensor) -> BoundConstraint:
        """The set for these images, with data in the reference's dtype and on its device."""

    def select(self, index: Tensor, batch: int) -> Constraint:
        """The same set for the images at ``index`` (long, (K,)) of a batch of ``batch``."""
        return self

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Constraint:
        """The same set with its tensors, if any, in another dtype or on another device."""
        return self


@dataclass(frozen=True)
class ConicForm:
    """One image's set as CVXPY constraints, and the way back from their duals.

    Attributes:
        constraints: CVXPY constraints on the variable ``d`` (C*H*W,).
        dual: called after a solve, gives this set's dual block for one image, batch axis first with length 1;
            ``None`` where the set has no block (the box).
    """

    constraints: list[cp.Constraint]
    dual: Callable[[], Tensor] | None = None


class BoundConstraint(ABC):
    """A set of perturbations for a batch of images. Every method returns one value, or image, per image."""

    constraint: Constraint

    # -- membership ----------------------------------------------------------------------------------------

    @abstractmethod
    def excess(self, delta: Tensor) -> Tensor:
        """How far ``delta`` (B, C, H, W) lies outside, in the set's own unit: (B,), 0 or less inside."""

    @abstractmethod
    def scale_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` inside: (B,)."""

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Move ``delta`` towards the set, losing less than scaling the whole image would, and keep
        ``lower <= delta <= upper``. Need not reach the set; the scaling that follows does."""
        return delta

    @property
    def has_equality(self) -> bool:
        """Whether the set has no interior because it fixes means."""
        return False

    # -- elementwise part ----------------------------------------------------------------------------------

    @property
    def is_elementwise(self) -> bool:
        """Whether :meth:`bounds` is all that the set is."""
        return False

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Elementwise bounds on ``d`` that the set implies by itself, broadcastable to (B, C, H, W), or ``None``."""
        return None

    def implied_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Tighter elementwise bounds that every d of the set with ``lower <= d <= upper`` meets, (B, C, H, W) each.
        Unlike :meth:`bounds` they cost something, and only the certificate's bound needs them."""
        return lower, upper

    # -- duality -------------------------------------------------------------------------------------------

    def support(self, direction: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd`` over the set for z = ``direction`` (B, C, H, W): (B,), or ``None`` where
        the set is unbounded. Exact where the set has a closed form."""
        return None

    def supremum(self, direction: Tensor, block: DualBlock | None, lower: Tensor, upper: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd`` over the set with ``lower <= d <= upper``, (B,), or ``None`` where there is
        none. A set that is not convex may use its dual ``block`` here; for others this is :meth:`support`."""
        return self.support(direction)

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that a dual block in tensor form may have; none where the set has no block."""
        return ()

    def check_block(self, block: DualBlock) -> None:
        """Raise :class:`~solvers.errors.ProblemError` where ``block`` is not one of this set's."""
        shapes = self.block_shapes()
        if not shapes:
            raise ProblemError(f"{self.constraint.kind} has no dual block; give None in its place")
        if not isinstance(block, Tensor) or tuple(block.shape) not in shapes:
            got = tuple(block.shape) if isinstance(block, Tensor) else type(block).__name__
            raise ProblemError(f"dual block of {self.constraint.kind} must have shape {shapes[0]}, got {got}")

    def adjoint(self, block: DualBlock) -> Tensor:
        """``A'y``, the block's action on perturbations: (B, C, H, W)."""
        raise NotImplementedError(f"{self.constraint.kind} has no dual block")

    def dual_value(self, block: DualBlock) -> Tensor:
        """``h(y)``, the support function of the set's image under A at the block: (B,)."""
        raise NotImplementedError(f"{self.constraint.kind} has no dual block")

    # -- projection and conic form --------------------------------------------------------------------------

    def project(self, point: Tensor) -> Tensor | None:
        """The nearest member to ``point`` (B, C, H, W), or ``None`` where there is no exact projection."""
        return None

    @abstractmethod
    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        """The set of image number ``image`` in CVXPY, on the flattened variable ``delta`` (C*H*W,)."""

    def conic_size(self) -> int:
        """About how many non-zeros :meth:`conic_form` hands to a conic solver, for one image."""
        return 0
