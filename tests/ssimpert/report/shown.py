"""What a figure shows, for the tests of figures."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

SMALLEST = 9.5


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def check_texts(figure: Figure, smallest: float = SMALLEST) -> None:
    """Every text lies inside the figure, is no smaller than ``smallest`` points, and none lies over another."""
    figure.canvas.draw()
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    found, beyond = [], _beyond_the_axes(figure)
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and text not in beyond:
            box = text.get_window_extent(renderer)
            if box.width > 0:
                found.append((text, box))
    assert found
    for text, box in found:
        assert text.get_fontsize() >= smallest, text
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y1 <= figure.bbox.height, text
    for place, (first, a) in enumerate(found):
        for second, b in found[place + 1 :]:
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
            assert apart, (first, second)


def _beyond_the_axes(figure: Figure) -> list[Text]:
    """Labels of ticks outside the limits, which exist but are not drawn."""
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    found += [tick.label1, tick.label2]
    return found
