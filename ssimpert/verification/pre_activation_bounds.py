"""Bounds on the inputs of the nonlinear layers, from the first layer to the last.

Every layer's bounds come from three sources, each of which only tightens them:

1. interval arithmetic from the bounds of the layers before;
2. a backward pass of linear bounds, minimised over the pixel bounds of the set, for the numbers whose relaxation is
   loose;
3. for the numbers that are chosen, the same linear functions minimised over the set itself.

The bounds hold for every perturbation of the set, and so do the relaxations that rest on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssimpert.verification.linear_bounds import LinearBound, linear_bound, relaxations_of, rows_at_once, unit_rows
from ssimpert.verification.network import IMAGE, Network
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.rules.base import Interval, NonlinearRule, Relaxation

# Iterations of the solver for one number's bound: a loose dual is valid too, and thousands of numbers are waiting.
SOLVER_ITERATIONS = 25


@dataclass(frozen=True)
class Limits:
    """What the computation may take.

    Attributes:
        memory: bytes.
        deadline: a time of ``time.perf_counter``.
    """

    memory: int
    deadline: float = float("inf")

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self.deadline


def interval_bounds(network: Network, perturbations: PerturbationSet) -> dict[int, Interval]:
    """Bounds on the inputs of the nonlinear layers by interval arithmetic alone, by the layer's position."""
    return pre_activation_bounds(network, perturbations, Limits(memory=0), backward=False)


def pre_activation_bounds(
    network: Network,
    perturbations: PerturbationSet,
    limits: Limits,
    *,
    backward: bool = True,
    earlier: Mapping[int, Interval] | None = None,
    chosen: Mapping[int, Tensor] | None = None,
) -> dict[int, Interval]:
    """Bounds on the inputs of the nonlinear layers, by the layer's position, each (1, *shape).

    Args:
        network: the network.
        perturbations: the set.
        limits: memory and time. When the time is over, the layers that are left get interval arithmetic alone.
        backward: whether linear bounds are used beside interval arithmetic.
        earlier: bounds that are known to hold, to begin from.
        chosen: the numbers, (1, *shape) bool, that are minimised over the set itself.
    """
    image = perturbations.image
    values: dict[int, Interval] = {IMAGE: Interval(image + perturbations.lower, image + perturbations.upper)}
    bounds: dict[int, Interval] = {}
    relaxations: dict[int, Relaxation] = {}
    for position in range(1, network.logits + 1):
        layer = network.layer(position)
        if isinstance(layer.rule, NonlinearRule):
            source = layer.inputs[0]
            interval = values[source]
            if earlier is not None and position in earlier:
                interval = interval.intersected(earlier[position])
            if backward:
                least = perturbations.least_in_box
                loose = layer.rule.loose(interval)
                interval = _tightened(network, perturbations.image, source, interval, loose, relaxations, least, limits)
                if chosen is not None and position in chosen:
                    loose = layer.rule.loose(interval) & chosen[position]
                    least = partial(_least_over_set, perturbations, limits)
                    interval = _tightened(
                        network, perturbations.image, source, interval, loose, relaxations, least, limits
                    )
            bounds[position] = values[source] = interval
            relaxations |= relaxations_of(network, {position: interval})
        values[position] = layer.rule.interval(*(values[source] for source in layer.inputs))
    return bounds


def _least_over_set(perturbations: PerturbationSet, limits: Limits, bound: LinearBound) -> Tensor:
    """The least values of linear functions over the set itself, (M,)."""
    return perturbations.least(bound, max_iter=SOLVER_ITERATIONS, deadline=limits.deadline).value


def _tightened(
    network: Network,
    image: Tensor,
    position: int,
    interval: Interval,
    which: Tensor,
    relaxations: Mapping[int, Relaxation],
    least_of: Callable[[LinearBound], Tensor],
    limits: Limits,
) -> Interval:
    """The interval at ``position`` with tighter bounds on the numbers ``which``, (1, *shape) bool.

    ``least_of`` gives the least values (M,) of linear functions over what holds all perturbations.
    """
    chunk = rows_at_once(network, limits.memory)
    lower, upper = interval.lower.flatten().clone(), interval.upper.flatten().clone()
    shape = network.shape_of(position)
    for numbers in which.flatten().nonzero()[:, 0].split(max(chunk // 2, 1)):
        if limits.is_over or not len(numbers):
            break
        rows = unit_rows(shape, numbers)
        # From below, and the negative from below for the bound from above.
        least = least_of(linear_bound(network, image, torch.cat([rows, -rows]), position, relaxations))
        low, high = least[: len(numbers)], -least[len(numbers) :]
        lower[numbers] = torch.maximum(lower[numbers], low)
        upper[numbers] = torch.minimum(upper[numbers], high)
    shaped = Interval(lower.view_as(interval.lower), upper.view_as(interval.upper))
    return interval.intersected(shaped)
