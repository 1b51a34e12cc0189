"""Worker processes of this machine: all units once, whatever dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssimpert.study.store.failures import read_failures
from ssimpert.study.store.parts import part_names
from tests.ssimpert.study.running.synthetic import (
    SyntheticEvaluator,
    declared_keys,
    record,
    synthetic_cells,
    synthetic_items,
)
from tests.ssimpert.study.running.synthetic_run import run, table

ROOT = Path(__file__).parents[4]


def expected(cells: int = 2, items: int = 6, batch: int = 1) -> list[dict[str, object]]:
    keys = declared_keys(synthetic_cells(cells), synthetic_items(items))
    return sorted((record(key, batch) for key in keys), key=lambda row: str(row["key"]))


def test_every_unit_is_computed_once(tmp_path: Path) -> None:
    state = run(tmp_path, SyntheticEvaluator())
    assert (state.counts.done, state.new) == (12, 12)
    assert table(tmp_path).to_pylist() == expected()
    assert run(tmp_path, SyntheticEvaluator()).new == 0


def test_batches_are_cut_from_all_items_whatever_is_done(tmp_path: Path) -> None:
    """Items 0 to 3 and 4 to 5: a failure among the first does not move the second."""
    run(tmp_path, SyntheticEvaluator(failing=(1,)), batch_size=4)
    batches = dict(zip(table(tmp_path)["key"].to_pylist(), table(tmp_path)["batch"].to_pylist(), strict=True))
    keys = declared_keys(synthetic_cells(2), synthetic_items(6))
    assert [batches.get(key) for key in keys] == [4, None, 4, 4, 2, 2] * 2
    again = run(tmp_path, SyntheticEvaluator(), batch_size=4, retry_failed=True)
    assert (again.new, again.counts.is_partial) == (2, False)


def test_failures_keep_their_reason_and_are_retried_on_request_alone(tmp_path: Path) -> None:
    state = run(tmp_path, SyntheticEvaluator(failing=(2,)))
    assert (state.counts.done, state.counts.failed, state.counts.missing) == (10, 2, 0)
    assert {failure.reason for failure in read_failures(tmp_path).values()} == {"item 2 is broken"}
    assert run(tmp_path, SyntheticEvaluator()).new == 0
    assert run(tmp_path, SyntheticEvaluator(), retry_failed=True).counts.done == 12
    assert read_failures(tmp_path) == {}
    assert table(tmp_path).to_pylist() == expected()


def test_an_error_of_the_evaluator_fails_its_task_alone(tmp_path: Path) -> None:
    state = run(tmp_path, SyntheticEvaluator(raising=(0,)), batch_size=2)
    assert (state.counts.done, state.counts.failed) == (8, 4)
    assert {failure.error for failure in read_failures(tmp_path).values()} == {
        "RuntimeError: item 0 breaks the evaluator"
    }


def test_a_unit_that_kills_its_worker_once_is_computed_after_all(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    state = run(tmp_path / "study", SyntheticEvaluator(killing=(3,), killing_once=str(marks)))
    assert state.counts.done == 12
    assert table(tmp_path / "study").to_pylist() == expected()


def test_units_of_a_batch_that_kills_its_worker_are_tried_alone(tmp_path: Path) -> None:
    state = run(tmp_path, SyntheticEvaluator(shrinking=(3,)), batch_size=3)
    assert state.counts.done == 12


def test_a_unit_that_kills_three_workers_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    state = run(tmp_path, SyntheticEvaluator(killing=(4,)), cells=1)
    assert (state.counts.done, state.counts.failed) == (5, 1)
    (failure,) = read_failures(tmp_path).values()
    assert failure.reason.startswith("the worker was killed by SIGKILL, 3 times")
    assert failure.tries == 3


def test_a_request_to_stop_finishes_what_is_at_work(tmp_path: Path) -> None:
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 3

    state = run(tmp_path, SyntheticEvaluator(seconds=0.01), stop=stop)
    assert 0 < state.counts.done < 12
    assert table(tmp_path).num_rows == state.counts.done
    assert run(tmp_path, SyntheticEvaluator()).counts.done == 12
    assert table(tmp_path).to_pylist() == expected()


def test_shards_divide_the_items(tmp_path: Path) -> None:
    parts = [run(tmp_path / str(number), SyntheticEvaluator(), shard=(number, 4)) for number in range(4)]
    assert [state.counts.declared for state in parts] == [4, 4, 2, 2]
    rows = [row for number in range(4) for row in table(tmp_path / str(number)).to_pylist()]
    assert sorted(rows, key=lambda row: row["key"]) == expected()


@pytest.mark.parametrize("victim", ["runner", "worker"])
def test_a_killed_run_goes_on_to_the_same_table(victim: str, tmp_path: Path) -> None:
    """SIGKILL of the runner, or of a worker, at random moments."""
    random.seed(1)
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "tests.ssimpert.study.running.synthetic_run", str(folder), "0.02"]
    for _ in range(2):
        process = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + 60
        rows = table(folder).num_rows if folder.exists() else 0
        while not part_names(folder) or table(folder).num_rows <= rows:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1 * random.random())
        if victim == "runner":
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        else:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
            if workers:
                os.kill(random.choice(workers), signal.SIGKILL)
            process.wait()
            break
    run(folder, SyntheticEvaluator(), cells=3, items=20)
    assert table(folder).to_pylist() == expected(3, 20)
