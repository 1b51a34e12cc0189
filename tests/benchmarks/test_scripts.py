"""Every script's ``--help`` only helps, and no committed record gives way to a shorter run."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from benchmarks import script_options
from benchmarks.script_options import ROOT, missing_measurements, output_path, write_record


def scripts() -> list[str]:
    """The modules of ``benchmarks`` and ``examples`` that can be run."""
    files = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py"), *ROOT.glob("examples/*/__main__.py")]
    runnable = [path for path in files if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in runnable]
    return sorted(".".join(part for part in names if part != "__main__") for names in parts)


def state_of_files() -> dict[Path, tuple[int, int]]:
    """Size and time of the last change of whatever a script could write."""
    folders = ("benchmarks", "docs", "examples", "solvers", "out/bench")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.glob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files if "__pycache__" not in path.parts}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_help_of_every_script_says_what_it_does_and_changes_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = scripts()
    assert {"benchmarks.run", "benchmarks.gpu", "examples.borders", "examples.results"} <= set(names)
    before = state_of_files()
    for name in names:
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(name, run_name="__main__")
        text = capsys.readouterr().out
        assert ended.value.code == 0, name
        assert text.startswith("usage:"), name
        assert "Run with" in text or "python -m" in text, name
    assert state_of_files() == before


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository of its own, with an empty folder of committed records."""
    monkeypatch.setattr(script_options, "ROOT", tmp_path)
    monkeypatch.setattr(script_options, "SCRATCH", tmp_path / "out" / "bench")
    monkeypatch.setattr(script_options, "RECORDS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    return tmp_path


def test_without_record_nothing_committed_changes(folders: Path) -> None:
    committed = folders / "results" / "tiles.json"
    committed.write_text('{"rows": [1]}')
    assert write_record("tiles", {"rows": [2, 3]}, record=False) == folders / "out" / "bench" / "tiles.json"
    assert committed.read_text() == '{"rows": [1]}'
    picture = output_path(folders / "docs" / "images" / "scaling.png", record=False)
    assert picture == folders / "out" / "bench" / "scaling.png"
    assert picture.parent.is_dir()


def test_a_shorter_run_never_replaces_a_fuller_record(folders: Path) -> None:
    committed = folders / "results" / "overlap.json"
    write_record("overlap", {"machine": {"cores": 2}, "rows": [{"s": 1.0}] * 40}, record=True)
    with pytest.raises(SystemExit, match=r"record\.rows has 40 entries, this run 10"):
        write_record("overlap", {"machine": {}, "rows": [{"s": 2.0}] * 10}, record=True)
    assert len(json.loads(committed.read_text())["rows"]) == 40
    assert len(json.loads((folders / "out" / "bench" / "overlap.json").read_text())["rows"]) == 10
    write_record("overlap", {"machine": {}, "rows": [{"s": 2.0}] * 40}, record=True)
    assert json.loads(committed.read_text())["rows"][0] == {"s": 2.0}


def test_what_a_run_lacks_is_found_at_any_depth() -> None:
    full = {"models": {"a": {"x": [1, 2]}, "b": {"x": [1]}}}
    assert missing_measurements(full, {"models": {"a": {"x": [3, 4]}}}) == "record.models has 'b', this run does not"
    shorter = {"models": {"a": {"x": [3]}, "b": {"x": [1]}}}
    assert missing_measurements(full, shorter) == "record.models.a.x has 2 entries, this run 1"
    assert missing_measurements(full, full | {"more": 1}) == ""
