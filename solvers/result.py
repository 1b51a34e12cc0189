"""What a solve returns: the perturbations with their status and certificate, per image, and the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import map_dual_block
from solvers.constraints.ssim_windows.window_dual import WindowDual
from solvers.errors import ProblemError
from solvers.printing import Printed, Summary, cells, counted, image_numbers, image_shape


class Status(Enum):
    """How the solve of one image ended. Ask the predicates rather than comparing."""

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
        """A limit or the callback ended the solve: the point is feasible, and its certified gap larger than asked."""
        return self in (Status.MAX_ITER, Status.TIME_LIMIT, Status.STOPPED)

    @property
    def is_failure(self) -> bool:
        """The method failed. ``delta`` is feasible even so (0 where the method found nothing), but its gap is not what
        the method claimed."""
        return self in (Status.INFEASIBLE, Status.NUMERICAL_ERROR)

    @property
    def has_solution(self) -> bool:
        """The method did not fail: ``delta`` is feasible, and its gap is certified, however large it is."""
        return not self.is_failure


@dataclass(frozen=True)
class HistoryRow:
    """The certified state at one check.

    Attributes:
        iteration: iterations so far.
        time: seconds since ``solve`` was called, set-up included.
        objective, bound, rel_gap: the best certified values so far, one number per image.
    """

    iteration: int
    time: float
    objective: tuple[float, ...]
    bound: tuple[float, ...]
    rel_gap: tuple[float, ...]


class History(tuple[HistoryRow, ...]):
    """The checks of a solve, in order."""

    __slots__ = ()

    def table(self) -> list[dict[str, float]]:
        """One row per check and image, ready for a data frame, with the keys image, iteration, time (seconds),
        objective, bound and rel_gap."""
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
    """What a method returns. :func:`solvers.solve` certifies it and makes the :class:`SolveResult`.

    Attributes:
        delta: (B, C, H, W). It need not be exactly feasible: the certificate repairs it.
        dual: one block per constraint of the problem; ``None`` for a set without a block, or where none is known.
        status: how the method itself ended, per image. OPTIMAL stands only where the certificate agrees, and becomes
            NUMERICAL_ERROR where it does not.
        iterations: the number of iterations, per image.
        history: the certified checks, if the method made any.
        setup_time: seconds from the method's start to its first iteration.
        messages: the method's message per image, shown to the user; an empty string, or an empty tuple for all images,
            where there is nothing to say.
    """

    delta: Tensor
    dual: tuple[DualBlock | None, ...]
    status: tuple[Status, ...]
    iterations: tuple[int, ...]
    history: History = field(default_factory=History)
    setup_time: float = 0.0
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class SolveResult(Printed):
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
        setup_time, solve_time: seconds for the whole batch; together the time of the call, without printing. Set-up
            is what comes before the first iteration: compilation (at a method's first call in a process), and binding.
        history: the certified checks.
        dual: one block per constraint of the problem, to certify or to warm-start with; ``None`` where there is none.
        method: the name of the method that ran; for ``auto`` the name of the method that was chosen.
        messages: (B,) tuple: the method's message, or why an image failed; empty where there is nothing to say.
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

    def summary(self) -> Summary:
        """What the result prints: the status and the certificate of the first images."""
        images, optimal = len(self.status), sum(status is Status.OPTIMAL for status in self.status)
        ended = f"{optimal} of {counted(images)} optimal"
        seconds = f"set-up {self.setup_time:.3g} s, solve {self.solve_time:.3g} s"
        return Summary(
            f"SolveResult of {self.method}: {ended}, {image_shape(self.delta)}, {seconds}",
            {
                "image": image_numbers(images),
                "status": cells(tuple(status.value for status in self.status)),
                "objective": cells(self.objective, ".6g"),
                "bound": cells(self.bound, ".6g"),
                "rel_gap": cells(self.rel_gap, ".2e"),
                "max_violation": cells(self.max_violation, ".2e"),
                "iterations": cells(self.iterations),
                "message": cells(self.messages),
            },
            images,
        )

    def select(self, index: Tensor) -> SolveResult:
        """The results of some images, for instance to warm-start a problem of those images alone.

        Args:
            index: long (K,), the images' positions in the batch, on any device.

        Returns:
            The K images' results in the order of ``index``. The history is left out.
        """
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

    @classmethod
    def concatenate(cls, results: Sequence[SolveResult]) -> SolveResult:
        """The results of parts of a batch, one after another, as one result: what :meth:`select` takes apart.

        Args:
            results: at least one, all of problems with the same constraints and the same image size.

        Returns:
            The images of the first result, then those of the second, and so on. Numpy arrays where all results hold
            numpy arrays, and otherwise tensors on the first result's device. Times are the sums, the method is the
            first result's, and the history is left out. A dual block that some of the results lack is 0 for their
            images, which says as little as no block. Blocks that differ in form (a :class:`~solvers.WindowDual` and
            window vectors) can't be joined: the joined result has no block for that constraint.

        Raises:
            ProblemError: no results, or results with unlike numbers of constraints.
        """
        if not results:
            raise ProblemError("concatenate needs at least one result, got none")
        counts = sorted({len(result.dual) for result in results})
        if len(counts) > 1:
            raise ProblemError(f"results to concatenate must have the same constraints, got {counts} dual blocks")
        sizes = [len(result.status) for result in results]
        return replace(
            results[0],
            delta=_joined([result.delta for result in results]),
            status=tuple(chain.from_iterable(result.status for result in results)),
            objective=_joined([result.objective for result in results]),
            bound=_joined([result.bound for result in results]),
            rel_gap=_joined([result.rel_gap for result in results]),
            max_violation=_joined([result.max_violation for result in results]),
            iterations=tuple(chain.from_iterable(result.iterations for result in results)),
            messages=tuple(chain.from_iterable(result.messages for result in results)),
            setup_time=sum(result.setup_time for result in results),
            solve_time=sum(result.solve_time for result in results),
            dual=tuple(_joined_block(blocks, sizes) for blocks in zip(*(r.dual for r in results), strict=True)),
            history=History(),
        )

    @property
    def all_optimal(self) -> bool:
        """Whether every image is OPTIMAL."""
        return all(status.is_optimal for status in self.status)


def _joined(parts: Sequence[Any]) -> Any:
    """Tensors or numpy arrays along axis 0: an array where all are arrays, else a tensor on the first one's device."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    first = next(part for part in parts if isinstance(part, Tensor))
    return torch.cat([torch.as_tensor(part, device=first.device) for part in parts])


def _joined_block(blocks: Sequence[DualBlock | None], sizes: Sequence[int]) -> DualBlock | None:
    """One constraint's dual blocks, each of so many images, as one block; see :meth:`SolveResult.concatenate`."""
    example = next((block for block in blocks if block is not None), None)
    if example is None or len({_form(block) for block in blocks if block is not None}) > 1:
        return None

    def zeros(size: int) -> DualBlock:
        return map_dual_block(lambda part: torch.as_tensor(part).new_zeros(size, *part.shape[1:]), example)

    complete = [zeros(size) if block is None else block for block, size in zip(blocks, sizes, strict=True)]
    return map_dual_block(lambda *parts: _joined(parts), *complete)


def _form(block: DualBlock) -> tuple[bool, tuple[tuple[int, ...], ...]]:
    """Whether it is a WindowDual, and the shapes of one image's parts: what two blocks must share to be joined."""
    structured = isinstance(block, WindowDual)
    return structured, tuple(tuple(part.shape[1:]) for part in (block.parts() if structured else (block,)))
