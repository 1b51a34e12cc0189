"""Files of tables: what other programs read in them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from markdown_it import MarkdownIt

from ssimpert.errors import InputError
from ssimpert.study import pivot
from ssimpert.study.outputs.number_text import estimate_text, name_text, number_text
from ssimpert.study.outputs.table_files import SUFFIXES, escaped, latex, markdown, write_study_table
from ssimpert.study.outputs.text_table import TextTable, pivot_text
from tests.ssimpert.study.outputs.synthetic_results import cell, results_of, unit

PARTIAL = "PARTIAL: 9 units declared, 6 done, 1 failed, 2 missing"


def table() -> tuple[pd.DataFrame, TextTable]:
    made = [
        unit(cell("windows_7 & 8%", level), f"photo{i}", ssim=level + i / 700, model=model)
        for model in ("a", "b") for level in (0.95, 0.99999991) for i in range(3)
    ]  # fmt: skip
    part = pivot(results_of(made), "ssim")
    return part, pivot_text(part, "mean SSIM", rows=("formulation", "level_unit", "level"), columns=("model",))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_tables_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        part, text = table()
        write_study_table(tmp_path / "new" / f"{name}{suffix}", part, [text], [PARTIAL])
    assert (tmp_path / "new" / f"first{suffix}").read_bytes() == (tmp_path / "new" / f"second{suffix}").read_bytes()


def test_a_csv_file_has_all_digits_and_its_first_line_says_partial(tmp_path: Path) -> None:
    part, text = table()
    write_study_table(tmp_path / "table.csv", part, [text], [PARTIAL])
    assert (tmp_path / "table.csv").read_text().startswith(f"# {PARTIAL}\nformulation,")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv", comment="#", float_precision="round_trip"), part)
    write_study_table(tmp_path / "whole.csv", part, [text], ["9 units declared, 9 done, 0 failed, 0 missing"])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "whole.csv", float_precision="round_trip"), part)


def test_parquet_and_json_have_the_counts_beside_the_numbers(tmp_path: Path) -> None:
    part, text = table()
    for suffix in (".parquet", ".json"):
        write_study_table(tmp_path / f"table{suffix}", part, [text], [PARTIAL])
    read = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    assert read.schema.metadata[b"ssimpert.counts"].decode() == PARTIAL
    pd.testing.assert_frame_equal(read.to_pandas(), part)
    document = json.loads((tmp_path / "table.json").read_text())
    assert document["counts"] == [PARTIAL]
    assert [row["mean"] for row in document["rows"]] == pytest.approx(part["mean"].tolist(), abs=1e-14)


def test_latex_shows_partial_and_escapes_names(tmp_path: Path) -> None:
    _, text = table()
    lines = latex(text, [PARTIAL]).splitlines()
    assert lines[1] == r"\begin{tabular}{lllrr}"
    assert lines[2] == rf"\multicolumn{{5}}{{l}}{{{PARTIAL}}} \\"
    assert lines[3:6] == [r"\toprule", r"formulation & level unit & level & a & b \\", r"\midrule"]
    assert lines[6].startswith(r"windows\_7 \& 8\% & threshold & 0.95 & 0.9514 [0.95, 0.9529] & ")
    assert lines[7].startswith(r"windows\_7 \& 8\% & threshold & 0.99999991 & ")
    for line in (line for line in lines if line.endswith(r"\\") and "multicolumn" not in line):
        assert len(re.findall(r"(?<!\\)&", line)) == 4


def test_no_letter_of_a_name_means_something_to_latex() -> None:
    """Read back by undoing each command, a name is as it was."""
    name = "a\\b{c}$d$_e^f~g#h&i%j<k>|"
    text = escaped(name)
    for command, letter in (("textbackslash", "\\"), ("textasciitilde", "~"), ("textasciicircum", "^"),
                            ("textless", "<"), ("textgreater", ">"), ("textbar", "|")):  # fmt: skip
        text = text.replace(f"\\{command}{{}}", f"<<{ord(letter)}>>")
    text = re.sub(r"\\([&%$#_{}])", r"\1", text)
    assert re.sub(r"<<(\d+)>>", lambda match: chr(int(match[1])), text) == name
    assert "\n" not in escaped("two\nlines")


def test_markdown_is_read_as_one_table_with_the_names_as_they_are() -> None:
    name = r"a|b*c*_d_`e`<b>f</b>[g](h)~~i~~#\\j"
    text = TextTable("of *all*", ("name", "n"), ((name, "0.5 [0.25, 0.75]"), ("# b", "2")), 1, ("a | note",))
    tokens = (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown(text, [PARTIAL]))
    )
    shown = ["".join(part.content for part in token.children or ()) for token in tokens if token.type == "inline"]
    assert shown == ["of *all*", PARTIAL, "name", "n", name, "0.5 [0.25, 0.75]", "# b", "2", "a | note"]
    assert [token.type for token in tokens].count("table_open") == 1
    kinds = {part.type for token in tokens for part in token.children or ()}
    assert kinds <= {"text", "text_special"}


def test_a_cell_that_begins_with_a_bracket_is_no_argument_of_the_line_before() -> None:
    text = TextTable("title", ("name", "n"), (("[0.1]", "1"),), 1)
    assert r"{[0.1]} & 1 \\" in latex(text)


def test_another_suffix_and_an_unusable_folder_are_refused(tmp_path: Path) -> None:
    part, text = table()
    with pytest.raises(InputError, match=r"must end in \.csv, \.tex, \.md, \.parquet, \.json, got '.*table\.xlsx'"):
        write_study_table(tmp_path / "table.xlsx", part, [text], [])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write"):
        write_study_table(tmp_path / "file" / "table.csv", part, [text], [])


def test_names_are_different_for_different_numbers() -> None:
    assert [name_text(value) for value in (0.95, 2.0, 0.99999991, math.nan, None, "x", 3)] == [
        "0.95", "2", "0.99999991", "", "", "x", "3",
    ]  # fmt: skip
    numbers = [float(np.nextafter(0.95, 1)), 0.95, 1e-9, 1.0000001e-9]
    assert len({name_text(number) for number in numbers}) == 4


def test_numbers_have_four_digits_and_nan_is_said() -> None:
    assert [number_text(value) for value in (0.0, 0.5, -0.12346, 1e-5, 123456.0, math.nan, None)] == [
        "0", "0.5", "-0.1235", "1e-05", "1.235e+05", "n/a", "n/a",
    ]  # fmt: skip
    assert estimate_text(0.5, 0.25, 0.75) == "0.5 [0.25, 0.75]"
    assert estimate_text(0.5, math.nan, math.nan) == "0.5"


def test_a_pivot_in_text_says_what_is_left_out() -> None:
    made = [unit(cell("w", 0.9), "photo", ssim=math.nan), unit(cell("w", 0.9), "other", ssim=0.5)]
    text = pivot_text(
        pivot(results_of(made), "ssim"), "t", rows=("formulation", "level_unit", "level"), columns=("model",)
    )
    assert text.rows == (("w", "threshold", "0.9", "0.5"),)
    assert text.notes == (
        "1 unit without a finite number left out",
        "a number without an interval is of one image or cluster",
    )
