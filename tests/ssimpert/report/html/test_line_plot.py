"""Plots as SVG: where points lie, which ticks there are, and broken lines."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from ssimpert.report.html.line_plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, plot_svg
from ssimpert.report.html.view import Line, Plot


def drawn(*lines: Line, log_x: bool = False, marks: tuple[float, ...] = ()) -> ElementTree.Element:
    return ElementTree.fromstring(plot_svg(Plot("title", "x", "y", lines, "caption", "alt", log_x, marks)))


def dots(svg: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in svg.iter("circle")]


def ticks(svg: ElementTree.Element, anchor: str) -> list[str]:
    return [
        text.text or ""
        for text in svg.iter("text")
        if text.attrib["class"] == "tick" and text.attrib["text-anchor"] == anchor
    ]


def test_points_lie_where_their_values_say() -> None:
    found = dots(drawn(Line("a", ((0, 0), (1, 5), (4, 10)))))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    assert [x for x, _ in found] == pytest.approx([LEFT, LEFT + width / 4, LEFT + width], abs=0.1)
    margin = 0.06 * 10
    assert [HEIGHT - BOTTOM - y for _, y in found] == pytest.approx(
        [height * (value + margin) / (10 + 2 * margin) for value in (0, 5, 10)], abs=0.1
    )


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    svg = drawn(Line("a", ((0.01, 1), (0.1, 2), (1, 3))), log_x=True)
    first, second, third = (x for x, _ in dots(svg))
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert {"0.01", "0.1", "1"} <= set(ticks(svg, "middle"))


def test_steps_have_whole_ticks_and_numbers_a_true_minus_sign() -> None:
    svg = drawn(Line("a", ((0, -4), (1, 2), (2, 3))))
    assert ticks(svg, "middle") == ["0", "1", "2"]
    assert "\u22124" in ticks(svg, "end")


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    svg = drawn(Line("a", ((0, 1), (1, 2), (2, math.nan), (3, 3), (4, 1))))
    runs = [line.attrib["points"].count(",") for line in svg.iter("polyline")]
    assert runs == [2, 2]
    assert len(dots(svg)) == 4


def test_two_lines_have_a_legend_and_differ_without_colour() -> None:
    svg = drawn(Line("objective", ((0, 1), (1, 2))), Line("bound", ((0, 3), (1, 2)), dashed=True))
    texts = [text.text for text in svg.iter("text")]
    assert {"objective", "bound"} <= set(texts)
    styles = [line.attrib["class"] for line in svg.iter("polyline")]
    assert sum("dashed" in style for style in styles) == 2  # the line and its sample in the legend


@pytest.mark.parametrize("points", [((0.0, 1.0),), ((3.0, 2.0), (3.0, 2.0)), ((0.0, math.nan),), ()])
def test_a_plot_of_no_width_is_drawn_all_the_same(points: tuple[tuple[float, float], ...]) -> None:
    for log_x in (False, bool(points) and points[0][0] > 0):
        text = plot_svg(Plot("title", "x", "y", (Line("a", points),), "caption", "alt", log_x))
        assert not re.search(r"nan|inf\b", text)
