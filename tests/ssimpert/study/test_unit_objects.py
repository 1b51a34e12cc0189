"""Which objects a unit's metrics of localisation are about: hand-made cases."""

from __future__ import annotations

from typing import Any

import torch

from ssimpert.data.datasets.item import Item, ObjectAnnotation
from ssimpert.data.frame import Frame
from ssimpert.study import unit_objects as module
from ssimpert.study.unit_objects import UnitObjects, unit_objects

TABLE = {"cat": {1, 2}, "dog": {3}, "person": frozenset[int]()}


def box(class_name: str, left: float, size: float = 4, **flags: Any) -> ObjectAnnotation:
    return ObjectAnnotation(class_name, (left, 0.0, left + size, size), **flags)


def asked(*objects: ObjectAnnotation, label: int = 1, table: Any = TABLE, names: tuple[str, ...] = ()) -> UnitObjects:
    item = Item("x", "0", torch.zeros(3, 20, 20), Frame(20, 20, 20), names, objects)
    return unit_objects(item, label, table)


def columns(found: UnitObjects) -> list[int]:
    assert found.mask is not None
    return found.mask.any(dim=0).nonzero()[:, 0].tolist()


def test_the_objects_are_those_of_the_decision() -> None:
    found = asked(box("dog", 0), box("cat", 8), box("cat", 15))
    assert (found.class_name, found.reason) == ("cat", "")
    assert columns(found) == [*range(8, 12), *range(15, 19)]
    assert found.boxes is not None
    assert found.boxes.tolist() == [[8, 0, 12, 4], [15, 0, 19, 4]]
    assert asked(box("dog", 0), box("cat", 8), label=3).class_name == "dog"


def test_without_an_object_of_the_decision_there_is_no_trial() -> None:
    for found, reason in (
        (asked(box("dog", 0)), module.OTHER_CLASS),
        (asked(box("person", 0), label=0), module.OTHER_CLASS),
        (asked(), module.NO_OBJECT),
        (asked(box("cat", 0, difficult=True)), module.ALL_DIFFICULT),
        (asked(box("cat", 0.6, 0.3)), module.NO_PIXEL),
    ):
        assert (found.class_name, found.mask, found.boxes, found.is_difficult) == ("", None, None, False)
        assert found.reason == reason


def test_difficult_objects_and_crowds_are_in_the_mask_and_have_no_box() -> None:
    found = asked(box("cat", 0), box("cat", 8, difficult=True), box("cat", 14, crowd=True))
    assert columns(found) == [*range(4), *range(8, 12), *range(14, 18)]
    assert found.boxes is not None
    assert found.boxes.tolist() == [[0, 0, 4, 4]]
    crowd = asked(box("cat", 0, crowd=True))
    assert crowd.mask is not None
    assert crowd.boxes is None


def test_a_mask_is_preferred_to_the_box() -> None:
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[5, 7] = True
    found = asked(ObjectAnnotation("cat", (0.0, 0.0, 20.0, 20.0), mask))
    assert found.mask is not None
    assert found.mask.nonzero().tolist() == [[5, 7]]


def test_with_one_class_an_image_the_objects_are_its_own_whatever_the_decision() -> None:
    found = asked(box("dog", 0), box("cat", 8), label=77, table=None, names=("cat",))
    assert found.class_name == "cat"
    assert asked(box("dog", 0), label=77, table=None).class_name == "dog"
    assert asked(box("dog", 0), table=None, names=("cat",)).reason == module.NO_OBJECT


def test_difficult_pairs_are_small_objects_beside_another_class() -> None:
    # 9 of 20 columns by 9 of 20 rows are 0.2025 of the image, 10 by 10 are a quarter.
    assert asked(box("cat", 0, 9), box("dog", 12)).is_difficult
    assert not asked(box("cat", 0, 10), box("dog", 12)).is_difficult
    assert not asked(box("cat", 0, 9)).is_difficult
