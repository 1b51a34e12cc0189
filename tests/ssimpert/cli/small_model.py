"""A small untrained classifier that the commands load in place of a real one, and a way to run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssimpert import cli
from ssimpert.models import Classifier
from tests.ssimpert.small_classifier import SIDE as SIDE
from tests.ssimpert.small_classifier import small_classifier as small_classifier

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """The classifier that commands load in this test."""
    classifier = small_classifier()
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: classifier)
    return classifier


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run words as the console script would: exit code, stdout, stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ssimpert", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


def records(command: Command, *words: str | Path) -> list[dict[str, Any]]:
    """What the command prints with ``--json``."""
    code, out, err = command(*words, "--json")
    assert code in (0, 3), err
    found = json.loads(out)
    assert isinstance(found, list)
    assert (code == 0) == all(record["result"]["success"] for record in found)
    return found
