"""A batch perturbed in parts that fit the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from solvers.validation import as_integer, shown
from ssimpert.errors import InputError
from ssimpert.models.forward_passes import by_halves
from ssimpert.perturbation.results import PerturbResult

BatchSize = int | Literal["auto"]


def check_batch_size(batch_size: BatchSize) -> BatchSize:
    """``batch_size``, ``"auto"`` or an int; :class:`InputError` unless it is ``"auto"`` or an integer of at least 1."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return "auto"
    number = as_integer(batch_size)
    if number is None or number < 1:
        raise InputError(f"batch_size must be 'auto' or an integer of at least 1, got {shown(batch_size)}")
    return number


def in_parts(run: Callable[[slice], PerturbResult], count: int, batch_size: BatchSize) -> PerturbResult:
    """Call ``run`` on slices of ``count`` images, and concatenate the results.

    A slice has at most ``batch_size`` images; with ``"auto"`` the first has all. Where memory runs out, the slice is
    halved, and the work goes on from there. Finished slices are kept.
    """
    results = by_halves(run, count, count if batch_size == "auto" else batch_size)
    return results[0] if len(results) == 1 else PerturbResult.concatenate(results)
