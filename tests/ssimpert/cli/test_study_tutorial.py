"""The tutorial on studies: every command of the page, in the order of the page, on two small photos."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ssimpert.study import cells, read_study
from ssimpert.study.running import run as run_module
from tests.ssimpert.cli.small_model import Command
from tests.ssimpert.study.test_run_study import InThisProcess

PAGE = Path(__file__).parents[3] / "docs" / "tutorials" / "study.md"
PHOTOS = 'names = ["chelsea", "coffee", "camera", "rocket", "astronaut", "motorcycle"]'
MODEL = 'name = "efficientnet-lite0"'


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """The page's blocks in these languages, in order, each with its language."""
    pattern = rf"```({'|'.join(languages)})\n(.*?)```"
    for match in re.finditer(pattern, PAGE.read_text(encoding="utf-8"), re.DOTALL):
        yield match[1], match[2]


def smaller(study: str) -> str:
    """The same study on two photos of 64 pixels, which take seconds."""
    if PHOTOS in study:
        assert MODEL in study
        study = study.replace(PHOTOS, 'names = ["chelsea", "coffee"]').replace(MODEL, f"{MODEL}\ninput_size = 64")
    return study


def test_the_page_leads_from_an_empty_folder_to_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "LocalProcesses", InThisProcess)  # processes take seconds to begin
    said: list[tuple[str, str]] = []
    for language, text in blocks("toml", "sh"):
        if language == "toml":
            with Path("study.toml").open("a", encoding="utf-8") as file:
                file.write(smaller(text))
            continue
        for line in text.strip().splitlines():
            program, *words = shlex.split(line)
            assert program == "ssimpert"
            code, out, err = command(*words)
            assert code == 0, f"{line}: {err}"
            said.append((line, out + err))
    runs = [text for line, text in said if " run " in line]
    assert "8 units declared, 0 done" in runs[0]
    assert "4 columns keep their records, 2 are new" in runs[1]
    assert "12 units declared, 8 done" in runs[1]
    assert all("PARTIAL" not in text for line, text in said if " table " in line)
    assert len(pd.read_csv("first.csv", comment="#"))
    assert all(Path(name).stat().st_size for name in ("success.svg", "first.html"))


def test_the_study_of_the_page_can_be_run_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text("".join(text for language, text in blocks("toml")), encoding="utf-8")
    study = read_study(path)
    assert len(study.data[0].open()) == 6
    assert len(cells(study)) == 6
