"""What every section of a study has: keys, and errors that name the key at fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import solvers
from solvers.validation import as_integer, as_list, plain, shown
from ssimpert.errors import InputError
from ssimpert.number_text import as_number


class OptionError(InputError):
    """A value of a study that can't be used, with its place, from which a reader of files finds the line.

    Attributes:
        message: the error without its place.
        section: the name of the section in a study file, such as "formulation"; ``None`` where it is not known yet.
        index: which of the sections of that name, from 0.
        key: the key in the section; ``None`` where the section itself is at fault.
    """

    def __init__(self, message: str, *, section: str | None = None, index: int = 0, key: str | None = None) -> None:
        self.message, self.section, self.index, self.key = message, section, index, key
        super().__init__(message)

    def within(self, section: str, index: int, label: str) -> OptionError:
        """The same error, of the section called ``label`` in messages."""
        if self.section is not None:
            return self
        return OptionError(f"{label}: {self.message}", section=section, index=index, key=self.key)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a study. Its fields are the keys of the study file."""

    section: ClassVar[str]
    """The name of the section in a study file."""

    @classmethod
    def arguments(cls, keys: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the section, from the keys of a study file; all keys must be known."""
        valid = keys_of(cls)
        for key in keys:
            if key not in valid:
                raise OptionError(f"unknown key {key!r}{_nearest(key, valid)}; known: {', '.join(valid)}", key=str(key))
        for entry in fields(cls):
            if entry.default is MISSING and entry.default_factory is MISSING and entry.name not in keys:
                raise OptionError(f"the key {entry.name!r} is missing")
        return dict(keys)

    @classmethod
    def variants(cls, keys: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The keys of each section that ``keys`` stand for. One, unless the kind of section says otherwise."""
        return (keys,)


SINGLE_SECTIONS = ("analysis", "out")
"""The sections that a study has once."""
AnySection = TypeVar("AnySection", bound=Section)


def keys_of(kind: type[Section]) -> tuple[str, ...]:
    """The keys that a section of this kind may have."""
    return tuple(entry.name for entry in fields(kind))


def section_from(kind: type[AnySection], value: Section | Mapping[str, Any], index: int = 0) -> AnySection:
    """A section of ``kind``, from one that is ready or from a mapping of its keys.

    Raises:
        OptionError: an unknown key, a key that is missing, or a value that can't be used; with the section's place.
    """
    if isinstance(value, kind):
        return value
    label = kind.section
    try:
        if not isinstance(value, Mapping):
            raise OptionError(f"must be a section such as [{kind.section}], got {shown(value)}")
        label = _label(kind, value, index)
        return kind(**kind.arguments(value))
    except OptionError as error:
        raise error.within(kind.section, index, label) from error


def sections_from(
    kind: type[AnySection], values: Sequence[Section | Mapping[str, Any]] | Section | Mapping[str, Any]
) -> tuple[AnySection, ...]:
    """Sections of ``kind``; a single one stands for a list of one, and a mapping may stand for several.

    Errors have the position among the sections that are returned.

    Raises:
        OptionError: as :func:`section_from`, and a value that is no list of sections.
    """
    if isinstance(values, (Section, Mapping)):
        values = (values,)
    if not isinstance(values, (list, tuple)):
        raise OptionError(f"{kind.section} must be a list of sections, got {shown(values)}", section=kind.section)
    found: list[AnySection] = []
    for value in values:
        for keys in variants_of(kind, value):
            found.append(section_from(kind, keys, len(found)))
    return tuple(found)


def variants_of(kind: type[Section], value: Any) -> tuple[Any, ...]:
    """What one value of a list of sections stands for: the value itself, or the keys of several sections."""
    return kind.variants(value) if isinstance(value, Mapping) else (value,)


@contextmanager
def at_key(key: str) -> Iterator[None]:
    """Let errors within this block say that the value of ``key`` is at fault."""
    try:
        yield
    except OptionError:
        raise
    except (InputError, solvers.ProblemError, solvers.MethodError) as error:
        raise OptionError(str(error), key=key) from error


def unknown_value(key: str, value: object, valid: Iterable[str]) -> OptionError:
    """An error for a ``value`` of ``key`` that is none of ``valid``; it names the nearest one."""
    return OptionError(f"{key} must be one of {', '.join(valid)}, got {shown(value)}{_nearest(value, valid)}", key=key)


def unknown_key(key: str, purpose: str, valid: Sequence[str], *, at: str | None = None) -> OptionError:
    """An error for a ``key`` that ``purpose`` does not take, which takes ``valid``; ``at``: the key to blame."""
    return OptionError(
        f"{key!r} does not belong to {purpose}{_nearest(key, valid)}; it takes {', '.join(valid)}", key=at or key
    )


def read_choice(key: str, value: Any, valid: Sequence[str]) -> str:
    """``value`` where it is one of ``valid``."""
    if not isinstance(value, str) or value not in valid:
        raise unknown_value(key, value, valid)
    return str(value)


def read_choices(key: str, values: Any, valid: Sequence[str]) -> tuple[str, ...]:
    """``values``, a name or a list of names, where all are among ``valid`` and none is given twice."""
    names = read_names(key, values)
    for name in names:
        read_choice(key, name, valid)
    return names


def read_name(key: str, value: Any) -> str:
    """``value`` where it is a text with a character that is not a space."""
    if not isinstance(value, str) or not value.strip():
        raise OptionError(f"{key} must be a name, got {shown(value)}", key=key)
    return value


def read_names(key: str, values: Any) -> tuple[str, ...]:
    """``values``, a name or a list of names, as a tuple; no name may be given twice."""
    entries = [values] if isinstance(values, str) else as_list(values)
    if entries is None:
        raise OptionError(f"{key} must be a list of names, got {shown(values)}", key=key)
    names = tuple(read_name(key, entry) for entry in entries)
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"{key} has {name!r} twice", key=key)
    return names


def read_number(key: str, value: Any) -> float:
    """``value`` as a finite float: a number, or a text such as "2/255"."""
    number = _number(value)
    if number is None:
        raise OptionError(f"{key} must be a number such as 0.01 or '2/255', got {shown(value)}", key=key)
    return number


def read_number_or_word(key: str, value: Any, words: Sequence[str]) -> float | str:
    """``value`` where it is one of ``words``, else as a finite float."""
    if isinstance(value, str) and value in words:
        return value
    number = _number(value)
    if number is None:
        choices = ", ".join(repr(word) for word in words)
        raise OptionError(f"{key} must be a number or one of {choices}, got {shown(value)}", key=key)
    return number


def read_class(key: str, value: Any) -> int | str:
    """The number of a class, from 0, or its name."""
    number = as_integer(value)
    if number is None:
        name = read_name(key, value).strip()
        if not name.isdecimal():
            return name
        number = int(name)
    if number < 0:
        raise OptionError(f"{key} must be the number of a class, from 0, or its name, got {number}", key=key)
    return number


def read_numbers(key: str, values: Any) -> tuple[float, ...]:
    """``values``, a number or a list of numbers, as floats; at least one, and none given twice."""
    entries = as_list(values)
    numbers = tuple(read_number(key, entry) for entry in ([values] if entries is None else entries))
    if not numbers:
        raise OptionError(f"{key} must have at least one number, got an empty list", key=key)
    for number in numbers:
        if numbers.count(number) > 1:
            raise OptionError(f"{key} has {number!r} twice", key=key)
    return numbers


def read_path(key: str, value: Any) -> str:
    """A path as text."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise OptionError(f"{key} must be a path, got {shown(value)}", key=key)
    return str(value)


def check_distinct(section: str, key: str, names: Sequence[str]) -> None:
    """Raise :class:`OptionError` for the first name that an earlier section of this kind has already."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise OptionError(
                f"{section}: two sections are called {name!r}; give each its own {key}",
                section=section,
                index=index,
                key=key,
            )


def _number(value: Any) -> float | None:
    value = plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float, Fraction)):
        return as_number(str(value))
    return as_number(value) if isinstance(value, str) else None


def _label(kind: type[Section], value: Mapping[str, Any], index: int) -> str:
    name = value.get("name", value.get("kind"))
    if isinstance(name, str):
        return f"{kind.section} {name!r}"
    return kind.section if kind.section in SINGLE_SECTIONS else f"{kind.section} {index + 1}"


def _nearest(value: object, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(value), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
