"""Which objects the metrics of localisation are about, for one image and one decision.

A map of a perturbation explains the model's decision. The metrics therefore ask for the objects of the class that the
model decided for:

- Where a table says which of the model's classes belong to each class of the data set (VOC, COCO), the decision must be
  one of them. Without an object of the decision's class there is nothing to hit: the metrics are NaN, with the reason.
- Where no table is needed (ImageNet, CUB, composites: one class an image), the objects are those of the image's class,
  whatever the decision. This is the "ground truth known" of weakly supervised localisation.

As in TorchRay's pointing game, a class whose objects are all called difficult by the data set is no trial, and the mask
of a class is the union of all its objects, the difficult ones and crowds among them. Boxes are those of objects that
are neither difficult nor crowds: the box of a crowd is no box of an object.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from ssimpert.analysis.localization.boxes import box_masks
from ssimpert.analysis.localization.pointing_game import LARGEST_DIFFICULT_SHARE
from ssimpert.data.datasets.item import Item, ObjectAnnotation

NO_OBJECT = "the image shows no annotated object"
OTHER_CLASS = "the model's class is none of the image's objects"
ALL_DIFFICULT = "all objects of the class are difficult"
NO_PIXEL = "the objects hold no pixel of the image that the model sees"
NO_BOX = "no object of the class has a box of its own"

ClassLabels = Mapping[str, Set[int]]
"""The model's labels of each class of a data set."""


@dataclass(frozen=True, eq=False)
class UnitObjects:
    """The objects of one class in an image.

    Attributes:
        class_name: as the data set calls the class; empty where there is no object to ask for.
        mask: (H, W) bool, the union of the objects; ``None`` where there is none.
        boxes: (k, 4) float64, ends exclusive; ``None`` where no object has a box of its own.
        is_difficult: whether this is a difficult pair of the pointing game: the objects are small, and the image shows
            another class, too.
        reason: why there is no mask; empty where there is one.
    """

    class_name: str
    mask: Tensor | None
    boxes: Tensor | None
    is_difficult: bool
    reason: str


def unit_objects(item: Item, label: int, class_labels: ClassLabels | None) -> UnitObjects:
    """The objects of ``item`` that a map of the decision ``label`` should find.

    Args:
        item: the image with its objects.
        label: the class that the model gives to the image.
        class_labels: the model's labels of each class of the data set; ``None`` where the data set has one class an
            image.
    """
    if not item.objects:
        return _none(NO_OBJECT)
    if class_labels is None:
        chosen = item.class_names[0] if item.class_names else item.objects[0].class_name
    else:
        shown = dict.fromkeys(entry.class_name for entry in item.objects)
        decided = [name for name in shown if label in class_labels.get(name, frozenset())]
        if not decided:
            return _none(OTHER_CLASS)
        chosen = decided[0]
    objects = [entry for entry in item.objects if entry.class_name == chosen]
    if not objects:
        return _none(NO_OBJECT)
    if all(entry.difficult for entry in objects):
        return _none(ALL_DIFFICULT)
    height, width = item.image.shape[-2:]
    mask = torch.stack([_mask(entry, height, width) for entry in objects]).any(dim=0)
    if not bool(mask.any()):
        return _none(NO_PIXEL)
    own_boxes = [entry.box for entry in objects if entry.box is not None and not entry.difficult and not entry.crowd]
    has_distractor = any(entry.class_name != chosen for entry in item.objects)
    return UnitObjects(
        class_name=chosen,
        mask=mask,
        boxes=torch.tensor(own_boxes, dtype=torch.float64) if own_boxes else None,
        is_difficult=has_distractor and float(mask.double().mean()) < LARGEST_DIFFICULT_SHARE,
        reason="",
    )


def _none(reason: str) -> UnitObjects:
    return UnitObjects("", None, None, False, reason)


def _mask(entry: ObjectAnnotation, height: int, width: int) -> Tensor:
    if entry.mask is not None:
        return entry.mask
    if entry.box is None:
        return torch.zeros(height, width, dtype=torch.bool)
    boxes = torch.tensor([entry.box], dtype=torch.float64)
    return box_masks([boxes], 1, height, width, torch.device("cpu"))[0]
