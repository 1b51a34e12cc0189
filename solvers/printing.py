"""What results print: a title and a table of their first images, as text of at most ten lines or as HTML.

Values come from tensors, numpy arrays or plain sequences. Only those of the images shown are read. Text from outside is
made harmless: control characters are escaped, and in HTML so is markup.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IMAGES_SHOWN = 5
# Longer texts in a cell and in a title are cut, with an ellipsis.
CELL_WIDTH, TITLE_WIDTH = 36, 116


@dataclass(frozen=True)
class Summary:
    """What a result prints.

    Attributes:
        title: one line.
        columns: by heading, the cells of the first images, at most :data:`IMAGES_SHOWN`.
        images: the number of all images.
        notes: at most two further lines, under the title.
    """

    title: str
    columns: Mapping[str, Sequence[str]]
    images: int
    notes: Sequence[str] = ()

    def text(self) -> str:
        """The title, the notes, and a row for each of the first images: at most ten lines."""
        lines = [shortened(line, TITLE_WIDTH) for line in (self.title, *self.notes)]
        columns = self._filled_columns()
        if self.images and columns:
            cells = [[heading, *values] for heading, values in columns.items()]
            widths = [max(len(cell) for cell in column) for column in cells]
            for row in zip(*cells, strict=True):
                aligned = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                lines.append("  " + "  ".join(aligned).rstrip())
        if self.images > IMAGES_SHOWN:
            lines.append(f"  ... and {self.images - IMAGES_SHOWN} more")
        return "\n".join(lines)

    def html(self) -> str:
        """The same as a table of HTML, for notebooks."""
        title, *notes = (html.escape(shortened(line, TITLE_WIDTH)) for line in (self.title, *self.notes))
        parts = [f"<p><b>{title}</b>{''.join(f'<br>{note}' for note in notes)}</p>"]
        columns = self._filled_columns()
        if self.images and columns:
            head = "".join(f"<th>{html.escape(heading)}</th>" for heading in columns)
            rows = (
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in zip(*columns.values(), strict=True)
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
        if self.images > IMAGES_SHOWN:
            parts.append(f"<p>... and {self.images - IMAGES_SHOWN} more</p>")
        return "".join(parts)

    def _filled_columns(self) -> dict[str, Sequence[str]]:
        """The columns in which at least one cell says something."""
        return {heading: values for heading, values in self.columns.items() if any(values)}


def image_numbers(images: int) -> list[str]:
    """The cells of the column that numbers the images shown."""
    return [str(number) for number in range(min(images, IMAGES_SHOWN))]


def cells(values: Any, form: str = ".4g") -> list[str]:
    """The cells of a column.

    Args:
        values: one value per image: a tensor, a numpy array or a sequence.
        form: the format of floating-point numbers.
    """
    first = values[:IMAGES_SHOWN]
    if hasattr(first, "tolist"):
        first = first.tolist()
    return [cell(value, form) for value in first]


def cell(value: Any, form: str = ".4g") -> str:
    """One value as text: floating-point numbers by ``form``, truth as yes or no, ``None`` as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(value, form)
    return shortened(str(value), CELL_WIDTH)


def shortened(text: str, width: int) -> str:
    """``text`` on one line, with control characters escaped, cut after ``width`` characters."""
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return printable if len(printable) <= width else printable[: width - 3] + "..."


def image_shape(delta: Any) -> str:
    """The shape of one image of a batch (B, C, H, W), as "3x224x224"."""
    return "x".join(str(side) for side in tuple(delta.shape)[1:])


def counted(number: int, noun: str = "image") -> str:
    """ "1 image", "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Printed:
    """A base for results: ``repr`` and the notebook's table come from :meth:`summary`."""

    def summary(self) -> Summary:
        """What the result prints."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()
