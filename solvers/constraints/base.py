"""What every constraint set offers.

A :class:`Constraint` is a frozen description ("SSIM at least 0.95 in every 7x7 window"). It knows no image.
``constraint.bind(reference)`` gives a :class:`BoundConstraint`: the set of perturbations ``d`` for this batch of
images, with its data computed once. Every set contains ``d = 0`` if the reference lies in the box. Therefore scaling a
member towards zero keeps it inside every convex set; the certificate's lower bound rests on this.
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

# The dual block of one constraint: a tensor shaped like an image or like features, or a structure such as WindowDual.
DualBlock = Any


class Constraint(ABC):
    """A set of perturbations, described without an image. It is convex unless :attr:`is_convex` says otherwise."""

    @property
    def is_convex(self) -> bool:
        """Whether the set is convex. A method takes a set that is not convex only if the method names it."""
        return True

    @property
    def has_linear_blocks(self) -> bool:
        """Whether a dual block y acts by ``A'y`` and bounds by the support function ``h(y)``.

        This holds for convex sets, and for other sets whose support function is known. For all others a dual block is a
        multiplier that only :meth:`BoundConstraint.supremum` uses.
        """
        return self.is_convex

    @property
    def kind(self) -> str:
        """The set's name in the capabilities of methods: the name of its class."""
        return type(self).__name__

    def check(self, reference: Tensor) -> None:  # noqa: B027 (most sets fit any image)
        """Raise :class:`~solvers.errors.ProblemError` if the set cannot be posed for ``reference`` (B, C, H, W)."""

    def check_pixels(self, reference: Tensor, sound: Tensor) -> None:  # noqa: B027 (most sets take any pixels)
        """Raise :class:`~solvers.errors.ProblemError` if the set's numbers can't be right for the images' pixels.

        Args:
            reference: the images, (B, C, H, W).
            sound: (B,) bool, which images have no defect; no other image counts.
        """

    @abstractmethod
    def bind(self, reference: Tensor) -> BoundConstraint:
        """The set for the images ``reference`` (B, C, H, W), with its data in their dtype and on their device."""

    def select(self, index: Tensor, batch: int) -> Constraint:
        """The same set for the images at ``index`` (long, (K,)) of a batch of ``batch``."""
        return self

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Constraint:
        """The same set with its tensors, if it has any, in another dtype and on another device."""
        return self


@dataclass(frozen=True)
class ConicForm:
    """One image's set as CVXPY constraints, and the way back from their duals.

    Attributes:
        constraints: CVXPY constraints on the variable ``d`` (C*H*W,).
        dual: a function that gives, after a solve, this set's dual block for the image, with a batch axis of length 1
            first. ``None`` for a set without a dual block, such as the box.
    """

    constraints: list[cp.Constraint]
    dual: Callable[[], Tensor] | None = None


class BoundConstraint(ABC):
    """A set of perturbations for a batch of images. Every method returns one value, or one image, for each image."""

    constraint: Constraint

    # -- membership ----------------------------------------------------------------------------------------

    @abstractmethod
    def excess(self, delta: Tensor) -> Tensor:
        """How far ``delta`` (B, C, H, W) lies outside, in the unit of the set: (B,), 0 or less inside."""

    def certain_excess(self, delta: Tensor) -> Tensor:
        """An upper bound, in float64, on the excess that ``delta`` has in exact arithmetic: (B,).

        Where it is at most 0, ``delta`` is certainly inside. The certificate returns no other points. A set whose
        excess may be rounded must override this.
        """
        return self.excess(delta)

    def certain_excess_but_for_means(self, delta: Tensor) -> Tensor:
        """:meth:`certain_excess` where means that the set keeps don't count: single precision can't keep them."""
        return self.certain_excess(delta)

    @abstractmethod
    def scale_factor(self, delta: Tensor) -> Tensor:
        """The largest t in [0, 1] with ``t * delta`` inside: (B,)."""

    def retract(self, delta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """``delta`` moved towards the set within ``lower <= delta <= upper``, (B, C, H, W) each.

        The move should lose less of an objective than scaling the whole image would. The result may still lie outside
        the set; the scaling that follows brings it inside.
        """
        return delta

    @property
    def has_equality(self) -> bool:
        """Whether the set fixes means and therefore has no interior."""
        return False

    # -- elementwise part ----------------------------------------------------------------------------------

    @property
    def is_elementwise(self) -> bool:
        """Whether the set is nothing but the elementwise bounds of :meth:`bounds`."""
        return False

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Elementwise bounds on ``d`` that the set implies, broadcastable to (B, C, H, W), or ``None``."""
        return None

    def implied_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Tighter elementwise bounds that every d of the set with ``lower <= d <= upper`` meets, (B, C, H, W) each.

        Unlike those of :meth:`bounds` they take time to compute, and only the certificate's bound needs them.
        """
        return lower, upper

    def largest_pixel(self) -> Tensor | None:
        """A bound on ``|d_i|`` over all pixels of all members, (B,), or ``None`` where the set states none.

        What the pixel bounds of :meth:`implied_bounds` say is not repeated here.
        """
        return None

    # -- duality -------------------------------------------------------------------------------------------

    def support(self, direction: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd`` over the set for z = ``direction`` (B, C, H, W): (B,), rounded up.

        ``None`` where the set is unbounded. The bound is exact, up to rounding, where the set has a closed form.
        """
        return None

    def supremum(self, direction: Tensor, block: DualBlock | None, lower: Tensor, upper: Tensor) -> Tensor | None:
        """An upper bound on ``max z'd`` over the set and ``lower <= d <= upper``, (B,), or ``None`` if there is none.

        A set that is not convex may use its dual ``block`` here. For all other sets this is :meth:`support`.

        Args:
            direction: z, (B, C, H, W).
            block: the set's dual block, or ``None``.
            lower: lower bounds on d, (B, C, H, W).
            upper: upper bounds on d, (B, C, H, W).
        """
        return self.support(direction)

    def gap_of_tolerance(self, direction: Tensor) -> Tensor:
        """How far the set's tolerance, if it has one, can lift a bound on ``z'd``, (B,): no smaller gap is a gap."""
        return torch.zeros_like(direction[:, 0, 0, 0])

    def block_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that a dual block in tensor form may have; empty for a set without a dual block."""
        return ()

    def check_block(self, block: DualBlock) -> None:
        """Raise :class:`~solvers.errors.ProblemError` if ``block`` cannot be a dual block of this set."""
        shapes = self.block_shapes()
        if not shapes:
            raise ProblemError(f"{self.constraint.kind} has no dual block; give None in its place")
        if not isinstance(block, Tensor) or tuple(block.shape) not in shapes:
            got = tuple(block.shape) if isinstance(block, Tensor) else type(block).__name__
            raise ProblemError(f"dual block of {self.constraint.kind} must have shape {shapes[0]}, got {got}")

    def adjoint(self, block: DualBlock) -> Tensor:
        """``A'y``, the image by which the block y acts on perturbations: (B, C, H, W)."""
        raise NotImplementedError(f"{self.constraint.kind} has no dual block")

    @property
    def product_rounding(self) -> float:
        """The share by which an objective may lie beyond its bound, because the set's products are not exact."""
        return 0.0

    def adjoint_error(self, block: DualBlock) -> Tensor:
        """A bound on the l1 norm of the rounding error of :meth:`adjoint`, (B,).

        A set whose adjoint is more than a copy of the block must override this.
        """
        adjoint = self.adjoint(block)
        return torch.zeros(len(adjoint), dtype=torch.float64, device=adjoint.device)

    def dual_value(self, block: DualBlock) -> Tensor:
        """``h(y)``, the support function of ``{A d : d in the set}`` at the block y, rounded up: (B,)."""
        raise NotImplementedError(f"{self.constraint.kind} has no dual block")

    # -- projection and conic form --------------------------------------------------------------------------

    def project(self, point: Tensor) -> Tensor | None:
        """The nearest member to ``point`` (B, C, H, W), or ``None`` where there is no exact projection."""
        return None

    @abstractmethod
    def conic_form(self, delta: cp.Variable, image: int) -> ConicForm:
        """The set of the image with the number ``image`` in CVXPY, on the flattened variable ``delta`` (C*H*W,)."""

    def conic_size(self) -> int:
        """About how many non-zeros :meth:`conic_form` gives to a conic solver, for one image."""
        return 0
