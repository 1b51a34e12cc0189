"""Which inputs of nonlinear layers matter most for a bound: those whose loose relaxation costs it most."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ssimpert.verification.network import Network
from ssimpert.verification.rules.base import Interval, NonlinearRule
from ssimpert.verification.rules.lines import ActivationRule


def important_numbers(
    network: Network, bounds: Mapping[int, Interval], at_output: Mapping[int, Tensor], count: int
) -> dict[int, Tensor]:
    """The ``count`` numbers of the largest cost, as masks (1, *shape) bool by the layer's position.

    Args:
        network: the network.
        bounds: on the inputs of the nonlinear layers, (1, *shape) each.
        at_output: the rows of a bound on the outputs of these layers, (M, *shape) each.
        count: how many numbers.
    """
    costs = {position: _cost(network, position, interval, at_output) for position, interval in bounds.items()}
    if not costs:
        return {}
    ordered = torch.cat([cost.flatten() for cost in costs.values()]).sort(descending=True).values
    least = ordered[min(count, len(ordered)) - 1]
    return {position: (cost > 0) & (cost >= least) for position, cost in costs.items()}


def loose_numbers(network: Network, bounds: Mapping[int, Interval]) -> int:
    """How many inputs of nonlinear layers have a loose relaxation."""
    total = 0
    for position, interval in bounds.items():
        rule = network.layer(position).rule
        assert isinstance(rule, NonlinearRule)
        total += int(rule.loose(interval).sum())
    return total


def _cost(network: Network, position: int, interval: Interval, at_output: Mapping[int, Tensor]) -> Tensor:
    """What the relaxation of each number may cost the rows together, (1, *shape).

    For an activation it is the gap between the lines, weighted by the coefficients. The gap is taken at the middle of
    the bounds. For max pooling, whose numbers are not those of the output, it is the width of the bounds.
    """
    rule = network.layer(position).rule
    assert isinstance(rule, NonlinearRule)
    loose = rule.loose(interval)
    if not isinstance(rule, ActivationRule):
        return torch.where(loose, interval.upper - interval.lower, 0.0)
    if position not in at_output:
        return torch.zeros_like(interval.lower)
    lines = rule.relaxation(interval)
    middle = (interval.lower + interval.upper) / 2
    slope, offset = lines.upper_slope - lines.lower_slope, lines.upper_offset - lines.lower_offset
    gap = (slope * middle + offset).clamp_min(0)
    weight = at_output[position].abs().sum(dim=0, keepdim=True)
    return torch.where(loose, gap * weight, 0.0)
