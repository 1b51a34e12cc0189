"""Names of a classifier's classes, and errors for a name looked up in a list too long to print."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from solvers.validation import as_integer, shown
from ssimpert.data.cut_outs import IMAGENET_CLASSES
from ssimpert.errors import InputError, unknown_name

NEAR_CLASSES = 5
"""The most classes that an error about a name lists."""


def class_labels(count: int) -> tuple[str, ...]:
    """Labels of a classifier with ``count`` classes, all different.

    For 1000 classes the labels are ImageNet-1k's names: WordNet's first synonym ("Egyptian cat"), followed by the class
    number where two classes share the synonym ("crane (134)", "crane (517)"). For any other count they are "class 0",
    "class 1", ...
    """
    if count == IMAGENET_CLASSES:
        return _imagenet_labels()
    return tuple(f"class {index}" for index in range(count))


@lru_cache(maxsize=1)
def _imagenet_labels() -> tuple[str, ...]:
    from timm.data import ImageNetInfo

    names = [text.split(",")[0].strip() for text in ImageNetInfo().label_descriptions()]
    uses = Counter(names)
    return tuple(name if uses[name] == 1 else f"{name} ({index})" for index, name in enumerate(names))


def class_number(name: str, labels: Sequence[str], model_name: str) -> int:
    """The number of the class called ``name``, 0 to K-1, among the K ``labels``.

    A label counts that equals the name; else one that equals the name apart from case, ``_`` for spaces, and the number
    in brackets that :func:`class_labels` adds.

    Raises:
        InputError: no label counts, and the nearest labels are listed; or several do, and their numbers are listed.
    """
    found = [index for index, label in enumerate(labels) if label == name]
    found = found or [index for index, label in enumerate(labels) if _plain_name(label, index) == _plain_name(name)]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{index} ({labels[index]})" for index in found[:NEAR_CLASSES])
        raise InputError(f"class {name!r} of model {model_name!r} is ambiguous; give its number: {choices}")
    near = nearest_classes(name, labels)
    hint = f"did you mean {', '.join(f'{labels[index]} ({index})' for index in near)}?" if near else "no name is near;"
    raise InputError(
        f"unknown class {name!r}: model {model_name!r} has {len(labels)} classes; {hint} `ssimpert classes` lists all"
    )


def nearest_classes(name: str, labels: Sequence[str]) -> list[int]:
    """The numbers of up to :data:`NEAR_CLASSES` classes whose labels are near ``name``.

    First those that contain all words of the name or whose words all are in the name, then those of like spelling.
    """
    wanted = _plain_name(name)
    plain_names = [_plain_name(label, index) for index, label in enumerate(labels)]
    words = set(wanted.split())
    kin = [k for k, label in enumerate(plain_names) if words and (words <= set(label.split()) or wanted in label)]
    kin += [k for k, label in enumerate(plain_names) if label and set(label.split()) < words]
    spelt = difflib.get_close_matches(wanted, plain_names, n=NEAR_CLASSES, cutoff=0.6)
    alike = [k for text in spelt for k, label in enumerate(plain_names) if label == text]
    return list(dict.fromkeys([*kin, *alike]))[:NEAR_CLASSES]


def _plain_name(label: str, index: int | None = None) -> str:
    text = label if index is None else label.removesuffix(f" ({index})")
    return " ".join(text.replace("_", " ").casefold().split())


def unknown_among_many(kind: str, name: str, valid_names: Iterable[str], hint: str) -> InputError:
    """Like :func:`ssimpert.errors.unknown_name` for a list too long to print: says ``hint`` when no name is near."""
    near = difflib.get_close_matches(name, list(valid_names), n=5, cutoff=0.5)
    if near:
        return unknown_name(kind, name, near)
    return InputError(f"unknown {kind} {name!r}; {hint}")


def class_name(index: int, labels: Sequence[str], model_name: str) -> str:
    """The name of class ``index``, 0 to K-1, among the K ``labels``.

    Raises:
        InputError: ``index`` is no integer, or there is no such class; the error names the model ``model_name``.
    """
    number = as_integer(index)
    if number is None:
        raise InputError(f"a class must be an integer, got {shown(index)}")
    if not 0 <= number < len(labels):
        raise InputError(f"class {number} is out of range; model {model_name!r} has 0 to {len(labels) - 1}")
    return labels[number]
