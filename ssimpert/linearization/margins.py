"""What "changing the decision" means: margins on logits, positive once the decision has changed.

Margins compose: ``a & b`` asks for both goals, ``a | b`` for either, and ``a.by(1.0)`` for a margin of one logit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from solvers.validation import as_integer, as_list, as_real, plain, shown
from ssimpert.errors import InputError
from ssimpert.models.labels import class_number
from ssimpert.validation import Integers, Names

# The number of the class of a name.
ClassNumber = Callable[[str], int]


class Margin(Protocol):
    """A differentiable score for each image, positive exactly where the goal is reached."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """The margin of each image, (B,), from logits (B, K) and the images' own labels (B,)."""
        ...

    def check(self, classes: int) -> None:
        """Raise :class:`InputError` where the margin can't be posed for a classifier of ``classes`` classes."""
        ...


class Criterion:
    """A margin that composes with others."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """The margin of each image, (B,), from logits (B, K) and labels (B,)."""
        raise NotImplementedError

    def check(self, classes: int) -> None:
        """Raise :class:`InputError` where the margin can't be posed for a classifier of ``classes`` classes."""
        raise NotImplementedError

    def labels(self, logits: Tensor) -> Tensor:
        """The classes, (B,) long, that the margin is measured against where the caller gives none.

        These are the model's own labels, from the logits (B, K) of the clean images.
        """
        return logits.argmax(dim=1)

    def with_numbers(self, number_of: ClassNumber) -> Criterion:
        """This margin with the numbers of the classes that it names; itself where it names none."""
        return self

    def __and__(self, other: Criterion) -> Both:
        return Both(self, _criterion(other))

    def __or__(self, other: Criterion) -> Either:
        return Either(self, _criterion(other))

    def by(self, least: float) -> AtLeast:
        """The same goal, but reached only where this margin exceeds ``least`` logits."""
        return AtLeast(self, least)


@dataclass(frozen=True)
class Untargeted(Criterion):
    """``max_{j != y} f_j - f_y``: any other class. Every evaluation chooses the runner-up again."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return best_other(logits, label) - logits.gather(1, label[:, None])[:, 0]

    def check(self, classes: int) -> None:
        _check_class_count(classes)


@dataclass(frozen=True)
class Targeted(Criterion):
    """``f_t - max_{j != t} f_j``: this class and no other.

    Attributes:
        target: t, the wanted class: its number, or its name among the labels of the model.
    """

    target: int | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", plain(self.target))

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return logits[:, self.number] - best_other(logits, torch.full_like(label, self.number))

    @property
    def number(self) -> int:
        """The number of the class.

        Raises:
            InputError: the class is given by a name that was not looked up, or by something else.
        """
        return _number(self.target)

    def check(self, classes: int) -> None:
        number = self.number
        _check_class_count(classes)
        if not 0 <= number < classes:
            raise InputError(f"target class {number} does not exist; the model's classes are 0 to {classes - 1}")

    def with_numbers(self, number_of: ClassNumber) -> Targeted:
        return Targeted(number_of(self.target)) if isinstance(self.target, str) else self


@dataclass(frozen=True)
class AnyOf(Criterion):
    """``max_{t in T} f_t - max_{j not in T} f_j``: any class of a set.

    Attributes:
        targets: T, classes by their numbers or their names, as for :class:`Targeted`: a tuple, a list, or an array or
            a tensor with one axis. It is kept as a tuple.
    """

    targets: Integers | Names

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        index = torch.tensor(_numbers(self.targets), device=logits.device)
        is_target = torch.zeros_like(logits[:1], dtype=torch.bool).index_fill_(1, index, True)
        return logits[:, index].amax(dim=1) - logits.masked_fill(is_target, -torch.inf).amax(dim=1)

    def check(self, classes: int) -> None:
        if not isinstance(self.targets, tuple) or not self.targets:
            raise InputError(f"targets must be a tuple of one class or more, got {shown(self.targets)}")
        _check_class_count(classes)
        for target in self.targets:
            Targeted(target).check(classes)
        if len(set(self.targets)) < len(self.targets):
            raise InputError(f"targets {self.targets} name a class twice")
        if len(self.targets) == classes:
            raise InputError(f"targets name all {classes} classes: no decision lies outside")

    def with_numbers(self, number_of: ClassNumber) -> AnyOf:
        return AnyOf(_targets_with_numbers(self.targets, number_of))


@dataclass(frozen=True)
class Membership(Criterion):
    """The decision crosses the border of a set T of classes.

    The margin is ``max_{j not in T} f_j - max_{t in T} f_t`` for an image whose own class is in T, and the negative of
    this for the other images. If T has one class, the margin is :class:`Untargeted` for images of this class and
    :class:`Targeted` for the other images.

    Attributes:
        targets: T, classes, as for :class:`AnyOf`.
    """

    targets: Integers | Names

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        entering = AnyOf(self.targets)(logits, label)
        inside = torch.isin(label, torch.tensor(_numbers(self.targets), device=label.device))
        return torch.where(inside, -entering, entering)

    def check(self, classes: int) -> None:
        AnyOf(self.targets).check(classes)

    def with_numbers(self, number_of: ClassNumber) -> Membership:
        return Membership(_targets_with_numbers(self.targets, number_of))


@dataclass(frozen=True)
class LabelWins(Criterion):
    """``f_y - max_{j != y} f_j`` with y the label: each image has its own target, which is given as ``label``."""

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return logits.gather(1, label[:, None])[:, 0] - best_other(logits, label)

    def check(self, classes: int) -> None:
        Untargeted().check(classes)


@dataclass(frozen=True)
class LeastLikely(LabelWins):
    """:class:`LabelWins` for the class that has the least logit at the clean image, unless ``label`` names another.

    Source: Kurakin, Goodfellow, Bengio, ICLR 2017 workshop.
    """

    def labels(self, logits: Tensor) -> Tensor:
        return logits.argmin(dim=1)


@dataclass(frozen=True)
class AtLeast(Criterion):
    """``margin - least``.

    Attributes:
        margin: the goal.
        least: how many logits the margin must exceed, finite.
    """

    margin: Criterion
    least: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "least", plain(self.least))

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.margin(logits, label) - self.least

    def check(self, classes: int) -> None:
        least = as_real(self.least)
        if least is None or not math.isfinite(least):
            raise InputError(f"the margin asked for must be a finite number of logits, got {shown(self.least)}")
        self.margin.check(classes)

    def with_numbers(self, number_of: ClassNumber) -> AtLeast:
        return replace(self, margin=self.margin.with_numbers(number_of))

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

    def with_numbers(self, number_of: ClassNumber) -> Criterion:
        return replace(self, first=self.first.with_numbers(number_of), second=self.second.with_numbers(number_of))

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


def margin_for(margin: Margin | None, model: object) -> Margin:
    """What a method is to raise: ``margin``, with the numbers of the classes that it names; default untargeted.

    Args:
        margin: for instance ``Targeted("soup bowl")``. A margin of another kind than those of this file stays as it is.
        model: has the names of its classes as ``labels``, as a :class:`ssimpert.Classifier` does.

    Raises:
        InputError: the model has no labels, or not that name, or the name stands for several of its classes.
    """
    if margin is None:
        return Untargeted()
    return margin.with_numbers(_lookup(model)) if isinstance(margin, Criterion) else margin


def classes_for(targets: Any, model: object) -> Any:
    """A tuple of classes with numbers for names, as in :func:`margin_for`; anything else as it is."""
    return _targets_with_numbers(targets, _lookup(model))


def _lookup(model: object) -> ClassNumber:
    def number_of(name: str) -> int:
        labels = getattr(model, "labels", None)
        if not isinstance(labels, (tuple, list)):
            raise InputError(
                f"class {name!r} is a name, but the model has no labels; give its number, or wrap the model in "
                "ssimpert.Classifier(..., labels=[...])"
            )
        return class_number(name, labels, str(getattr(model, "name", type(model).__name__)))

    return number_of


def _number(target: object) -> int:
    """A class's number.

    Raises:
        InputError: a name, which nobody has looked up, or anything else.
    """
    number = as_integer(target)
    if number is None:
        remedy = "; only a model with labels knows names" if isinstance(target, str) else ""
        raise InputError(f"target class must be an integer, got {shown(target)}{remedy}")
    return number


def _numbers(targets: Any) -> list[int]:
    return [_number(target) for target in targets]


def _targets_with_numbers(targets: Any, number_of: ClassNumber) -> Any:
    if not isinstance(targets, tuple):
        return targets
    return tuple(number_of(target) if isinstance(target, str) else target for target in targets)


def as_targets(targets: Any) -> Any:
    """A list of classes as a tuple of Python's values; anything else as it is, for ``check`` to refuse."""
    entries = as_list(targets)
    return targets if entries is None else tuple(entries)


def _criterion(value: object) -> Criterion:
    if not isinstance(value, Criterion):
        raise InputError(f"a margin composes with margins such as ssimpert.Targeted(3), got {value!r}")
    return value


def _wants_label(margin: Criterion) -> type[Criterion] | None:
    """The kind of margin within ``margin`` that reads the label as a target, or ``None``."""
    if isinstance(margin, AtLeast):
        return _wants_label(margin.margin)
    if isinstance(margin, _Pair):
        return _wants_label(margin.first)
    return type(margin) if isinstance(margin, LabelWins) else None


def _check_class_count(classes: int) -> None:
    if classes < 2:
        raise InputError(f"a margin compares classes and needs at least 2 classes, the model has {classes}")


def best_other(logits: Tensor, label: Tensor) -> Tensor:
    """``max_{j != y} f_j``, (B,), from logits (B, K) and labels y (B,) long."""
    is_label = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label[:, None], True)
    return logits.masked_fill(is_label, -torch.inf).amax(dim=1)
