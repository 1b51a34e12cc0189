"""What "changing the decision" means: margins on logits, positive once the decision has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ssimpert.errors import InputError


class Margin(Protocol):
    """A differentiable score per image, positive exactly where the goal is reached."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """Margin per image, (B,), from logits (B, K) and the images' own labels (B,)."""
        ...

    def check(self, classes: int) -> None:
        """Raise :class:`InputError` where the margin can't be posed for a classifier of ``classes`` classes."""
        ...


@dataclass(frozen=True)
class Untargeted:
    """``max_{j != y} f_j - f_y``: any other class. The runner-up is chosen anew at every evaluation."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return best_other(logits, label) - logits.gather(1, label[:, None])[:, 0]

    def check(self, classes: int) -> None:
        if classes < 2:
            raise InputError(f"an untargeted margin needs at least 2 classes, the model has {classes}")


@dataclass(frozen=True)
class Targeted:
    """``f_t - max_{j != t} f_j``: this class and no other.

    Attributes:
        target: t, the class wanted.
    """

    target: int

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        wanted = torch.full_like(label, self.target)
        return logits[:, self.target] - best_other(logits, wanted)

    def check(self, classes: int) -> None:
        if not isinstance(self.target, int) or isinstance(self.target, bool):
            raise InputError(f"target class must be an integer, got {self.target!r}")
        if not 0 <= self.target < classes:
            raise InputError(f"target class {self.target} does not exist; the model's classes are 0 to {classes - 1}")


@dataclass(frozen=True)
class Membership:
    """The decision crosses the border of a set T of classes: ``max_{j not in T} f_j - max_{t in T} f_t`` for an image
    whose own class is in T, and its negative for the others. For one class it is :class:`Targeted`, or
    :class:`Untargeted` where it is the image's own.

    Attributes:
        targets: T, classes.
    """

    targets: tuple[int, ...]

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        index = torch.tensor(self.targets, device=logits.device)
        within = torch.zeros_like(logits[:1], dtype=torch.bool).index_fill_(1, index, True)
        outside = logits.masked_fill(within, -torch.inf).amax(dim=1)
        leaving = outside - logits[:, index].amax(dim=1)
        return torch.where(torch.isin(label, index), leaving, -leaving)

    def check(self, classes: int) -> None:
        if not isinstance(self.targets, tuple) or not self.targets:
            raise InputError(f"targets must be a tuple of one class or more, got {self.targets!r}")
        for target in self.targets:
            Targeted(target).check(classes)
        if len(set(self.targets)) < len(self.targets):
            raise InputError(f"targets {self.targets} name a class twice")
        if len(self.targets) == classes:
            raise InputError(f"targets name all {classes} classes: no decision lies outside")


def best_other(logits: Tensor, label: Tensor) -> Tensor:
    """``max_{j != y} f_j``, (B,)."""
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label[:, None], True)
    return logits.masked_fill(own, -torch.inf).amax(dim=1)
