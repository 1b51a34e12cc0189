"""Branch and bound over the signs of ReLU inputs.

A leaf is one row of logits together with the signs of some inputs of ReLU or LeakyReLU. There the activation is linear
on those numbers. The leaf with the least bound is split on the number whose relaxation costs its bound most; the two
leaves cover the leaf. A class's bound is the least of its leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.verification.network import Network
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.pre_activation_bounds import Limits
from ssimpert.verification.rules.base import Interval
from ssimpert.verification.rules.leaky_relu import LeakyReLURule
from ssimpert.verification.slopes import RowBounds, row_bounds

# Leaves that are split together, and gradient steps for each of them.
LEAVES_AT_ONCE, LEAF_ITERATIONS = 8, 20

Split = tuple[int, int, int]
"""The position of an activation, the number of its input, and the sign: 1 or -1."""


@dataclass(frozen=True)
class Leaf:
    """A part of the set.

    Attributes:
        row: the number of the row.
        splits: the signs that are known.
        value: the bound.
        next_split: the position and the number that would be split next; ``None`` where nothing is loose.
    """

    row: int
    splits: tuple[Split, ...]
    value: float
    next_split: tuple[int, int] | None


def branched_bounds(
    network: Network,
    perturbations: PerturbationSet,
    rows: Tensor,
    bounds: Mapping[int, Interval],
    first: RowBounds,
    limits: Limits,
    *,
    max_leaves: int,
    goals: Tensor,
) -> Tensor:
    """Bounds of rows on the logits from below, (M,), at least those of ``first``.

    Args:
        network: the network.
        perturbations: the set.
        rows: (M, K) float64.
        bounds: on the inputs of the nonlinear layers, (1, *shape) each.
        first: the bounds of the rows without splits.
        limits: memory and time.
        max_leaves: most leaves that are made.
        goals: (M,), a row whose bound exceeds its goal is done.
    """
    value = first.value.clone()
    leaves: list[Leaf] = []
    for row in range(len(rows)):
        at_output = {position: part[row : row + 1] for position, part in first.at_output.items()}
        leaves.append(Leaf(row, (), float(value[row]), _costliest(network, bounds, at_output, ())))
    made = 0
    while made < max_leaves and not limits.is_over:
        # Split the leaves with the least bounds.
        open_leaves = sorted(
            (leaf for leaf in leaves if leaf.next_split is not None and leaf.value <= float(goals[leaf.row])),
            key=lambda leaf: leaf.value,
        )[:LEAVES_AT_ONCE]
        if not open_leaves:
            break
        children = [
            (leaf, (*leaf.splits, (*leaf.next_split, sign)))
            for leaf in open_leaves
            if leaf.next_split is not None
            for sign in (1, -1)
        ]
        made += len(children)
        # Bound their halves.
        splits = [entry for _, entry in children]
        leaf_rows = rows[[leaf.row for leaf, _ in children]]
        part_bounds, signs = _with_splits(network, bounds, splits)
        part = row_bounds(
            network,
            perturbations,
            leaf_rows,
            part_bounds,
            limits,
            signs=signs,
            iterations=LEAF_ITERATIONS,
            until=float(goals.max()),
        )
        for number, (parent, splits_of_leaf) in enumerate(children):
            at_output = {position: entry[number : number + 1] for position, entry in part.at_output.items()}
            bounded = max(float(part.value[number]), parent.value)
            costliest = _costliest(network, _of_row(part_bounds, number), at_output, splits_of_leaf)
            leaves.append(Leaf(parent.row, splits_of_leaf, bounded, costliest))
        split_leaves = {id(leaf) for leaf in open_leaves}
        leaves = [leaf for leaf in leaves if id(leaf) not in split_leaves]
    for row in range(len(rows)):
        value[row] = max(float(value[row]), min(leaf.value for leaf in leaves if leaf.row == row))
    return value


def _with_splits(
    network: Network, bounds: Mapping[int, Interval], splits: list[tuple[Split, ...]]
) -> tuple[dict[int, Interval], dict[int, Tensor]]:
    """The bounds of each leaf, and its signs, (M, *shape) each."""
    part_bounds, signs = dict(bounds), {}
    for position in {position for leaf in splits for position, _, _ in leaf}:
        interval = bounds[position]
        shape = (len(splits), *interval.lower.shape[1:])
        sign = interval.lower.new_zeros(shape).flatten(1)
        for number, leaf in enumerate(splits):
            for split_position, entry, direction in leaf:
                if split_position == position:
                    sign[number, entry] = direction
        sign = sign.view(shape)
        lower = torch.where(sign > 0, interval.lower.clamp_min(0), interval.lower)
        upper = torch.where(sign < 0, interval.upper.clamp_max(0), interval.upper)
        part_bounds[position], signs[position] = Interval(lower, upper), sign
    return part_bounds, signs


def _of_row(bounds: Mapping[int, Interval], number: int) -> dict[int, Interval]:
    """The bounds of one row."""
    return {
        position: interval
        if len(interval.lower) == 1
        else Interval(interval.lower[number : number + 1], interval.upper[number : number + 1])
        for position, interval in bounds.items()
    }


def _costliest(
    network: Network, bounds: Mapping[int, Interval], at_output: Mapping[int, Tensor], splits: tuple[Split, ...]
) -> tuple[int, int] | None:
    """The number whose upper line lies highest above 0 at 0, weighted by its coefficient; ``None`` where none does."""
    best, choice = 0.0, None
    for position, on_output in at_output.items():
        rule = network.layer(position).rule
        if not isinstance(rule, LeakyReLURule):
            continue
        cost = relaxation_cost(rule, bounds[position], on_output).flatten()
        for split_position, number, _ in splits:
            if split_position == position:
                cost[number] = 0
        largest = cost.max()
        if float(largest) > best:
            best, choice = float(largest), (position, int(cost.argmax()))
    return choice


def relaxation_cost(rule: LeakyReLURule, interval: Interval, on_output: Tensor) -> Tensor:
    """How much the relaxation of every number may cost the rows, (M, *shape).

    At a kink the gap between the activation and its upper line is ``(1 - s) u (-l)/(u - l)``. Rows with a positive
    coefficient use a lower line, whose largest gap is of the same size for slopes between the two.
    """
    lower, upper = interval
    loose = rule.loose(interval)
    gap = (1 - rule.negative_slope) * upper * -lower / torch.where(loose, upper - lower, 1.0)
    return torch.where(loose, gap, 0.0) * on_output.abs()
