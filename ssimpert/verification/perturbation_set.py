"""The set of perturbations that is proved, around one image: its pixel bounds, and linear functions over it.

The least value of a linear bound ``A d + b`` over the set is a :class:`~solvers.LinearProblem` with the gradient -A.
Its certified ``bound`` is an upper bound on ``max -A d``. So ``b - bound`` is never above the least value, however far
the solver came.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from solvers.certificate import Certifier
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.verification.linear_bounds import BYTES, LinearBound

PIXEL_BOX = solvers.Box(0.0, 1.0)
# A perturbation in single precision may lie outside of its set by this much, in the set's own unit.
ROUNDING = 1e-6
# A solve keeps some tens of copies of its images.
COPIES = 60


@dataclass(frozen=True)
class Minimum:
    """The least values of linear functions over a set.

    Attributes:
        value: (M,), never above the least value.
        delta: (M, C, H, W), perturbations of the set with values as low as the solver found.
        result: of the solver, to start the next solve from; ``None`` where the pixel bounds alone were used.
    """

    value: Tensor
    delta: Tensor
    result: solvers.SolveResult | None


class PerturbationSet:
    """The perturbations d of one image that lie in every one of some sets, and keep the pixels in [0, 1].

    Args:
        image: x, (1, C, H, W) in [0, 1]; float64 within.
        constraint: the set of :mod:`solvers`.
        support: where pixels may change; ``None`` for everywhere.
        settings: of the solver.
        memory_limit: bytes for one solve.

    Attributes:
        image: x, float64.
        lower, upper: (1, C, H, W), bounds on d that the sets imply.
    """

    def __init__(
        self,
        image: Tensor,
        constraint: Constraint,
        support: solvers.Support | None,
        settings: solvers.Settings,
        memory_limit: int,
    ) -> None:
        self.image = image.to(torch.float64)
        self.constraints: list[Constraint] = [constraint, PIXEL_BOX]
        if support is not None:
            self.constraints.append(support)
        self.settings = settings
        self._rows_at_once = self.check_memory(self.image, memory_limit)
        certifier = Certifier(solvers.LinearProblem(torch.ones_like(self.image), self.image, self.constraints))
        # Some sets state no bound for each pixel, but one for all of them.
        largest = per_image(certifier.largest_pixel)
        self.lower = torch.maximum(certifier.implied_lower, -largest)
        self.upper = torch.minimum(certifier.implied_upper, largest)
        self._sets = certifier.sets

    @staticmethod
    def check_memory(image: Tensor, memory_limit: int) -> int:
        """How many linear functions one solve may have, for an image (1, C, H, W).

        Raises:
            InputError: not even one.
        """
        needed = BYTES * COPIES * image.numel()
        if memory_limit < needed:
            raise InputError(f"memory_limit {memory_limit} is too small: one solve over the set needs {needed} bytes")
        return memory_limit // needed

    def inside(self, delta: Tensor) -> Tensor:
        """Which of the perturbations (M, C, H, W) lie in every set, up to rounding, (M,) bool."""
        excess = [
            torch.cat([bound_set.excess(entry[None]) for entry in delta]) if len(delta) else delta.new_zeros(0)
            for bound_set in self._sets
        ]
        return torch.stack(excess).amax(dim=0) <= ROUNDING

    def least_in_box(self, bound: LinearBound) -> Tensor:
        """The least values of linear functions over the pixel bounds alone, (M,)."""
        positive, negative = bound.slope.clamp_min(0), bound.slope.clamp_max(0)
        return bound.offset + (positive * self.lower + negative * self.upper).flatten(1).sum(dim=1)

    def least(
        self,
        bound: LinearBound,
        *,
        warm_start: solvers.SolveResult | None = None,
        max_iter: int | None = None,
        until: float = float("inf"),
        deadline: float = float("inf"),
    ) -> Minimum:
        """The least values of linear functions over the set.

        Args:
            bound: the functions.
            warm_start: of an earlier call with as many functions.
            max_iter: most iterations of the solver; default by the settings.
            until: end once every value is above this.
            deadline: a time of ``time.perf_counter``. What is not solved then has its value by the pixel bounds.
        """
        slope, offset = bound.slope.detach(), bound.offset.detach()
        value = self.least_in_box(LinearBound(slope, offset, {}))
        delta = torch.where(slope > 0, self.lower, self.upper)
        parts: list[solvers.SolveResult] = []
        for rows in torch.arange(len(slope), device=slope.device).split(self._rows_at_once):
            remaining = deadline - time.perf_counter()
            if remaining <= 0:
                return Minimum(value, delta, None)
            iterations = min(max_iter or self.settings.max_iter, self.settings.max_iter)
            settings = replace(
                self.settings,
                max_iter=iterations,
                callback=_ends_above(until, offset[rows]),
                time_limit=min(self.settings.time_limit, max(remaining, 0.01)),
            )
            count = len(rows)
            problem = solvers.LinearProblem(
                -slope[rows],
                self.image.expand(count, -1, -1, -1).contiguous(),
                [_repeated(constraint, count) for constraint in self.constraints],
            )
            start = None if warm_start is None else warm_start.select(rows)
            result = solvers.solve(problem, "auto", settings, warm_start=start)
            least = offset[rows] - torch.as_tensor(result.bound)
            value[rows] = torch.maximum(value[rows], torch.where(least.isnan(), -torch.inf, least))
            delta[rows] = torch.as_tensor(result.delta)
            parts.append(result)
        return Minimum(value, delta, parts[0] if len(parts) == 1 else solvers.SolveResult.concatenate(parts))


def _ends_above(until: float, offset: Tensor) -> Callable[[solvers.Progress], bool]:
    """A callback that stops the solver once every value ``offset - bound`` is above ``until``."""
    return lambda progress: bool((offset - torch.as_tensor(progress.bound) > until).all())


def _repeated(constraint: Constraint, count: int) -> Constraint:
    """The set of one image for ``count`` copies of the image."""
    if isinstance(constraint, solvers.Intersection):
        return solvers.Intersection([_repeated(member, count) for member in constraint.sets])
    if isinstance(constraint, solvers.FeatureBall):
        # Its products are those of one image, and take one image at a time.
        one = constraint.jacobian
        several = solvers.LinearOperator(
            lambda images: torch.cat([one.forward(image[None]) for image in images]),
            lambda features: torch.cat([one.adjoint(entry[None]) for entry in features]),
            one.dtype,
        )
        radius = constraint.radius
        return solvers.FeatureBall(radius.expand(count) if isinstance(radius, Tensor) else radius, several)
    return constraint.select(torch.zeros(count, dtype=torch.long), 1)
