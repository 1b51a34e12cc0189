"""Studies as TOML files: ``read_study`` and ``write_study``."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ssimpert.errors import InputError
from ssimpert.study.model_labels import is_label_file
from ssimpert.study.sections.data import DataSection, path_options
from ssimpert.study.sections.formulation import FormulationSection
from ssimpert.study.sections.section import OptionError, Section, variants_of
from ssimpert.study.study import STUDY_SECTION, Study
from ssimpert.study.toml_lines import line_of
from ssimpert.weights_path import RANDOM

SECTIONS = {
    "data": "data",
    "model": "models",
    "formulation": "formulations",
    "attack": "attacks",
    "analysis": "analysis",
    "out": "out",
}
"""The sections of a study file beside ``[study]``, and the arguments of :class:`Study` that they are."""

STUDY_KEYS = ("name", "seed", "repeats")
_LISTS = ("data", "model", "formulation", "attack")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class StudyFileError(InputError):
    """A study file that can't be used.

    Attributes:
        path: the file.
        line: the line at fault, from 1; ``None`` where the file could not be read at all.
    """

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        self.path, self.line = path, line
        super().__init__(f"{path}: {message}" if line is None else f"{path}, line {line}: {message}")


def read_study(path: str | Path) -> Study:
    """The study that a TOML file describes. Nothing is loaded or computed, but every value is checked.

    Relative paths in the file are relative to the folder of the file.

    Args:
        path: the file; ``ssimpert study init`` writes one that explains every key.

    Raises:
        StudyFileError: the file can't be read, is no TOML, or has a key or a value that a study does not take. The
            message names the file and the line, the value, and the nearest valid key or value.
    """
    path = Path(path)
    text = _text_of(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise StudyFileError(path, line, f"no valid TOML: {error}") from error
    try:
        return _study_from(document, path.resolve().parent)
    except OptionError as error:
        raise _at_line(path, text, error) from error


def at_line(path: str | Path, error: OptionError) -> StudyFileError:
    """An error about a study that was read from ``path``, with the line of the key at fault."""
    path = Path(path)
    return _at_line(path, _text_of(path), error)


def write_study(study: Study) -> str:
    """A study as the text of a TOML file, from which :func:`read_study` makes the same study.

    Values that are a section's defaults are left out.
    """
    parts = [_table(STUDY_SECTION, {key: getattr(study, key) for key in STUDY_KEYS}, heading="[{}]")]
    for section, argument in SECTIONS.items():
        value = getattr(study, argument)
        if section in _LISTS:
            parts += [_table(section, _given(entry), heading="[[{}]]") for entry in value]
        else:
            given = _given(value)
            parts += [_table(section, given, heading="[{}]")] if given else []
    return "\n".join(parts)


def _at_line(path: Path, text: str, error: OptionError) -> StudyFileError:
    return StudyFileError(path, line_of(text, error.section, _place(text, error), error.key), error.message)


def _place(text: str, error: OptionError) -> int:
    """Which section of its name in the file the error is about: one section of a file may stand for several."""
    entries = tomllib.loads(text).get(error.section or "", [])
    if error.section != FormulationSection.section or not isinstance(entries, list):
        return error.index
    places = [place for place, entry in enumerate(entries) for _ in variants_of(FormulationSection, entry)]
    return places[error.index] if error.index < len(places) else error.index


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise StudyFileError(path, None, "there is no such file; `ssimpert study init` writes one") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(path, None, f"is no text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise StudyFileError(path, None, f"can't be read ({error.strerror})") from error


def _study_from(document: Mapping[str, Any], folder: Path) -> Study:
    for section, value in document.items():
        _check_section(section, value)
    head = document.get(STUDY_SECTION, {})
    for key in head:
        if key not in STUDY_KEYS:
            raise OptionError(
                f"study: unknown key {key!r}{_nearest(key, STUDY_KEYS)}; known: {', '.join(STUDY_KEYS)}",
                section=STUDY_SECTION,
                key=key,
            )
    if "name" not in head:
        raise OptionError("study: the key 'name' is missing from the section [study]", section=STUDY_SECTION)
    arguments = {
        argument: _with_full_paths(section, document[section], folder)
        for section, argument in SECTIONS.items()
        if section in document
    }
    for section in ("data", "model"):
        arguments.setdefault(SECTIONS[section], ())
    return Study(**head, **arguments)


def _check_section(section: str, value: object) -> None:
    valid = (STUDY_SECTION, *SECTIONS)
    if section not in valid:
        raise OptionError(
            f"unknown section {section!r}{_nearest(section, valid)}; known: {', '.join(valid)}", section=section
        )
    if section in _LISTS:
        if isinstance(value, Mapping):
            raise OptionError(f"{section} may occur several times; write [[{section}]]", section=section)
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            raise OptionError(f"{section} must be a section [[{section}]], got {value!r}", section=section)
    elif not isinstance(value, Mapping):
        hint = f"write [{section}] and not [[{section}]]" if isinstance(value, list) else f"write [{section}]"
        raise OptionError(f"{section} must be one section; {hint}", section=section)


def _with_full_paths(section: str, value: Any, folder: Path) -> Any:
    """The keys of a section, or of several, with paths that hold wherever the process stands."""
    if isinstance(value, list):
        return [_with_full_paths(section, entry, folder) for entry in value]
    keys = dict(value)
    for key in _path_keys(section, keys):
        if isinstance(keys[key], str) and keys[key]:
            keys[key] = str(folder / Path(keys[key]).expanduser())
    return keys


def _path_keys(section: str, keys: Mapping[str, Any]) -> list[str]:
    """The keys whose values are paths."""
    if section == "data":
        return [key for key in path_options(keys.get("kind")) if key in keys]
    if section == "model":
        found = ["weights"] if keys.get("weights", RANDOM) != RANDOM else []
        return [*found, "labels"] if is_label_file(keys.get("labels")) else found
    return []


def _given(section: Section) -> dict[str, Any]:
    """The keys of a section that differ from their defaults."""
    values = {entry.name: getattr(section, entry.name) for entry in fields(section)}
    if isinstance(section, DataSection):
        options = dict(values.pop("options"))
        return {key: value for key, value in values.items() if value is not None} | options
    # In a study file no layer at all is written as a word.
    values = {key: "none" if key == "layers" and value == () else value for key, value in values.items()}
    defaults = {entry.name: entry.default for entry in fields(section)}
    return {key: value for key, value in values.items() if value != defaults[key] and value is not None}


def _table(section: str, keys: Mapping[str, Any], *, heading: str) -> str:
    lines = [heading.format(section), *(f"{_key_text(key)} = {_value_text(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def _key_text(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string_text(key)


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return _string_text(str(value))
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key_text(key)} = {_value_text(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value_text(entry) for entry in value) + "]"
    return repr(value)


def _string_text(text: str) -> str:
    # A JSON string is a TOML string, apart from the character DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _nearest(value: str, valid: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(value, valid, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
