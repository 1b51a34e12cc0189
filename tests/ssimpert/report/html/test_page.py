"""The page as text: everything of the data is escaped, nothing is from outside, and only our own blocks may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ssimpert.errors import InputError
from ssimpert.report.html.page import report_page, write_report
from ssimpert.report.html.view import (
    Column,
    Difference,
    Fact,
    FactTable,
    Layer,
    Line,
    PhotoView,
    Picture,
    Plot,
    ReportView,
    Table,
)

EVIL = "</script><script>window.ran=1</script><img src=x onerror=window.ran=1> \" ' & \udcff \x1b[31m"
PICTURE = Picture("data:image/webp;base64,AA==", 2, 2, EVIL)
PLOT = Plot(EVIL, EVIL, EVIL, (Line(EVIL, ((0, 1), (1, 2))), Line(EVIL, ((0, 2), (1, 1)))), EVIL, EVIL)
HOSTILE = ReportView(
    title=EVIL,
    summary=(EVIL,),
    conditions=EVIL,
    warnings=(EVIL,),
    tables=(Table("table", EVIL, EVIL, (Column(EVIL, unit=EVIL), Column("n", "number")), [[EVIL, 1], ["b", None]]),),
    plots=(PLOT,),
    photos=(
        PhotoView(
            "photo-1",
            EVIL,
            EVIL,
            EVIL,
            photo=PICTURE,
            perturbed=PICTURE,
            difference=Difference(PICTURE, 4.0, (1.0, 2.0)),
            layers=(Layer(EVIL, PICTURE, "viridis", EVIL, EVIL, EVIL),),
            facts=(FactTable(EVIL, (Fact(EVIL, EVIL),)),),
            plots=(PLOT,),
            warnings=(EVIL,),
        ),
    ),
    origin=(Fact(EVIL, EVIL),),
    notes=(EVIL,),
)


class Parsed(HTMLParser):
    """The elements of a page, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:  # within a script or a style, which have no elements
            self.blocks.append((*self.elements[-1], data))


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(HOSTILE)


def test_no_text_of_the_data_becomes_an_element_or_an_attribute(page: str) -> None:
    parsed = Parsed(page)
    tags = [tag for tag, _ in parsed.elements]
    assert tags.count("script") == 3  # the table's rows, the photo's pictures, our script
    assert not [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)]
    assert not [attributes for tag, attributes in parsed.elements if tag == "img" and attributes.get("src") == "x"]
    assert "\x1b" not in page
    page.encode("utf-8")  # no half of a surrogate pair


def test_data_for_the_script_are_json_that_reads_back(page: str) -> None:
    parsed = Parsed(page)
    blocks = [
        json.loads(text) for tag, attributes, text in parsed.blocks if attributes.get("type") == "application/json"
    ]
    assert len(blocks) == 2
    rows: Any = blocks[0]["rows"]
    assert "window.ran" in rows[0][0]
    assert rows[1] == ["b", None]
    assert blocks[1]["layers"] == ["difference"]


def test_only_our_script_and_our_style_may_run(page: str) -> None:
    parsed = Parsed(page)
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in parsed.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    inline = {
        tag: [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"]
        for tag, attributes, text in parsed.blocks
        if attributes.get("type") != "application/json"
    }
    assert rules == {
        "default-src": "'none'",
        "script-src": inline["script"][0],
        "style-src": inline["style"][0],
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # The policy holds only for what follows.
    assert parsed.elements.index(("style", {})) > [tag for tag, _ in parsed.elements].index("meta")


def test_the_page_points_nowhere_outside(page: str) -> None:
    for tag, attributes in Parsed(page).elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "style"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, name, target)
    assert set(re.findall(r"https?://[\w./-]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_every_control_and_picture_has_a_name(page: str) -> None:
    elements = Parsed(page).elements
    labels = {attributes["for"] for tag, attributes in elements if tag == "label"}
    for tag, attributes in elements:
        if tag in ("input", "select"):
            assert attributes["id"] in labels
        if tag == "img":
            assert "alt" in attributes
        if tag == "svg":
            assert "aria-label" in attributes or attributes.get("aria-hidden") == "true"
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can't write .*nowhere.*No such file"):
        write_report(HOSTILE, tmp_path / "nowhere" / "report.html")
    assert list(tmp_path.iterdir()) == []
