"""A batch in parts that fit the memory, and the parts' results as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Literal

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import by_halves
from ssimpert.perturbation.results import PerturbResult

BatchSize = int | Literal["auto"]


def check_batch_size(batch_size: BatchSize) -> None:
    """Raise :class:`InputError` unless it is ``"auto"`` or an integer of at least 1."""
    sound = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size >= 1
    if batch_size != "auto" and not sound:
        raise InputError(f"batch_size must be 'auto' or an integer of at least 1, got {batch_size!r}")


def in_parts(run: Callable[[slice], PerturbResult], count: int, batch_size: BatchSize) -> PerturbResult:
    """``run`` on slices of ``count`` images, at most ``batch_size`` each (``"auto"``: all), halved where memory runs
    out; what is done stays done."""
    results = by_halves(run, count, count if batch_size == "auto" else batch_size)
    return results[0] if len(results) == 1 else joined(results)


def joined(results: list[PerturbResult]) -> PerturbResult:
    """The results of parts of a batch, in order, as one; the goal, constraint and settings are the first's."""
    first = results[0]
    columns = {
        entry.name: torch.cat([getattr(result, entry.name) for result in results])
        for entry in fields(first)
        if isinstance(getattr(first, entry.name), Tensor)
    }
    offset, history = 0, []
    for result in results:
        history += [{**row, "image": row["image"] + offset} for row in result.history]
        offset += len(result.success)
    return replace(
        first,
        **columns,  # type: ignore[arg-type]
        messages=tuple(message for result in results for message in result.messages),
        history=tuple(history),  # type: ignore[arg-type]
        seconds=sum(result.seconds for result in results),
    )


def reordered(result: PerturbResult, order: Tensor) -> PerturbResult:
    """The images ``order``, (B,) long, of a result: each of them once."""
    columns = {
        entry.name: getattr(result, entry.name)[order]
        for entry in fields(result)
        if isinstance(getattr(result, entry.name), Tensor)
    }
    moved_to = {old: new for new, old in enumerate(order.tolist())}
    history = [{**row, "image": moved_to[row["image"]]} for row in result.history]
    return replace(
        result,
        **columns,
        messages=tuple(result.messages[old] for old in moved_to),
        history=tuple(sorted(history, key=lambda row: (row["step"], row["image"]))),  # type: ignore[arg-type]
    )
