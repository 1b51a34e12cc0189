"""``--target`` by name, and the lists of classes and layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import SIDE, Command, records

L2 = ("--constraint", "l2", "--radius", "1", "--steps", "2")


@pytest.mark.parametrize("command_name", ["perturb", "minimal"])
def test_a_name_and_its_number_are_the_same_target(
    command: Command, small: Classifier, tmp_path: Path, command_name: str
) -> None:
    words = (command_name, "chelsea", *L2, *(("--rounds", "2") if command_name == "minimal" else ()))
    by_name, by_number = (
        records(command, *words, "--target", target, "--out", tmp_path / target)[0] for target in ("Elk", "4")
    )
    assert by_name["settings"]["margin"] == by_number["settings"]["margin"] == {"kind": "Targeted", "target": 4}
    assert by_name["result"] == by_number["result"]
    # So a run that was begun with the name goes on with the number, and the other way round.
    for began, target in (("Elk", " elk"), ("Elk", "4"), ("4", "ELK")):
        code, _, err = command(*words, "--target", target, "--out", tmp_path / began)
        assert code == 0
        assert "1 of 1 photos are complete" in err
    code, _, err = command(*words, "--target", "dog", "--out", tmp_path / "4")
    assert code == 2
    assert "--target: 4 there, 3 now" in err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("elc", "did you mean elk (4)?"),
        ("5", "classes are 0 to 4"),
        ("-1", "classes are 0 to 4"),
        ("", "no name is near"),
    ],
)
def test_another_target_is_wrong_usage(
    command: Command, small: Classifier, tmp_path: Path, target: str, message: str
) -> None:
    code, _, err = command("perturb", "chelsea", *L2, "--target", target, "--out", tmp_path)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("pattern", "names"), [((), ["ant", "bee", "cat", "dog", "elk"]), (("A",), ["ant", "cat"]), (("?a*",), ["cat"])]
)
def test_classes_are_listed_by_pattern(
    command: Command, small: Classifier, pattern: tuple[str, ...], names: list[str]
) -> None:
    code, out, _ = command("classes", *pattern, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["name"] for row in rows] == names
    assert all(small.labels[row["number"]] == row["name"] for row in rows)
    _, out, _ = command("classes", *pattern)
    assert all(name in out for name in names)


def test_a_pattern_without_a_class_names_the_nearest(command: Command, small: Classifier) -> None:
    code, _, err = command("classes", "dgo")
    assert code == 2
    assert "did you mean dog (3)?" in err


def test_layers_are_listed_in_order_with_the_default(command: Command, small: Classifier) -> None:
    code, out, _ = command("layers", "small", "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["layer"] for row in rows] == list(small.feature_layers)
    assert [row["layer"] for row in rows if row["default"]] == [small.cam_layer]
    assert rows[0]["output"] == f"8x{SIDE // 2}x{SIDE // 2}"
    every = json.loads(command("layers", "small", "--all", "--json")[1])
    assert [row["layer"] for row in every] == ["0", "1", "2", "3", "4", "5"]


def test_an_unknown_layer_is_answered_with_the_list(command: Command, small: Classifier, tmp_path: Path) -> None:
    code, _, err = command("compare", "chelsea", *L2, "--layer", "nope", "--out", tmp_path)
    assert code == 2
    assert "unknown layer 'nope'; model 'small' has the layers 0, 1, 2, 3, 4, 5" in err
