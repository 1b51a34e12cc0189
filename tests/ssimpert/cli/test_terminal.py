"""Tables fit every terminal, without cutting names, in every encoding."""

from __future__ import annotations

import io
import sys

import pytest
from rich.cells import cell_len

from ssimpert.cli.terminal import cell, encodable, print_line, show, survive_encodings, table

LONG = "photograph_of_the_harbour_in_the_evening_0001.jpeg"
ROWS = [
    (
        "chelsea.png",
        "global_ssim re-centred",
        "Egyptian cat → tiger cat",
        "-7.45 → +0.12",
        "0.9970",
        "0.00719 ≤ 2×0.005",  # noqa: RUF001
    ),
    (LONG, "[red]control[/red]", "Staffordshire bullterrier → hamster wheel", "-12.34 → +10.12", "0.9", "1"),
]
HEADINGS = ("image", "perturbation", "label: before → after", "margin", "SSIM", "d2")


def printed(capsys: pytest.CaptureFixture[str], rows: list[tuple[str, ...]]) -> str:
    shown = table("Perturbation [x]", "A caption, which says what the columns mean and is longer than fifty letters.")
    for heading in HEADINGS:
        shown.add_column(cell(heading), justify="right" if heading in ("margin", "SSIM", "d2") else "left")
    for row in rows:
        shown.add_row(*(cell(entry) for entry in row))
    show(shown)
    return capsys.readouterr().out


def letters(text: str) -> list[str]:
    return sorted(letter for letter in text if not letter.isspace() and letter not in "┏━┳┓┃┡╇┩│└┴┘─")


@pytest.mark.parametrize("width", [200, 80, 50, 20])
@pytest.mark.parametrize("rows", [ROWS[:1], ROWS[1:], ROWS])
def test_every_letter_is_there_and_no_line_is_too_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, rows: list[tuple[str, ...]]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = printed(capsys, rows)
    assert all(cell_len(line) <= width for line in out.splitlines())
    assert "…" not in out
    found = letters(out)
    for row in rows:
        for letter in letters("".join(row)):
            found.remove(letter)


def test_short_names_are_whole_words_in_a_table_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = printed(capsys, ROWS[:1])
    assert "image" in out.splitlines()[1] + out.splitlines()[2]
    (line,) = [line for line in out.splitlines() if line.startswith("chelsea.png")]
    assert "0.9970" in line


def test_rows_stand_below_one_another_where_columns_would_be_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    lines = [line.split(maxsplit=1) for line in printed(capsys, ROWS[:1]).splitlines()]
    assert ["image", "chelsea.png"] in [[part.strip() for part in line] for line in lines]


def test_a_terminal_without_arrows_gets_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cp1252 = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(cp1252, encoding="cp1252", errors="strict"))
    survive_encodings()
    shown = table("σ of 猫")  # noqa: RUF001
    shown.add_column(cell("label: before → after"))
    shown.add_row(cell("ä → b"))
    show(shown)
    print_line("done → 猫")
    print("plain → print")
    sys.stdout.flush()
    text = cp1252.getvalue().decode("cp1252")
    for words in ("sigma of \\u732b", "before -> after", "ä -> b", "done -> \\u732b", "plain -> print"):
        assert words in text
    # What was replaced before the table was laid out can't shift its lines.
    assert len({len(line) for line in text.splitlines() if "|" in line}) == 1


def test_a_known_encoding_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert encodable("→ 猫") == "→ 猫"


def test_no_color_is_obeyed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = table("Title")
    shown.add_column("heading")
    shown.add_row(cell(("failed", "red")))
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    show(shown)
    assert "\x1b[31m" not in capsys.readouterr().out
