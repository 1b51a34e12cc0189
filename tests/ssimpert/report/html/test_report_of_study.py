"""The report of a study from plain tables and counts."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from ssimpert.errors import InputError
from ssimpert.report.html.page import report_page
from ssimpert.report.html.report_of_study import UnitCounts, study_report

TABLE = pd.DataFrame(
    {"model": ["a", None], "level": [0.05, math.nan], "n": [3, 4], "success": [True, False], "<b>": ["<i>", "x"]}
)


def test_numbers_stay_numbers_and_all_else_is_text() -> None:
    view = study_report("one", {"Results": TABLE}, UnitCounts(8, 8), conditions="c", units={"level": "1 - threshold"})
    (table,) = view.tables
    assert [column.kind for column in table.columns] == ["text", "number", "number", "text", "text"]
    assert table.columns[1].unit == "1 - threshold"
    assert list(table.rows) == [["a", 0.05, 3, "yes", "<i>"], ["", None, 4, "no", "x"]]
    assert view.warnings == ()
    assert view.summary == ("All 8 units are finished.",)
    assert "<i>" not in report_page(view)


def test_missing_values_of_every_kind_are_empty() -> None:
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [pd.NaT, pd.NA], "c": [[1], {"k": None}]})
    (table,) = study_report("one", {"Results": frame}, UnitCounts(2, 2), conditions="c").tables
    assert list(table.rows) == [[1, "", "[1]"], [None, "", "{'k': None}"]]


def test_a_partial_study_says_so_first_and_in_every_caption() -> None:
    view = study_report("one", {"Results": TABLE}, UnitCounts(8, 5, 1), conditions="SSIM")
    words = "5 of 8 units are finished, 1 failed, and 2 are missing"
    assert view.warnings == (f"This report is partial: {words}.",)
    assert view.tables[0].caption == f"{words}. Set and steps: SSIM."
    page = report_page(view)
    assert page.index("This report is partial") < page.index("heading-study-1")


def test_counts_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(InputError, match="a study of 3 units can't have 3 finished and 1 failed units"):
        study_report("one", {"Results": TABLE}, UnitCounts(3, 3, 1), conditions="")


def test_a_table_without_columns_is_refused() -> None:
    with pytest.raises(InputError, match="the table 'Results' has no column"):
        study_report("one", {"Results": pd.DataFrame()}, UnitCounts(3, 3), conditions="")
