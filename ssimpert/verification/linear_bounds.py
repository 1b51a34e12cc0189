"""Backward propagation of linear bounds (CROWN, Zhang et al., NeurIPS 2018).

Rows A on the output of a layer are pulled back through the network, layer by layer, to rows on the image. An affine
layer passes them on exactly. A nonlinear layer is replaced by its relaxation: by the line below where the coefficient
is positive, and by the line above where it is negative. What arrives is, for every perturbation d within the region in
which the relaxations are valid,

    row'output(x + d)  >=  A d + b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.verification.network import IMAGE, Network
from ssimpert.verification.rules.base import AffineRule, Interval, NonlinearRule, Relaxation, Shares

# A pass keeps about this many copies of the largest value for each row, and with gradients this many of all values.
COPIES, COPIES_WITH_GRADIENTS = 6, 4
BYTES = 8  # of a float64


@dataclass(frozen=True)
class LinearBound:
    """``row'output(x + d) >= A d + b`` for every row.

    Attributes:
        slope: A, (M, C, H, W).
        offset: b, (M,), the bound's value at d = 0.
        at_output: the rows on the outputs of the nonlinear layers, by position: what the bound makes of each of their
            numbers, (M, *shape).
    """

    slope: Tensor
    offset: Tensor
    at_output: Mapping[int, Tensor]


def relaxations_of(
    network: Network, bounds: Mapping[int, Interval], shares: Mapping[int, Shares] | None = None
) -> dict[int, Relaxation]:
    """The relaxations of the nonlinear layers with ``bounds`` on their inputs, by position.

    Args:
        network: the network.
        bounds: on the inputs, by the position of the layer; each (1 or M, *shape).
        shares: which slopes are taken; the usual ones where a layer has none.
    """
    relaxations = {}
    for position, interval in bounds.items():
        rule = network.layer(position).rule
        assert isinstance(rule, NonlinearRule)
        relaxations[position] = rule.relaxation(interval, None if shares is None else shares.get(position))
    return relaxations


def linear_bound(
    network: Network,
    image: Tensor,
    rows: Tensor,
    position: int,
    relaxations: Mapping[int, Relaxation],
    additions: Mapping[int, Tensor] | None = None,
) -> LinearBound:
    """A linear bound from below on rows on the value at ``position``.

    Args:
        network: the network.
        image: x, (1, C, H, W) float64.
        rows: (M, *shape) float64.
        position: of the value that the rows are on.
        relaxations: of the nonlinear layers before ``position``.
        additions: rows (M, *shape) that are added on the inputs of nonlinear layers, by the layer's position.
    """
    coefficients, constant = {position: rows}, rows.new_zeros(len(rows))
    at_output: dict[int, Tensor] = {}
    for current in range(position, IMAGE, -1):
        on_output = coefficients.pop(current, None)
        if on_output is None:
            continue
        layer = network.layer(current)
        if isinstance(layer.rule, AffineRule):
            pulled = layer.rule.backward(on_output)
        else:
            at_output[current] = on_output.detach()
            pulled = relaxations[current].backward(on_output)
        constant = constant + pulled.constant
        for source, part in zip(layer.inputs, pulled.rows, strict=True):
            if additions is not None and current in additions:
                part = part + additions[current]
            coefficients[source] = coefficients[source] + part if source in coefficients else part
    slope = coefficients.get(IMAGE)
    if slope is None:
        slope = rows.new_zeros(len(rows), *network.image_shape)
    return LinearBound(slope, constant + (slope * image).flatten(1).sum(dim=1), at_output)


def unit_rows(shape: tuple[int, ...], numbers: Tensor) -> Tensor:
    """One row for each of some numbers of a value, (M, *shape) float64.

    Args:
        shape: of the value.
        numbers: their positions in the flattened value, (M,) long.
    """
    rows = torch.zeros(len(numbers), math.prod(shape), dtype=torch.float64, device=numbers.device)
    rows[torch.arange(len(numbers), device=numbers.device), numbers] = 1
    return rows.view(-1, *shape)


def rows_at_once(network: Network, memory_limit: int, *, with_gradients: bool = False) -> int:
    """How many rows one pass may have.

    Args:
        network: the network.
        memory_limit: bytes.
        with_gradients: whether the pass keeps a graph.

    Raises:
        InputError: not even one row fits.
    """
    numbers = COPIES_WITH_GRADIENTS * network.all_values if with_gradients else COPIES * network.largest_value
    needed = BYTES * numbers
    if memory_limit < needed:
        raise InputError(f"memory_limit {memory_limit} is too small: one row of bounds needs {needed} bytes")
    return memory_limit // needed
