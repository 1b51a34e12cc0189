"""The tables and the first lines of a report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.report.html.report_of_run import run_report
from ssimpert.report.html.view import ReportView, Table
from tests.ssimpert.report.html.small_results import CONDITIONS, find_photo, write_run


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ReportView:
    return run_report(write_run(tmp_path_factory.mktemp("run"), ["a.png", "b.png", "c.png"]), find_photo)


def column(table: Table, title: str) -> list[Any]:
    (number,) = [k for k, found in enumerate(table.columns) if found.title == title]
    return [row[number] for row in table.rows]


def test_the_first_lines_say_what_was_done_and_how_often_it_worked(view: ReportView) -> None:
    assert view.title == "Perturbations against class activation maps"
    assert view.summary == ("3 photos, model small. The goal was reached for 2 of 3.",)
    assert view.conditions == CONDITIONS
    assert view.warnings == ()


def test_the_table_of_photos_has_a_row_for_each_and_leads_to_it(view: ReportView) -> None:
    table = view.tables[0]
    assert column(table, "photo") == ["a.png", "b.png", "c.png"]
    assert column(table, "anchor") == [photo.anchor for photo in view.photos]
    assert table.columns[0].link == 1
    assert table.columns[1].hidden
    assert column(table, "margin after") == [0.5, 1.0, 1.5]
    assert column(table, "goal reached") == ["yes", "no", "yes"]
    assert "least level" not in [found.title for found in table.columns]  # of minimal only


def test_agreement_is_shown_as_means_and_photo_by_photo(view: ReportView) -> None:
    _, means, single = view.tables
    assert column(single, "Pearson correlation") == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    assert column(single, "NSS") == [None] * 6
    assert column(single, "why a number is missing") == ["NSS: the map is constant"] * 6
    (row,) = [row for row in means.rows if row[1:3] == ["rms of d", "Pearson correlation"]]
    assert row[3] == pytest.approx(0.2)
    assert 0.1 - 1e-9 <= float(str(row[4])) <= 0.2 <= float(str(row[5])) <= 0.3 + 1e-9
    assert row[6:] == [3, 0]
    (row,) = [row for row in means.rows if row[1:3] == ["rms of d", "NSS"]]
    assert row[3:] == [None, None, None, 0, 3]


def test_every_table_names_the_set_its_windows_and_the_steps(view: ReportView) -> None:
    for table in view.tables:
        assert f"Set and steps: {CONDITIONS}." in table.caption
        assert table.name.replace("-", "").isalpha()
    assert all("layer features.3" in table.caption for table in view.tables[1:])


def test_photos_that_are_gone_are_counted_in_the_first_lines(tmp_path: Path) -> None:
    def gone(record: dict[str, Any], size: int) -> Tensor:
        raise InputError("no such file")

    found = run_report(write_run(tmp_path, ["a.png", "b.png"]), gone)
    assert found.warnings == ("The clean photo of 2 of 2 photos was not found as it was. Each photo says why.",)
