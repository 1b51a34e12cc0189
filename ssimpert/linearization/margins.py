"""What "changing the decision" means: margins on logits, positive once the decision has changed.

They compose: ``a & b`` asks for both, ``a | b`` for either, ``a.by(1.0)`` for a margin of one logit.
"""

from __future__ import annotations

import math
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


class Criterion:
    """A margin that composes with others."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """Margin per image, (B,), from logits (B, K) and labels (B,)."""
        raise NotImplementedError

    def check(self, classes: int) -> None:
        """Raise :class:`InputError` where the margin can't be posed for a classifier of ``classes`` classes."""
        raise NotImplementedError

    def labels(self, logits: Tensor) -> Tensor:
        """The classes, (B,) long, that the margin is measured against where the caller gives none, from the clean
        images' logits: the model's own labels."""
        return logits.argmax(dim=1)

    def __and__(self, other: Criterion) -> Both:
        return Both(self, _criterion(other))

    def __or__(self, other: Criterion) -> Either:
        return Either(self, _criterion(other))

    def by(self, least: float) -> AtLeast:
        """The same goal, reached only where this margin exceeds ``least`` logits."""
        return AtLeast(self, least)


@dataclass(frozen=True)
class Untargeted(Criterion):
    """``max_{j != y} f_j - f_y``: any other class. The runner-up is chosen anew at every evaluation."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return best_other(logits, label) - logits.gather(1, label[:, None])[:, 0]

    def check(self, classes: int) -> None:
        if classes < 2:
            raise InputError(f"an untargeted margin needs at least 2 classes, the model has {classes}")


@dataclass(frozen=True)
class Targeted(Criterion):
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
class AnyOf(Criterion):
    """``max_{t in T} f_t - max_{j not in T} f_j``: any class of a set.

    Attributes:
        targets: T, classes.
    """

    targets: tuple[int, ...]

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        index = torch.tensor(self.targets, device=logits.device)
        within = torch.zeros_like(logits[:1], dtype=torch.bool).index_fill_(1, index, True)
        return logits[:, index].amax(dim=1) - logits.masked_fill(within, -torch.inf).amax(dim=1)

    def check(self, classes: int) -> None:
        if not isinstance(self.targets, tuple) or not self.targets:
            raise InputError(f"targets must be a tuple of one class or more, got {self.targets!r}")
        for target in self.targets:
            Targeted(target).check(classes)
        if len(set(self.targets)) < len(self.targets):
            raise InputError(f"targets {self.targets} name a class twice")
        if len(self.targets) == classes:
            raise InputError(f"targets name all {classes} classes: no decision lies outside")


@dataclass(frozen=True)
class Membership(Criterion):
    """The decision crosses the border of a set T of classes: ``max_{j not in T} f_j - max_{t in T} f_t`` for an image
    whose own class is in T, and its negative for the others. For one class it is :class:`Targeted`, or
    :class:`Untargeted` where it is the image's own.

    Attributes:
        targets: T, classes.
    """

    targets: tuple[int, ...]

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        joining = AnyOf(self.targets)(logits, label)
        return torch.where(torch.isin(label, torch.tensor(self.targets, device=label.device)), -joining, joining)

    def check(self, classes: int) -> None:
        AnyOf(self.targets).check(classes)


@dataclass(frozen=True)
class LabelWins(Criterion):
    """``f_y - max_{j != y} f_j`` with y each image's label: a target of its own per image, given as ``label``."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return logits.gather(1, label[:, None])[:, 0] - best_other(logits, label)

    def check(self, classes: int) -> None:
        Untargeted().check(classes)


@dataclass(frozen=True)
class LeastLikely(LabelWins):
    """:class:`LabelWins` for the class of least logit at the clean image (Kurakin, Goodfellow, Bengio, ICLR 2017
    workshop), unless ``label`` says otherwise."""

    def labels(self, logits: Tensor) -> Tensor:
        return logits.argmin(dim=1)


@dataclass(frozen=True)
class AtLeast(Criterion):
    """``margin - least``.

    Attributes:
        margin: the goal.
        least: logits, finite.
    """

    margin: Criterion
    least: float

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.margin(logits, label) - self.least

    def check(self, classes: int) -> None:
        if isinstance(self.least, bool) or not isinstance(self.least, (int, float)) or not math.isfinite(self.least):
            raise InputError(f"the margin asked for must be a finite number of logits, got {self.least!r}")
        self.margin.check(classes)

    def labels(self, logits: Tensor) -> Tensor:
        return self.margin.labels(logits)


@dataclass(frozen=True)
class _Pair(Criterion):
    """Two goals that are measured against the same labels."""

    first: Criterion
    second: Criterion

    def check(self, classes: int) -> None:
        self.first.check(classes)
        self.second.check(classes)
        if _wants_label(self.first) != _wants_label(self.second):
            raise InputError(
                f"{self.first} and {self.second} don't compose: one takes the labels for targets, the other not; "
                "name the target with Targeted or AnyOf"
            )

    def labels(self, logits: Tensor) -> Tensor:
        return self.first.labels(logits)


@dataclass(frozen=True)
class Both(_Pair):
    """The smaller of two margins."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return torch.minimum(self.first(logits, label), self.second(logits, label))


@dataclass(frozen=True)
class Either(_Pair):
    """The larger of two margins."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return torch.maximum(self.first(logits, label), self.second(logits, label))


def _criterion(value: object) -> Criterion:
    if not isinstance(value, Criterion):
        raise InputError(f"a margin composes with margins such as ssimpert.Targeted(3), got {value!r}")
    return value


def _wants_label(margin: Criterion) -> type[Criterion] | None:
    """Which kind of margin reads the label as a target, if one does."""
    if isinstance(margin, AtLeast):
        return _wants_label(margin.margin)
    if isinstance(margin, _Pair):
        return _wants_label(margin.first)
    return type(margin) if isinstance(margin, LabelWins) else None


def best_other(logits: Tensor, label: Tensor) -> Tensor:
    """``max_{j != y} f_j``, (B,)."""
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label[:, None], True)
    return logits.masked_fill(own, -torch.inf).amax(dim=1)
