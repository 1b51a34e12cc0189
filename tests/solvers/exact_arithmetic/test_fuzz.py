"""The command line of the long run: its table, its exit status, and the seeds that it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.solvers.exact_arithmetic import fuzz
from tests.solvers.exact_arithmetic.checks import INFEASIBLE_POINT, WRONG_BOUND, Failure, Outcome


def outcome(seed: int) -> Outcome:
    """Seed 3 fails twice, seed 4 is refused."""
    if seed == 4:
        return Outcome(seed, refusal="a reason, in words")
    failures = []
    if seed == 3:
        failures = [
            Failure(seed, 1, WRONG_BOUND, ("Box",), "certificate 0", 0.5),
            Failure(seed, 2, INFEASIBLE_POINT, ("Box",), "certificate 1", 1e-17),
        ]
    return Outcome(seed, ("Box",) if seed % 2 else ("Box", "LpBall 2"), 10, 60, 50, "", failures)


@pytest.fixture(autouse=True)
def _outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "check_seed", outcome)


def test_a_failure_sets_the_status_and_keeps_its_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "below" / "failures.jsonl"
    assert fuzz.main(["--problems", "60", "--jobs", "1", "--failures", str(path)]) == 1
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(entry["seed"], entry["image"], entry["kind"]) for entry in kept] == [
        (3, 1, WRONG_BOUND),
        (3, 2, INFEASIBLE_POINT),
    ]
    out = capsys.readouterr().out
    assert "| Box | 30 | 180 | 150 | 1 (1) | 5.0e-01 | 1 (0) | 1.0e-17 | 0 |  | 0 |" in out
    assert "| LpBall 2 and others | 30 | 180 | 150 | 0 |  | 0 |  | 0 |  | 0 |" in out
    assert "| **all** | 60 | 360 | 300 | 1 (1) | 5.0e-01 | 1 (0) | 1.0e-17 | 0 |  | 0 |" in out
    assert "1 batches refused: {'a reason': 1}" in out


def test_without_failures_the_status_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "failures.jsonl"
    assert fuzz.main(["--problems", "20", "--first-seed", "5", "--jobs", "1", "--failures", str(path)]) == 0
    assert "no failures" in capsys.readouterr().out
    assert not path.exists()


def test_one_seed_is_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--seed", "3"]) == 1
    assert "image 1: wrong bound, 5.00e-01: certificate 0" in capsys.readouterr().out
    assert fuzz.main(["--seed", "5"]) == 0
