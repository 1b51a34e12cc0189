"""What a solve returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from torch import Tensor

from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import map_dual_block


class Status(Enum):
    """How the solve of one image ended. Use the predicates rather than comparing."""

    OPTIMAL = "optimal"
    MAX_ITER = "max_iter"
    TIME_LIMIT = "time_limit"
    INFEASIBLE = "infeasible"
    NUMERICAL_ERROR = "numerical_error"
    STOPPED = "stopped"

    @property
    def is_optimal(self) -> bool:
        """The certified gap is within tolerance."""
        return self is Status.OPTIMAL

    @property
    def is_limit(self) -> bool:
        """A limit or the callback ended it: the point is feasible and its gap certified, but larger than asked."""
        return self in (Status.MAX_ITER, Status.TIME_LIMIT, Status.STOPPED)

    @property
    def is_failure(self) -> bool:
        """No trust in the solution: ``delta`` is feasible still (0 where the method found nothing), its gap is not
        what the method claimed."""
        return self in (Status.INFEASIBLE, Status.NUMERICAL_ERROR)

    @property
    def has_solution(self) -> bool:
        """The method ended as it should: ``delta`` is feasible and its gap certified, however large."""
        return not self.is_failure


@dataclass(frozen=True)
class HistoryRow:
    """Certified state at one check. ``objective``, ``bound``, ``rel_gap``: one number per image."""

    iteration: int
    time: float
    objective: tuple[float, ...]
    bound: tuple[float, ...]
    rel_gap: tuple[float, ...]


class History(tuple[HistoryRow, ...]):
    """The rows of a solve, in order; :meth:`table` gives them long, one row per check and image."""

    __slots__ = ()

    def table(self) -> list[dict[str, float]]:
        """Rows with keys image, iteration, time (seconds), objective, bound, rel_gap; ready for a data frame."""
        return [
            {
                "image": image,
                "iteration": row.iteration,
                "time": row.time,
                "objective": row.objective[image],
                "bound": row.bound[image],
                "rel_gap": row.rel_gap[image],
            }
            for row in self
            for image in range(len(row.objective))
        ]


@dataclass(frozen=True)
class MethodOutput:
    """What a method hands back; :func:`solvers.solve` certifies it and makes the result.

    Attributes:
        delta: (B, C, H, W); need not be exactly feasible, the certificate repairs it.
        dual: one block per constraint of the problem, ``None`` where the set has no block or none is known.
        status: how the method itself ended, per image; it becomes OPTIMAL only where the certificate agrees, and
            NUMERICAL_ERROR where the method claims OPTIMAL and the certificate does not.
        iterations: per image.
        history: certified checks on the way, if any.
        setup_time: seconds before the first iteration.
        messages: the method's own word per image, shown to the user; empty for nothing to say.
    """

    delta: Tensor
    dual: tuple[DualBlock | None, ...]
    status: tuple[Status, ...]
    iterations: tuple[int, ...]
    history: History = field(default_factory=History)
    setup_time: float = 0.0
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class SolveResult:
    """The solution of a batch, one entry per image. Tensors, or numpy arrays where the problem came in numpy.

    Attributes:
        delta: (B, C, H, W), feasible to ``max_violation``, in the problem's dtype; 0 where the method found nothing.
        status: (B,) tuple of :class:`Status`.
        objective: (B,) float64, the problem's objective at ``delta``.
        bound: (B,) float64, a rigorous bound on the optimum: upper for a LinearProblem, lower for a
            ProjectionProblem.
        rel_gap: (B,) float64, as in :class:`~solvers.certificate.Certificate`.
        max_violation: (B,) float64, the largest excess of ``delta`` over the sets, each in its own unit, never
            below 0; NaN for an image with a defect.
        iterations: (B,) tuple of int.
        setup_time, solve_time: seconds for the whole batch; together the time of the call, without printing.
        history: certified checks on the way.
        dual: one block per constraint of the problem, to certify or to warm-start with.
        method: the method that ran (``auto`` says here what it chose).
        messages: (B,) the solver's own word, or why an image failed.
    """

    delta: Tensor | np.ndarray[Any, Any]
    status: tuple[Status, ...]
    objective: Tensor | np.ndarray[Any, Any]
    bound: Tensor | np.ndarray[Any, Any]
    rel_gap: Tensor | np.ndarray[Any, Any]
    max_violation: Tensor | np.ndarray[Any, Any]
    iterations: tuple[int, ...]
    setup_time: float
    solve_time: float
    history: History
    dual: tuple[DualBlock | None, ...]
    method: str
    messages: tuple[str, ...]

    def select(self, index: Tensor) -> SolveResult:
        """The results of the images at ``index`` (long, (K,)), to warm-start a problem of those alone; the history is
        left out."""
        position = index.tolist()

        def pick(values: Any) -> Any:
            return values[position] if isinstance(values, np.ndarray) else values[index.to(values.device)]

        return replace(
            self,
            delta=pick(self.delta),
            status=tuple(self.status[k] for k in position),
            objective=pick(self.objective),
            bound=pick(self.bound),
            rel_gap=pick(self.rel_gap),
            max_violation=pick(self.max_violation),
            iterations=tuple(self.iterations[k] for k in position),
            messages=tuple(self.messages[k] for k in position),
            dual=tuple(block if block is None else map_dual_block(pick, block) for block in self.dual),
            history=History(),
        )

    @property
    def all_optimal(self) -> bool:
        """Whether every image is OPTIMAL."""
        return all(status.is_optimal for status in self.status)
