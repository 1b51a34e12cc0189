"""Progress through photos: bars with the time left on a terminal, a plain line for each photo elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from ssimpert.cli.progress import duration, photos_progress
from ssimpert.escaping import printable


def test_a_piped_run_gets_a_line_for_each_photo_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with photos_progress("perturbing", 2) as progress:
        for name in ("a.png", "b\x1b[31m\n.png"):
            progress.begin(name)("step", 1, 3)
            progress.end(name, "cat -> dog")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"1/2 a\.png: cat -> dog \(0\.\d s, about 0 s left\)", first)
    assert re.fullmatch(r"2/2 b\\x1b\[31m\\n\.png: cat -> dog \(0\.\d s\)", second)


def test_a_slow_photo_that_is_piped_gets_a_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with photos_progress("looking", 2) as progress:
        stage = progress.begin("b\x1b[31m.png")
        for now in (30.0, 61.0, 100.0, 122.0):
            stage("looking for the least level", int(now), None if now > 100 else 20)
    assert capsys.readouterr().err.splitlines() == [
        "1/2 b\\x1b[31m.png: looking for the least level, 61 of at most 20 (61 s)",
        "1/2 b\\x1b[31m.png: looking for the least level, 122 (2 min)",
    ]


def test_a_line_survives_an_old_code_page(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="cp1252"))
    with photos_progress("perturbing", 1) as progress:
        progress.begin("猫.png")
        progress.end("猫.png", "done")
    assert raw.getvalue().startswith(b"1/1 \\u732b.png: done")


def test_a_terminal_gets_bars_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with photos_progress("perturbing", 3) as progress:
        stage = progress.begin("[red]x.png")
        stage("step", 1, 2)
        progress.end("[red]x.png", "cat -> dog")
        progress.begin("b.png")("step", 1, 2)
        time.sleep(0.15)  # the bars are drawn ten times a second
    text = shown.getvalue()
    for word in ("perturbing", "1/3", "about 0 s left", "b.png: step"):
        assert word in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (3540, "59 min"), (11100, "3 h 05 min")]
)
def test_a_duration_is_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_would_change_a_terminal_is_written_out() -> None:
    assert printable("a\x07\u202e\udcff猫[red]") == "a\\x07\\u202e\\udcff猫[red]"
