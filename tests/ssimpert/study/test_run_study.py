"""``run_study`` from a study to its results: resuming, editing, joining, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssimpert import study
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.study.outputs.results import load_results
from ssimpert.study.running import run as run_module
from ssimpert.study.running.outcome import Outcomes
from ssimpert.study.running.run import run_study
from ssimpert.study.running.worker_process import computed
from ssimpert.study.schema import PROVENANCE
from ssimpert.study.store.lock import StudyLock
from ssimpert.study.tasks import Evaluator, Task
from tests.ssimpert.study.small_study import BALL, WINDOWS, small, small_study  # noqa: F401

QUICK: dict[str, Any] = {"formulations": [BALL, WINDOWS], "analysis": {"controls": ["gaussian"], "shifts": 0}}


class InThisProcess:
    """Computes the tasks here, where the small classifier is."""

    def __init__(self, evaluator: Evaluator, *rest: object, **options: object) -> None:
        self.evaluator = evaluator

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, tasks: Iterator[Task], stop: Callable[[], bool]) -> Outcomes:
        for task in tasks:
            if stop():
                return
            yield [computed(self.evaluator, task)]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, small: Classifier) -> None:  # noqa: F811
    monkeypatch.setattr(run_module, "LocalProcesses", InThisProcess)


def run(folder: Path, made: study.Study, **options: Any) -> tuple[study.RunSummary, list[str]]:
    lines: list[str] = []
    return run_study(made, folder, tell=lines.append, **options), lines


def test_a_study_is_computed_once_and_has_its_results(tmp_path: Path) -> None:
    made = small_study(**QUICK, data={"kind": "toy", "n": 3})
    summary, _ = run(tmp_path, made)
    assert (summary.counts.declared, summary.new, summary.counts.is_partial) == (6, 6, False)
    assert summary.results == tmp_path / "results.parquet"
    again, lines = run(tmp_path, made)
    assert again.new == 0
    assert lines == ["6 units declared, 6 done, 0 failed, 0 missing"]
    results = load_results(tmp_path)
    assert results.records.column("item").to_pylist() == ["toy-0", "toy-1", "toy-2"] * 2
    assert results.records.column("formulation").to_pylist() == ["ball"] * 3 + ["windows"] * 3
    assert study.read_study(tmp_path / "study.toml") == made


def test_twice_the_same_study_gives_equal_records_whatever_interrupts_it(tmp_path: Path) -> None:
    made = small_study(**QUICK, data={"kind": "toy", "n": 3})
    run(tmp_path / "whole", made)
    for limit in (1, 2, 99):
        calls: list[int] = []
        run(tmp_path / "parts", made, stop=lambda calls=calls, limit=limit: calls.append(1) or len(calls) > limit)
    kept = [name for name in load_results(tmp_path / "whole").records.column_names if name not in PROVENANCE]
    whole, parts = (load_results(tmp_path / name).records.select(kept) for name in ("whole", "parts"))
    assert repr(whole.to_pylist()) == repr(parts.to_pylist())  # bit by bit; NaN is equal to NaN


def test_an_edited_study_computes_only_what_is_new_and_says_so(tmp_path: Path) -> None:
    data = {"kind": "toy", "n": 2}
    run(tmp_path, small_study(**QUICK, data=data))
    renamed = QUICK | {"formulations": [BALL | {"name": "my ball"}, WINDOWS | {"threshold": [0.9, 0.8]}]}
    summary, lines = run(tmp_path, small_study(**renamed, data=data))
    assert summary.new == 2
    assert "the study changed: 2 columns keep their records, 1 are new, 0 are dropped" in lines
    assert "  new: small, windows, threshold 0.8" in lines
    assert set(load_results(tmp_path).records.column("formulation").to_pylist()) == {"my ball", "windows"}


def test_a_changed_option_of_a_column_is_named(tmp_path: Path) -> None:
    data = {"kind": "toy", "n": 1}
    run(tmp_path, small_study(**QUICK, data=data))
    slower = QUICK | {"formulations": [BALL | {"steps": 3}]}
    _, lines = run(tmp_path, small_study(**slower, data=data))
    assert "  new: small, ball, radius 0.5 (changed: formulation.steps)" in lines
    assert "  dropped: small, windows, threshold 0.9" in lines
    assert len(load_results(tmp_path).records) == 1


def test_changed_images_are_named_and_computed_anew(tmp_path: Path) -> None:
    run(tmp_path, small_study(**QUICK, data={"kind": "toy", "n": 2}))
    summary, lines = run(tmp_path, small_study(**QUICK, data={"kind": "toy", "n": 2, "salt": 1}))
    assert "  changed images: 2 (toy-0, toy-1); their units are new" in lines
    assert summary.new == 4


def test_a_failed_item_is_no_result_and_makes_the_study_partial(tmp_path: Path) -> None:
    summary, _ = run(tmp_path, small_study(**QUICK, data={"kind": "toy", "n": 3, "broken": 1}))
    assert (summary.counts.done, summary.counts.failed, summary.results) == (4, 2, None)
    status = study.study_status(tmp_path)
    assert status.counts.line() == "PARTIAL: 6 units declared, 4 done, 2 failed, 0 missing"
    assert [(counts.done, counts.failed) for _, counts in status.cells] == [(2, 1), (2, 1)]
    assert sum(status.reasons.values()) == 2


def test_shards_are_joined_to_the_whole_study(tmp_path: Path) -> None:
    made = small_study(**QUICK, data={"kind": "toy", "n": 3})
    run(tmp_path / "whole", made)
    shards = [tmp_path / f"shard-{number}" for number in range(2)]
    for number, shard in enumerate(shards):
        run(shard, made, shard=(number, 2))
    report = study.join_studies(tmp_path / "all", shards)
    assert (report.added, report.failures) == (6, 0)
    frames = [study.unit_frame(load_results(tmp_path / name).records) for name in ("whole", "all")]
    kept = [name for name in frames[0].columns if name not in PROVENANCE]
    pd.testing.assert_frame_equal(frames[0][kept], frames[1][kept])
    assert run(tmp_path / "all", made)[0].new == 0
    run(tmp_path / "other", small_study(data={"kind": "toy", "n": 1}))
    with pytest.raises(InputError, match="is of another study than"):
        study.join_studies(tmp_path / "all", [tmp_path / "other"])


def test_numbers_of_any_kind_are_taken_and_others_refused_before_any_work(tmp_path: Path) -> None:
    made = small_study(**QUICK, data={"kind": "toy", "n": 2})
    summary, _ = run(
        tmp_path / "kinds", made, workers=np.int64(1), batch_size=np.int32(2), shard=np.array([0, 1], dtype=np.int64)
    )
    assert summary.counts.done == 4
    for name, wrong in (
        ("workers", 0),
        ("workers", 1.5),
        ("batch_size", -1),
        ("batch_size", "2"),
        ("shard", (2, 2)),
        ("shard", (0.5, 2)),
        ("shard", 3),
    ):
        with pytest.raises(InputError, match=f"^{name}"):
            run(tmp_path / "none", made, **{name: wrong})
    with pytest.raises(InputError, match="drop one of them"):
        run(tmp_path / "none", made, workers=1, scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with StudyLock(tmp_path), pytest.raises(InputError, match="in use by"):
        run(tmp_path, small_study(data={"kind": "toy", "n": 1}))
    assert not (tmp_path / "cells.json").exists()


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    for ask in (study.study_status, load_results):
        with pytest.raises(InputError, match="has no study that was run"):
            ask(tmp_path)
