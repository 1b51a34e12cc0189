"""``ssimpert study``: what the commands print, write and refuse, on a small study that is computed in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ssimpert.models import Classifier
from ssimpert.study import read_study
from ssimpert.study.running import run as run_module
from tests.ssimpert.cli.small_model import Command
from tests.ssimpert.study.small_study import small as small_study_classifier
from tests.ssimpert.study.test_run_study import InThisProcess

__all__ = ["small_study_classifier"]

STUDY = """\
[study]
name = "toys"

[[data]]
kind = "toy"
n = {n}
broken = {broken}

[[model]]
name = "small"

[[formulation]]
name = "ball"
constraint = "l2"
radius = [0.25, 0.5]
steps = 2

[analysis]
maps = ["rms"]
controls = ["gaussian"]
shifts = 0
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Classifier) -> Write:
    """Writes a study file into an empty folder, which is the working folder."""
    monkeypatch.setattr(run_module, "LocalProcesses", InThisProcess)
    monkeypatch.chdir(tmp_path)

    def write_study(name: str = "study.toml", *, n: int = 3, broken: int = -1) -> Path:
        path = Path(name)
        path.write_text(STUDY.format(n=n, broken=broken), encoding="utf-8")
        return path

    return write_study


@pytest.fixture
def small(request: pytest.FixtureRequest) -> Classifier:
    """The classifier that studies load; "toy" is a kind of data."""
    classifier: Classifier = request.getfixturevalue("small_study_classifier")
    return classifier


def test_init_writes_a_study_that_can_be_read_and_never_over_a_file(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "mine.toml"
    code, out, _ = command("study", "init", path)
    assert code == 0
    assert "ssimpert study run" in out
    assert read_study(path).name == "mine"
    path.write_text("my own text", encoding="utf-8")
    code, _, err = command("study", "init", path)
    assert code == 2
    assert "--force" in err
    assert path.read_text(encoding="utf-8") == "my own text"
    assert command("study", "init", path, "--force")[0] == 0


def test_run_computes_all_units_once_and_says_where_the_records_are(write: Write, command: Command) -> None:
    code, out, err = command("study", "run", write())
    assert code == 0, err
    assert "6 units declared, 6 done, 0 failed, 0 missing" in out
    assert "6 units computed" in out
    assert f"records: {Path('out/study/toys/results.parquet')}" in out
    code, out, _ = command("study", "run", "study.toml")
    assert (code, "0 units computed" in out) == (0, True)


def test_a_unit_that_fails_is_told_by_the_exit_code_the_status_and_every_table(write: Write, command: Command) -> None:
    code, out, _ = command("study", "run", write(broken=1), "--out", "made")
    assert code == 1
    assert "2 units failed; `ssimpert study status made` says why" in out
    code, out, _ = command("study", "status", "made")
    assert code == 0
    assert out.startswith("PARTIAL: 6 units declared, 4 done, 2 failed, 0 missing")
    assert "failed 2 times" in out
    assert "the disk is on fire" in out
    assert command("study", "table", "made", "--value", "success")[1].startswith("PARTIAL")
    found = json.loads(command("study", "status", "made", "--json")[1])
    assert (found["declared"], found["done"], found["failed"], found["partial"]) == (6, 4, 2, True)
    assert [entry["failed"] for entry in found["cells"]] == [1, 1]
    code, out, _ = command("study", "run", "study.toml", "--out", "made")  # failed units are no missing units
    assert (code, "0 units computed" in out) == (1, True)
    code, out, _ = command("study", "run", "study.toml", "--out", "made", "--retry-failed")
    assert (code, "2 units computed" in out) == (1, True)


def test_table_plot_and_comparison_are_printed_and_written(write: Write, command: Command) -> None:
    command("study", "run", write(), "--out", "made")
    code, out, err = command(
        "study", "table", "made", "--value", "l2_norm", "--value", "rms.pearson", "--write", "t.csv"
    )
    assert code == 0, err
    assert out.startswith("6 units declared, 6 done")
    frame = pd.read_csv("t.csv", comment="#")
    assert frame.groupby("value")["n"].sum().to_dict() == {"l2_norm": 6, "rms.pearson": 6}
    code, out, err = command("study", "table", "made", "--value", "l2_norm", "--tests")
    assert code == 0, err
    assert "first minus second" in out
    code, out, err = command(
        "study", "plot", "made", "--value", "l2_norm", "--width", "column", "--out", "plots/l2.svg"
    )
    assert code == 0, err
    assert Path("plots/l2.svg").read_text(encoding="utf-8").startswith("<?xml")
    code, out, err = command("study", "compare", "made", "made", "--value", "l2_norm")
    assert code == 0, err
    assert "3 images in both" in out


def test_shards_are_merged_into_the_whole(write: Write, command: Command) -> None:
    path = write()
    command("study", "run", path, "--out", "whole")
    for number in (1, 2):
        code, _, err = command("study", "run", path, "--out", f"shard-{number}", "--shard", f"{number}/2")
        assert code == 0, err
    code, out, err = command("study", "merge", "merged", "shard-1", "shard-2")
    assert code == 0, err
    assert out.startswith("6 records added, 0 were there already")
    assert command("study", "run", path, "--out", "merged")[1].startswith("6 units declared, 6 done")
    tables = [command("study", "table", name, "--value", "l2_norm")[1] for name in ("whole", "merged")]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "study.toml", "--shard", "3/2"], 2, "'3/2'"),
        (["run", "study.toml", "--workers", "0"], 2, "0"),
        (["run", "nowhere.toml"], 1, "no such file"),
        (["run", "study.toml", "--workers", "2", "--scheduler", "tcp://localhost:1"], 1, "drop one of them"),
        (["status", "nowhere"], 1, "no study that was run"),
        (["table", "made", "--value", "rms.pearso"], 1, "rms.pearson"),
        (["table", "made", "--rows", "formulatio"], 1, "formulation"),
        (["table", "made", "--statistic", "mode"], 2, "'mode'"),
        (["table", "made", "--statistic", "median", "--tests"], 2, "--statistic median"),
        (["table", "made", "--baseline", "bal"], 1, "'bal'"),
        (["table", "made", "--write", "table.doc"], 1, "table.doc"),
        (["plot", "made", "--out", "plot.doc"], 2, "plot.doc"),
        (["plot", "made", "--against", "distance"], 1, "distance"),
        (["plot", "made", "--width", "colum"], 2, "'colum'"),
        (["plot", "made", "--width", "2"], 1, "2"),
        (["compare", "made", "nowhere"], 1, "nowhere"),
        (["merge", "merged", "nowhere"], 1, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_used_is_one_line_that_names_it(
    write: Write, command: Command, words: list[str], code: int, told: str
) -> None:
    path = write(n=1)
    if "made" in words:
        command("study", "run", path, "--out", "made")
    found, out, err = command("study", *words)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_a_typing_mistake_in_the_file_is_told_with_its_line_before_any_work(write: Write, command: Command) -> None:
    path = write()
    path.write_text(path.read_text(encoding="utf-8").replace("radius", "raduis"), encoding="utf-8")
    code, _, err = command("study", "run", path)
    assert code == 1
    assert "line 15" in err
    assert "'raduis'" in err
    assert "'radius'" in err
    assert not Path("out").exists()
