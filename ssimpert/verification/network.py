"""A network as verification sees it: layers in order of execution, each with its propagation rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ssimpert.verification.rules.base import NonlinearRule, Rule

IMAGE = 0
"""The position of the image among the values of a network."""


@dataclass(frozen=True)
class Layer:
    """One step of a network.

    Attributes:
        name: what errors call the layer.
        rule: how it propagates bounds.
        inputs: the positions of its inputs: 0 for the image, k for the k-th layer.
        shape: of its output, without the batch.
    """

    name: str
    rule: Rule
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """A network from an image (1, C, H, W) to logits (1, K), in float64.

    Position 0 is the image, and position k the output of ``layers[k - 1]``. The last layer gives the logits.

    Attributes:
        image_shape: (C, H, W).
        layers: in order of execution.
    """

    image_shape: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def logits(self) -> int:
        """The position of the logits."""
        return len(self.layers)

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return self.shape_of(self.logits)[0]

    def layer(self, position: int) -> Layer:
        """The layer whose output has this position, 1 or more."""
        return self.layers[position - 1]

    def shape_of(self, position: int) -> tuple[int, ...]:
        """The shape of the value at a position, without the batch."""
        return self.image_shape if position == IMAGE else self.layer(position).shape

    def nonlinear(self) -> list[int]:
        """The positions of the layers that need bounds on their input, in order of execution."""
        return [k + 1 for k, layer in enumerate(self.layers) if isinstance(layer.rule, NonlinearRule)]

    def values(self, images: Tensor) -> list[Tensor]:
        """All values for ``images`` (B, C, H, W) float64, by position."""
        values = [images]
        for layer in self.layers:
            values.append(layer.rule.value(*(values[position] for position in layer.inputs)))
        return values

    def logits_of(self, images: Tensor) -> Tensor:
        """The logits (B, K) of ``images`` (B, C, H, W) float64."""
        return self.values(images)[self.logits]

    @property
    def largest_value(self) -> int:
        """How many numbers the largest value has."""
        return max(math.prod(self.shape_of(position)) for position in range(len(self.layers) + 1))

    @property
    def all_values(self) -> int:
        """How many numbers all values have together."""
        return sum(math.prod(self.shape_of(position)) for position in range(len(self.layers) + 1))
