"""Every option that is a number takes decimals and fractions alike, and counts take whole numbers alone."""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import get_args

import pytest
import typer

from ssimpert.cli.app import COMMANDS
from ssimpert.cli.command_group import CommandEntry
from ssimpert.cli.numbers import as_number
from ssimpert.cli.study import COMMANDS as STUDY_COMMANDS
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import Command, records


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2/255", Fraction(2, 255)),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("-1", -1),
        (" 1.5 / 255 ", Fraction(3, 510)),
        ("8/1e3", 0.008),
    ],
)
def test_decimals_and_fractions(text: str, value: float | Fraction) -> None:
    assert as_number(text) == float(value)


@pytest.mark.parametrize("text", ["", "/", "1/0", "1/2/3", "x", "nan", "inf", "1e999", "2/255px", "½"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert as_number(text) is None


@pytest.mark.parametrize("name", ["perturb", "compare", "minimal"])
def test_every_option_that_is_a_float_is_of_this_type(name: str) -> None:
    found = 0
    for parameter in inspect.signature(COMMANDS[name].load(name)).parameters.values():
        kind, *metadata = get_args(parameter.annotation)
        if kind is float or float in get_args(kind):
            found += 1
            (option,) = metadata
            assert option.parser is not None, parameter.name
            assert option.parser("2/255") == 2 / 255
    assert found >= 4


@pytest.mark.parametrize(
    ("name", "entry"), [(name, entry) for name, entry in (COMMANDS | STUDY_COMMANDS).items() if name != "study"]
)
def test_every_option_that_is_a_count_names_what_it_can_not_read(name: str, entry: CommandEntry) -> None:
    for parameter in inspect.signature(entry.load(name), eval_str=True).parameters.values():
        kind, *metadata = get_args(parameter.annotation)
        if kind is int or int in get_args(kind):
            (option,) = metadata
            assert option.parser("3") == 3
            for text in ("abc", "3.5", ""):
                with pytest.raises(typer.BadParameter, match=f"'{text}' is not a whole number"):
                    option.parser(text)


@pytest.mark.parametrize("words", [("--steps", "0"), ("--steps", "\x1b[31mx"), ("--threads", "-1")])
def test_a_count_that_is_too_small_is_named_with_what_is_valid(
    command: Command, tmp_path: object, words: tuple[str, str]
) -> None:
    before = words if words[0] == "--threads" else ()
    code, _, err = command(*before, "perturb", "chelsea", *(() if before else words), "--out", str(tmp_path))
    assert code == 2
    shown = words[1].replace("\x1b", "\\x1b")
    assert f"Invalid value for '{words[0]}': '{shown}' is not a whole number of at least 1" in err


def test_a_radius_is_a_fraction(command: Command, small: Classifier, tmp_path: object) -> None:
    words = ("perturb", "chelsea", "--constraint", "linf", "--radius", "2/255", "--steps", "1", "--out", str(tmp_path))
    (record,) = records(command, *words)
    assert record["settings"]["constraint"]["radius"] == 2 / 255
    assert record["result"]["linf_norm"] <= 2 / 255 + 1e-6


@pytest.mark.parametrize("words", [("--radius", "2/0"), ("--radius", "\x1b[31mx"), ("--eps-rel", "nan")])
def test_what_is_no_number_is_named(command: Command, tmp_path: object, words: tuple[str, str]) -> None:
    code, _, err = command("perturb", "chelsea", "--constraint", "l2", *words, "--out", str(tmp_path))
    assert code == 2
    assert "is not a number such as" in " ".join(err.split()).replace("│ ", "")
    assert "\x1b[31mx" not in err
