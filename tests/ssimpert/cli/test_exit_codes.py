"""How a command ends, and what it says before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ssimpert
from ssimpert.cli import exit_codes
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import Command

TINY = ("--constraint", "linf", "--radius", "1e-7", "--steps", "1")


@pytest.mark.parametrize("words", [("perturb",), ("minimal", "--rounds", "1"), ("compare", "--shifts", "0")])
def test_a_goal_that_is_not_reached_is_code_three(
    command: Command, small: Classifier, tmp_path: Path, words: tuple[str, ...]
) -> None:
    name, *rest = words
    code, out, err = command(name, "chelsea", *rest, *TINY, "--out", tmp_path)
    assert code == exit_codes.GOAL_NOT_REACHED == 3, err
    assert "goal not reached" in out
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--constraint", "window-ssim", "--threshold", "2"),
        ("--target", "no such class"),
        ("--constraint", "l2", "--threshold", "0.9"),
        ("--steps", "0"),
        ("--method", "nope"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_wrong_usage(
    command: Command, small: Classifier, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert command("perturb", "chelsea", *words, "--out", tmp_path)[0] == exit_codes.WRONG_USAGE == 2


@pytest.mark.parametrize("name", ["perturb", "compare", "minimal"])
@pytest.mark.parametrize("weights", ["missing.pth", "."])
def test_a_missing_weights_file_is_refused_before_anything_else(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, weights: str
) -> None:
    monkeypatch.setattr(
        "ssimpert.cli.constraint_options.ConstraintOptions.build", lambda _: pytest.fail("torch would be loaded")
    )
    code, _, err = command(name, "no-such-photo", "--weights", str(tmp_path / weights), "--out", tmp_path)
    assert code == exit_codes.FAILED == 1
    assert "give a .pth, .pt or .safetensors state dict, or 'random'" in err


def test_load_model_refuses_a_missing_file_before_it_builds_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssimpert.models.catalog._create_timm", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(ssimpert.InputError, match="does not exist"):
        ssimpert.load_model("efficientnet-lite0", weights="missing.pth", device="cpu")


@pytest.mark.parametrize("words", [("--no\x1b[31m",), ("per\x1b[31m",), ("perturb", "x", "--constraint", "\x1b[31m")])
def test_what_was_typed_reaches_the_terminal_in_printable_letters(command: Command, words: tuple[str, ...]) -> None:
    code, _, err = command(*words)
    assert code == 2
    assert "\x1b" not in err
    assert "x1b" in err


def test_a_hostile_file_name_is_one_printable_line(command: Command, tmp_path: Path) -> None:
    code, _, err = command("perturb", tmp_path / "a\x1b[31m\nb.png", "--out", tmp_path / "out")
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("ssimpert: ")]
    assert line.isprintable()


def test_the_version_is_told_and_the_package_runs_as_a_module(command: Command) -> None:
    assert command("--version")[:2] == (0, f"ssimpert {ssimpert.__version__}\n")
    done = subprocess.run([sys.executable, "-m", "ssimpert", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"ssimpert {ssimpert.__version__}\n")


def test_help_offers_completion_and_explains_the_codes(command: Command) -> None:
    code, out, _ = command("--help")
    assert code == 0
    text = " ".join(out.split())
    assert "--install-completion" in text
    assert "3 all was written, but the goal was not reached" in text
