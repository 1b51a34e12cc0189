"""What a report shows, as plain values. The template reads nothing else, and the readers of folders make nothing else.

All texts are as they are in the data. The page escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Value = str | float | int | None


@dataclass(frozen=True)
class Picture:
    """A picture within the page.

    Attributes:
        uri: the picture as a data URI.
        width, height: in pixels.
        alt: what the picture shows, in a sentence.
    """

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Layer:
    """A map that can be laid over the photo.

    Attributes:
        name: its name in the list of layers.
        picture: the map in colours.
        colours: which colours: ``"viridis"``, or ``"signed"`` for black to white with grey for 0.
        low, high: the values at both ends of the colours, with their unit.
        meaning: what the map is, in a sentence.
    """

    name: str
    picture: Picture
    colours: Literal["viridis", "signed"]
    low: str
    high: str
    meaning: str


@dataclass(frozen=True)
class Difference:
    """The perturbation d for the browser, which adds it to the photo again, amplified.

    Attributes:
        picture: 0.5 + ``factor`` d, cut to [0, 1].
        factor: see ``picture``.
        levels: the amplifications to choose from, rising from 1.
    """

    picture: Picture
    factor: float
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        name: for the legend.
        points: pairs of x and y; a line is broken where y is not finite.
        dashed: whether the line is dashed, for plots printed in grey.
        dots: whether each point gets a dot.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False
    dots: bool = True


@dataclass(frozen=True)
class Plot:
    """A plot of lines.

    Attributes:
        title: what is plotted.
        x_label, y_label: the axes, with units.
        lines: at most four.
        caption: how to read the plot, and the conditions.
        alt: the plot in a sentence.
        log_x: whether x is logarithmic.
        marks: x of vertical dotted lines.
    """

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    caption: str
    alt: str
    log_x: bool = False
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fact:
    """A named number or text of a photo, with its unit in ``text``."""

    name: str
    text: str


@dataclass(frozen=True)
class FactTable:
    """A small table of facts under a heading."""

    heading: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table that sorts and filters.

    Attributes:
        title: its heading.
        kind: whether the column has texts or numbers; a number may be None.
        unit: the unit, below the heading; empty for none.
        digits: significant digits shown.
        link: the number of the column with the anchor that this column's cells lead to; None for no link.
        hidden: whether the column is only there for links.
        first_filter: what the column's filter has when the page opens; the reader can clear it.
    """

    title: str
    kind: Literal["text", "number"] = "text"
    unit: str = ""
    digits: int = 4
    link: int | None = None
    hidden: bool = False
    first_filter: str = ""


@dataclass(frozen=True)
class Table:
    """A table that sorts and filters.

    Attributes:
        name: letters and hyphens, different for each table of a report; also the name of its CSV file.
        title: its heading.
        caption: what the numbers are, and the conditions.
        columns: the columns.
        rows: a value for each column.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class PhotoView:
    """One photo.

    Attributes:
        anchor: letters, digits and hyphens; different for each photo of a report.
        name: what the user called the photo.
        outcome: what happened, in a sentence.
        conditions: the set with its threshold, windows and border, and the steps.
        photo: the photo as the model saw it; None where it could not be read.
        perturbed: the perturbed photo; None where there is none.
        difference: the perturbation; None without ``photo``.
        layers: maps to lay over the photo.
        facts: the numbers.
        plots: the photo's plots.
        warnings: what is missing or changed, in sentences.
    """

    anchor: str
    name: str
    outcome: str
    conditions: str
    photo: Picture | None = None
    perturbed: Picture | None = None
    difference: Difference | None = None
    layers: tuple[Layer, ...] = ()
    facts: tuple[FactTable, ...] = ()
    plots: tuple[Plot, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportView:
    """A whole report.

    Attributes:
        title: the heading.
        summary: a few sentences: how many photos, and what came out.
        conditions: the set with its threshold, windows and border, and the steps.
        warnings: what is missing, in sentences; these stand before all else.
        tables: tables that sort and filter.
        plots: plots of the whole.
        photos: the photos; may be empty.
        origin: where the numbers come from: command, model, versions.
        notes: how the pictures are stored, and the like.
    """

    title: str
    summary: tuple[str, ...]
    conditions: str
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    photos: tuple[PhotoView, ...] = ()
    origin: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = field(default=())
