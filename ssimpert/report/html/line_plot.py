"""A plot of lines as SVG within the page: it follows the page's colours, and prints as sharp as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator

from ssimpert.escaping import printable
from ssimpert.report.drawing import MINUS
from ssimpert.report.html.view import Line, Plot

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 30, 44
LETTER = 6.6
DOT = 3.5
COLOURS = 4
# More dots than this hide the line.
MOST_DOTS = 60


def plot_svg(plot: Plot) -> Markup:
    """The SVG of a plot. Every text is escaped; each dot's values show when the pointer rests on the dot."""
    axes = _Axes(plot)
    parts = [
        Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, printable(plot.alt)
        ),
        *axes.drawn(),
        *_legend(plot.lines),
    ]
    for number, line in enumerate(plot.lines):
        parts += _drawn_line(line, number, axes)
    return Markup("").join([*parts, Markup("</svg>")])


class _Axes:
    """Where values lie within the plot."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        points = [point for line in plot.lines for point in line.points if math.isfinite(point[1])]
        self.x = _span([x for x, _ in points] + list(plot.marks), log=plot.log_x)
        self.y = _span([y for _, y in points], margin=0.06)

    def x_at(self, value: float) -> float:
        low, high = self.x
        if self.plot.log_x:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y_at(self, value: float) -> float:
        low, high = self.y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def drawn(self) -> Iterator[Markup]:
        bottom = HEIGHT - BOTTOM
        for value in _ticks(*self.y):
            y = self.y_at(value)
            kind = "zero" if value == 0 else "grid"
            yield Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                kind, LEFT, WIDTH - RIGHT, y, y
            )
            yield _text(LEFT - 8, y + 4, number_text(value), "end")
        for value in self._x_ticks():
            x = self.x_at(value)
            yield Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                x, x, bottom, bottom + 5
            )
            yield _text(x, bottom + 19, number_text(value), "middle")
        for value in self.plot.marks:
            x = self.x_at(value)
            yield Markup('<line class="mark" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(x, x, TOP, bottom)
        middle = (TOP + bottom) / 2
        yield _text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, self.plot.x_label, "middle", kind="label")
        yield Markup(
            '<text class="label" text-anchor="middle" transform="translate(14 {:.1f}) rotate(-90)">{}</text>'
        ).format(middle, printable(self.plot.y_label))

    def _x_ticks(self) -> list[float]:
        if not self.plot.log_x:
            whole = all(x == int(x) for line in self.plot.lines for x, y in line.points if math.isfinite(y))
            return _ticks(*self.x, whole=whole)
        low, high = self.x
        found = [float(value) for value in LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high)]
        inside = [value for value in found if low <= value <= high]
        return inside if len(inside) <= 7 else inside[:: math.ceil(len(inside) / 7)]


def _drawn_line(line: Line, number: int, axes: _Axes) -> Iterator[Markup]:
    colour = f"colour-{number % COLOURS + 1}"
    style = f"line {colour}{' dashed' if line.dashed else ''}"
    for run in _unbroken(line.points):
        path = " ".join(f"{axes.x_at(x):.1f},{axes.y_at(y):.1f}" for x, y in run)
        yield Markup('<polyline class="{}" points="{}"/>').format(style, path)
    points = [point for point in line.points if math.isfinite(point[1])]
    if line.dots and len(points) <= MOST_DOTS:
        for x, y in points:
            words = printable(f"{line.name}: {number_text(y)} at {number_text(x)}")
            yield Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
                colour, axes.x_at(x), axes.y_at(y), DOT, words
            )


def _legend(lines: Sequence[Line]) -> Iterator[Markup]:
    if len(lines) < 2:
        return
    x = float(LEFT)
    for number, line in enumerate(lines):
        style = f"line colour-{number % COLOURS + 1}{' dashed' if line.dashed else ''}"
        yield Markup('<polyline class="{}" points="{:.1f},16 {:.1f},16"/>').format(style, x, x + 26)
        yield _text(x + 32, 20, line.name, "start", kind="label")
        x += 32 + LETTER * len(line.name) + 22


def _unbroken(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """The runs of points whose y is finite."""
    run: list[tuple[float, float]] = []
    for point in points:
        if math.isfinite(point[1]):
            run.append(point)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _span(values: Sequence[float], *, margin: float = 0.0, log: bool = False) -> tuple[float, float]:
    """The least and the largest value, with a share of their distance on both sides; never of no width."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        return (low, high) if low < high else (low / 2, low * 2)
    if low == high:
        width = abs(low) or 1.0
        low, high = low - width / 2, high + width / 2
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    locator = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=whole)
    found = [float(value) for value in locator.tick_values(low, high)]
    slack = 1e-9 * (high - low)
    return [0.0 if abs(value) < slack else value for value in found if low - slack <= value <= high + slack]


def number_text(value: float) -> str:
    """A number of a plot, to four digits, with a typographic minus sign."""
    return f"{value:.4g}".replace("-", MINUS)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, printable(words)
    )
