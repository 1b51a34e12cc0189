"""``ssimpert methods --conformance``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import solvers
from ssimpert import cli


@pytest.fixture
def lazy_method() -> Iterator[str]:
    """A registered method that claims an optimum and returns 0."""

    @solvers.register_method("lazy", problems=(solvers.LinearProblem,), required={"LpBall"})
    def lazy(
        problem: solvers.Problem, settings: solvers.Settings, warm_start: solvers.SolveResult | None = None
    ) -> solvers.MethodOutput:
        return solvers.MethodOutput(
            delta=0 * problem.reference, dual=(None,), status=(solvers.Status.OPTIMAL,), iterations=(1,)
        )

    yield "lazy"
    solvers.unregister_method("lazy")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """``ssimpert methods ...``; exit code, stdout, stderr."""
    monkeypatch.setattr("sys.argv", ["ssimpert", "methods", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def test_the_table_has_the_methods_the_problems_and_the_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "--conformance",
        "--method",
        "tiles",
        "--method",
        "closed_form",
        "--problem",
        "tiles-s*",
        "--problem",
        "l2",
    )
    code, out, _ = run(capsys, monkeypatch, *words)
    assert code == 0
    for word in ("tiles-split", "tiles-sample", "closed_form", "5 pass, 5 not claimed"):
        assert word in out


def test_json_has_a_row_for_each_method_and_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "--conformance", "--method", "tiles", "--problem", "tiles", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["passed"] is True
    assert [(row["method"], row["problem"], row["outcome"]) for row in report["rows"]] == [("tiles", "tiles", "pass")]


def test_failure_is_shown_and_is_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lazy_method: str
) -> None:
    code, out, _ = run(capsys, monkeypatch, "--conformance", "--method", lazy_method, "--problem", "l2")
    assert code == 1
    for word in ("1 fail", "stationarity", "lazy on l2"):
        assert word in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--conformance", "--problem", "stride1"), 1, "did you mean stride-1"),
        (("--conformance", "--method", "tles"), 2, "did you mean tiles"),
        (("--problem", "tiles"), 2, "go with --conformance"),
        (("--device", "cuda"), 2, "go with --conformance"),
        (("--conformance", "--device", "cuda:99"), 1, "cuda:99"),
    ],
)
def test_wrong_words_are_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    found, _, err = run(capsys, monkeypatch, *words)
    assert found == code
    assert message in err
