"""Composites of rectangles, as figures published earlier used them, and composites with a distractor."""

from __future__ import annotations

import hashlib

import pytest
import torch

from ssimpert.data import CompositeSet, composites
from ssimpert.data.cut_outs import OBJECTS
from ssimpert.models import Classifier

from .test_composites import boxes_around, same

EARLIER = ("chelsea", "coffee", "camera")


@pytest.fixture(scope="module")
def rectangles() -> CompositeSet:
    return composites(45, seed=1, objects=EARLIER, cut_out=False)


@pytest.fixture(scope="module")
def crowded() -> CompositeSet:
    return composites(60, seed=1, distractor=True)


def digest(chosen: CompositeSet) -> str:
    total = hashlib.sha256()
    for field in ("images", "boxes", "masks", "labels"):
        total.update(getattr(chosen, field).numpy().tobytes())
    total.update(repr((chosen.objects, chosen.textures, chosen.rejected_share)).encode())
    return total.hexdigest()


def test_earlier_rectangles_are_reproduced_bit_for_bit(model: Classifier) -> None:
    # Digests of what composites(9, 6, size=128) and composites(6, 11, model) gave when rectangles were all there was.
    # Neither has the one texture that is a JPEG file, whose pixels depend on the decoder.
    chosen = composites(9, 6, size=128, objects=EARLIER, cut_out=False)
    assert digest(chosen) == "0b0871a06ff27d6a76f913fd4c3786e3b6e0154a614acc6c5c55acb032af071a"
    chosen = composites(6, 11, model, objects=EARLIER, cut_out=False)
    assert digest(chosen) == "d3fb2f676a9c166db7c25cb53738557807aafa50ea33f01bd2695907387d9d59"


def test_masks_of_rectangles_are_their_boxes(rectangles: CompositeSet) -> None:
    x0, y0, x1, y1 = rectangles.boxes.unbind(dim=1)
    assert torch.equal(boxes_around(rectangles.masks), rectangles.boxes)
    assert torch.equal(rectangles.masks.sum(dim=(1, 2)), (x1 - x0) * (y1 - y0))


def test_only_the_rectangle_holds_colour(rectangles: CompositeSet) -> None:
    # Grey textures, coloured cats and cups: colour appears inside the box only, up to its edges.
    checked = 0
    for image, box, name, texture in zip(
        rectangles.images, rectangles.boxes, rectangles.objects, rectangles.textures, strict=True
    ):
        if name == "camera" or texture == "hubble_deep_field":
            continue
        coloured = (image.amax(dim=0) - image.amin(dim=0)) > 0.5 / 255
        assert torch.equal(boxes_around(coloured[None])[0], box)
        checked += 1
    assert checked > 15


def test_rectangles_keep_the_proportions_of_their_crops() -> None:
    chosen = composites(25, seed=1, cut_out=False)
    widths = (chosen.boxes[:, 2] - chosen.boxes[:, 0]).double()
    heights = (chosen.boxes[:, 3] - chosen.boxes[:, 1]).double()
    assert heights.min() >= 0.4 * 224 - 0.5
    assert heights.max() <= 0.6 * 224 + 0.5
    assert widths.max() <= 0.7 * 224 + 1
    for index, item in enumerate(OBJECTS):
        x0, y0, x1, y1 = item.crop
        expected = heights[index::5] * (x1 - x0) / (y1 - y0)
        assert (widths[index::5] - expected).abs().max() <= 0.51


def test_distractors_are_of_another_class_and_lie_beside(crowded: CompositeSet) -> None:
    seconds = crowded.distractors
    assert seconds is not None
    assert len(seconds.objects) == len(seconds.labels) == 60
    assert all(first != second for first, second in zip(crowded.objects, seconds.objects, strict=True))
    assert len(set(zip(crowded.objects, seconds.objects, strict=True))) > 12  # of 20 pairs
    main = {item.name: item.classes[0] for item in OBJECTS}
    assert seconds.labels.tolist() == [main[name] for name in seconds.objects]
    assert torch.equal(boxes_around(seconds.masks), seconds.boxes)
    for box, (x0, y0, x1, y1) in zip(crowded.boxes.tolist(), seconds.boxes.tolist(), strict=True):
        assert x1 <= box[0] or x0 >= box[2] or y1 <= box[1] or y0 >= box[3]
        assert 0.25 * 224 - 4 <= max(x1 - x0, y1 - y0) <= 0.35 * 224 + 0.5


def test_a_distractor_changes_nothing_but_its_own_place(crowded: CompositeSet) -> None:
    alone = composites(60, seed=1)
    assert crowded.distractors is not None
    assert torch.equal(crowded.boxes, alone.boxes)
    assert torch.equal(crowded.masks, alone.masks)
    differs = (crowded.images != alone.images).any(dim=1)
    for index, (x0, y0, x1, y1) in enumerate(crowded.distractors.boxes.tolist()):
        assert differs[index, y0:y1, x0:x1].any()
        differs[index, y0:y1, x0:x1] = False
    assert not differs.any()


def test_most_distracted_objects_are_small(crowded: CompositeSet) -> None:
    # The pointing game's difficult subset: under a quarter of the image, with a distractor.
    assert (crowded.masks.double().mean(dim=(1, 2)) < 0.25).double().mean() > 0.8


def test_the_model_judges_the_first_object_despite_the_distractor(model: Classifier) -> None:
    chosen = composites(4, 0, model, objects=("chelsea", "coffee"), distractor=True)
    assert torch.equal(model.predict(chosen.images), chosen.labels)
    assert chosen.objects == ("chelsea", "coffee", "chelsea", "coffee")
    assert all(label in {281, 282, 285} for label in chosen.labels[::2].tolist())
    assert all(label in {967, 504, 968} for label in chosen.labels[1::2].tolist())
    assert same(composites(4, 0, model, objects=("chelsea", "coffee"), distractor=True), chosen)


def test_distractors_of_rectangles_are_rectangles() -> None:
    chosen = composites(5, seed=2, size=96, cut_out=False, distractor=True)
    assert chosen.distractors is not None
    x0, y0, x1, y1 = chosen.distractors.boxes.unbind(dim=1)
    assert torch.equal(chosen.distractors.masks.sum(dim=(1, 2)), (x1 - x0) * (y1 - y0))
