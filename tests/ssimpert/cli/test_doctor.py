"""``ssimpert doctor``."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version

import pytest

import solvers
from tests.ssimpert.cli.small_model import Command


def test_a_sound_installation_passes(command: Command) -> None:
    code, out, err = command("doctor", "--json")
    assert code == 0, err
    found = {row["what"]: row for row in json.loads(out)}
    assert found["torch"]["found"] == version("torch")
    assert found["devices"]["found"].startswith("cpu")
    for info in solvers.methods():
        assert info.name in found or info.name in found["solver methods"]["found"]
    assert "certified gap" in found["self-test"]["found"]
    assert all(row["ok"] for row in found.values())


def test_what_is_missing_is_a_fault_with_a_remedy(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        if name in ("scs", "foolbox"):
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("importlib.metadata.version", absent)
    monkeypatch.setattr(solvers, "solve", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no [bold] kernel\x1b")))
    code, out, _ = command("doctor")
    assert code == 1
    for words in ("pip install scs", "ssimpert[baselines]", "RuntimeError: no [bold] kernel\\x1b", "FAULT"):
        assert words in out
