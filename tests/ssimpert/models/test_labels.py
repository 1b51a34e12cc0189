"""Classes by name."""

from __future__ import annotations

import pytest

from ssimpert.errors import InputError
from ssimpert.models.labels import class_labels, class_number

LABELS = ("Egyptian cat", "tiger cat", "crane (2)", "crane (3)", "soup bowl", "same", "same")


@pytest.mark.parametrize(
    ("name", "number"),
    [("tiger cat", 1), ("EGYPTIAN  CAT", 0), ("tiger_cat", 1), ("crane (3)", 3), ("Soup Bowl", 4)],
)
def test_a_name_counts_apart_from_case_and_underscores(name: str, number: int) -> None:
    assert class_number(name, LABELS, "toy") == number


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "crane",
            r"class 'crane' of model 'toy' is ambiguous; give its number: 2 \(crane \(2\)\) or 3 \(crane \(3\)\)",
        ),
        ("same", r"ambiguous; give its number: 5 \(same\) or 6 \(same\)"),
        ("cat", r"unknown class 'cat': model 'toy' has 7 classes; did you mean Egyptian cat \(0\), tiger cat \(1\)\?"),
        ("soup", r"did you mean soup bowl \(4\)\?"),
        ("sup bowl", r"did you mean soup bowl \(4\)\?"),
        ("a soup bowl of tin", r"did you mean soup bowl \(4\)\?"),
        ("zzz", "no name is near"),
        ("", "no name is near"),
        ("\x1b[2J", r"unknown class '\\x1b\[2J'"),
    ],
)
def test_other_names_are_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        class_number(name, LABELS, "toy")
    assert str(caught.value).isprintable()


def test_every_name_of_imagenet_is_found() -> None:
    labels = class_labels(1000)
    assert [class_number(label, labels, "imagenet") for label in labels] == list(range(1000))
    assert class_number("soup bowl", labels, "imagenet") == 809
