"""On which line of a TOML file a key stands. The reader of Python's standard library does not say."""

from __future__ import annotations

from collections.abc import Iterator

Place = tuple[str, int, str | None]
"""A section, which of the sections of that name (from 0), and a key in it; ``None`` for the section's heading."""


def line_of(text: str, section: str | None, index: int = 0, key: str | None = None) -> int:
    """The line, from 1, of a key of a section in valid TOML, as exactly as it can be told.

    Where the key is missing, the line is that of the section's heading; where the section is missing, it is 1.

    Args:
        text: the file's content.
        section: the name of a table; ``None`` for none.
        index: which of the tables of that name, from 0.
        key: a key in the table.
    """
    lines = key_lines(text)
    if section is None:
        return 1
    for place in ((section, index, key), (section, index, None), (section, 0, None)):
        if place in lines:
            return lines[place]
    return 1


def key_lines(text: str) -> dict[Place, int]:
    """The line, from 1, of every heading and of every first part of a key, in valid TOML."""
    lines: dict[Place, int] = {}
    counts: dict[str, int] = {}
    heading: list[str] = []
    for line, parts, kind in _statements(text):
        if kind == "key":
            path = [*heading, *parts]
        else:
            heading = path = parts
            if kind == "array heading" and len(parts) == 1:
                counts[parts[0]] = counts.get(parts[0], -1) + 1
        section = path[0]
        index = counts.setdefault(section, 0)
        lines.setdefault((section, index, None), line)
        if len(path) > 1:
            lines.setdefault((section, index, path[1]), line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, list[str], str]]:
    """Every heading and every key with its line: the parts of the name, and what the statement is."""
    position = 0
    while True:
        position = _after_blanks(text, position)
        if position >= len(text):
            return
        line = text.count("\n", 0, position) + 1
        if text.startswith("[[", position):
            parts, position = _key(text, position + 2)
            yield line, parts, "array heading"
            position = _after_line(text, position)
        elif text[position] == "[":
            parts, position = _key(text, position + 1)
            yield line, parts, "heading"
            position = _after_line(text, position)
        else:
            parts, position = _key(text, position)
            yield line, parts, "key"
            position = _after_value(text, position)


def _key(text: str, position: int) -> tuple[list[str], int]:
    """The parts of a dotted key, and the position of the sign behind the key: ``=`` or ``]``."""
    parts: list[str] = []
    while text[position] not in "=]":
        if text[position] in " \t.":
            position += 1
        elif text[position] in "\"'":
            end = _after_string(text, position)
            parts.append(text[position + 1 : end - 1])
            position = end
        else:
            end = position
            while text[end] not in " \t.=]":
                end += 1
            parts.append(text[position:end])
            position = end
    return parts, position


def _after_blanks(text: str, position: int) -> int:
    """The position of the next statement: behind spaces, empty lines and comments."""
    while position < len(text):
        if text[position] == "#":
            position = _after_line(text, position)
        elif text[position].isspace() or text[position] == "\ufeff":
            position += 1
        else:
            break
    return position


def _after_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1


def _after_value(text: str, position: int) -> int:
    """The position behind a value, which may span lines within brackets or within a long string."""
    depth = 0
    while position < len(text):
        character = text[position]
        if character in "\"'":
            position = _after_string(text, position)
            continue
        if character == "#":
            position = _after_line(text, position) - 1 if "\n" in text[position:] else len(text)
            continue
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "\n" and depth == 0:
            return position + 1
        position += 1
    return position


def _after_string(text: str, position: int) -> int:
    """The position behind the string that begins at ``position``."""
    quote = text[position]
    mark = quote * 3 if text.startswith(quote * 3, position) else quote
    position += len(mark)
    while not text.startswith(mark, position):
        # Only strings in double quotes have escapes.
        position += 2 if quote == '"' and text[position] == "\\" else 1
    position += len(mark)
    # A long string may end with up to two quotes of its own.
    while len(mark) == 3 and text.startswith(quote, position):
        position += 1
    return position
