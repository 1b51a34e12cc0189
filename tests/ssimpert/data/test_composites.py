"""Composites of cut-outs: exact masks, off centre, classified rightly, the same for the same seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ssimpert.data import CompositeSet, composites
from ssimpert.data.cut_outs import OBJECTS, cut_out_pixels
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model

NAMES = tuple(item.name for item in OBJECTS)


@pytest.fixture(scope="module")
def kept(model: Classifier) -> CompositeSet:
    return composites(10, seed=2, model=model)


@pytest.fixture(scope="module")
def unfiltered() -> CompositeSet:
    return composites(60, seed=1)


def same(first: object, second: object) -> bool:
    """Whether two values, tensors or sets are equal, field by field."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return all(same(getattr(first, name), getattr(second, name)) for name in names)
    return first == second


def boxes_around(masks: Tensor) -> Tensor:
    """(n,4): tightest boxes, ends exclusive, by looking at every pixel."""
    boxes = []
    for mask in masks:
        points = mask.nonzero()
        (top, left), (bottom, right) = points.amin(dim=0).tolist(), points.amax(dim=0).tolist()
        boxes.append((left, top, right + 1, bottom + 1))
    return torch.tensor(boxes)


def test_images_boxes_masks_and_labels_have_their_shapes_and_dtypes(kept: CompositeSet) -> None:
    assert kept.images.shape == (10, 3, 224, 224)
    assert kept.images.dtype == torch.float32
    assert kept.boxes.shape == (10, 4)
    assert kept.boxes.dtype == kept.labels.dtype == torch.int64
    assert kept.masks.shape == (10, 224, 224)
    assert kept.masks.dtype == torch.bool
    assert len(kept.objects) == len(kept.textures) == 10
    assert kept.distractors is None
    assert torch.equal((kept.images * 255).round() / 255, kept.images)


def test_the_model_is_right_on_every_kept_composite(kept: CompositeSet, model: Classifier) -> None:
    accepted = {item.name: item.classes for item in OBJECTS}
    assert torch.equal(model.predict(kept.images), kept.labels)
    assert all(label in accepted[name] for label, name in zip(kept.labels.tolist(), kept.objects, strict=True))
    assert 0 <= kept.rejected_share < 0.75


def test_objects_take_turns_and_textures_vary(unfiltered: CompositeSet) -> None:
    assert unfiltered.objects == NAMES * 12
    assert NAMES == ("chelsea", "coffee", "camera", "motorcycle", "shuttle")
    assert len(set(unfiltered.textures)) == 5


def test_chosen_objects_take_turns_in_the_order_given() -> None:
    assert composites(5, seed=0, size=64, objects=["shuttle", "coffee"]).objects == (
        *("shuttle", "coffee", "shuttle", "coffee", "shuttle"),
    )


def test_masks_touch_all_four_sides_of_their_boxes(unfiltered: CompositeSet) -> None:
    assert torch.equal(boxes_around(unfiltered.masks), unfiltered.boxes)


def test_masks_have_the_shares_of_their_objects(unfiltered: CompositeSet) -> None:
    x0, y0, x1, y1 = unfiltered.boxes.double().unbind(dim=1)
    shares = unfiltered.masks.double().sum(dim=(1, 2)) / ((x1 - x0) * (y1 - y0))
    for index, item in enumerate(OBJECTS):
        expected = (cut_out_pixels(item)[:, :, 3] == 255).mean()
        assert (shares[index::5] - expected).abs().max() < 0.04


def test_mask_pixels_carry_the_objects_colours(unfiltered: CompositeSet) -> None:
    for image, mask, name in zip(unfiltered.images, unfiltered.masks, unfiltered.objects, strict=True):
        (item,) = (item for item in OBJECTS if item.name == name)
        pixels = cut_out_pixels(item)
        colour = pixels[pixels[:, :, 3] == 255][:, :3].mean(axis=0)
        tolerance = 20 if name == "camera" else 6  # its bars are so thin that the edge's blend weighs
        assert np.abs(image[:, mask].mean(dim=1).numpy() * 255 - colour).max() < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_away_from_the_object_the_texture_is_untouched(name: str) -> None:
    # The same seed draws the same textures; another object lies elsewhere and leaves them bare where this one is.
    ones = composites(8, seed=5, objects=(name,))
    others = composites(8, seed=5, objects=("chelsea" if name == "coffee" else "coffee",))
    assert ones.textures == others.textures
    compared = 0
    for index in range(8):
        bare = torch.ones(224, 224, dtype=torch.bool)
        x0, y0, x1, y1 = others.boxes[index].tolist()
        bare[y0:y1, x0:x1] = False
        away = torch.from_numpy(distance_transform_edt(~ones.masks[index].numpy()) > 3)
        differs = (ones.images[index] != others.images[index]).any(dim=0) & bare
        if name != "camera":  # its thinnest bars blend without ever being half opaque
            assert not (differs & away).any()
        x0, y0, x1, y1 = ones.boxes[index].tolist()
        differs[y0:y1, x0:x1] = False
        assert not differs.any()  # nothing at all outside the box, not even a blend
        hidden = ones.masks[index] & bare
        compared += int(hidden.sum())
        assert (ones.images[index] != others.images[index]).any(dim=0)[hidden].double().mean() > 0.9
    assert compared > 1000


def test_heights_are_40_to_60_percent_or_widths_up_to_70(unfiltered: CompositeSet) -> None:
    widths = (unfiltered.boxes[:, 2] - unfiltered.boxes[:, 0]).double()
    heights = (unfiltered.boxes[:, 3] - unfiltered.boxes[:, 1]).double()
    assert heights.min() >= 0.4 * 224 - 0.5
    assert heights.max() <= 0.6 * 224 + 0.5
    assert widths.max() <= 0.7 * 224 + 1
    for index, item in enumerate(OBJECTS):
        height, width = cut_out_pixels(item).shape[:2]
        assert heights[index::5].max() - heights[index::5].min() > 0.04 * 224
        assert (widths[index::5] - heights[index::5] * width / height).abs().max() <= 0.51


def test_a_guess_at_the_centre_does_badly(unfiltered: CompositeSet) -> None:
    x0, y0, x1, y1 = unfiltered.boxes.double().unbind(dim=1)
    assert torch.hypot((x0 + x1) / 2 - 112, (y0 + y1) / 2 - 112).min() >= 0.25 * 224
    distances = np.stack([distance_transform_edt(~mask) for mask in unfiltered.masks.numpy()])
    assert (distances[:, 112, 112] < 15).mean() < 0.5  # the pointing game's tolerance
    for share in (0.4, 0.5, 0.6, 0.7, 1.0):
        low, high = 112 * (1 - share), 112 * (1 + share)
        overlap = (x1.clamp(max=high) - x0.clamp(min=low)).clamp(min=0)
        overlap = overlap * (y1.clamp(max=high) - y0.clamp(min=low)).clamp(min=0)
        union = (x1 - x0) * (y1 - y0) + (high - low) ** 2 - overlap
        assert (overlap / union >= 0.5).double().mean() < 0.1


def test_the_same_seed_gives_the_same_set(kept: CompositeSet, model: Classifier) -> None:
    assert same(composites(10, seed=2, model=model), kept)
    assert not torch.equal(composites(10, seed=4, size=64).boxes, composites(10, seed=3, size=64).boxes)


def test_fewer_composites_are_the_beginning_of_more(unfiltered: CompositeSet) -> None:
    fewer = composites(7, seed=1)
    for field in ("images", "boxes", "masks", "labels"):
        assert torch.equal(getattr(fewer, field), getattr(unfiltered, field)[:7])
    assert fewer.objects == unfiltered.objects[:7]
    assert fewer.textures == unfiltered.textures[:7]


def test_without_a_model_nothing_is_refused(unfiltered: CompositeSet) -> None:
    assert unfiltered.rejected_share == 0
    assert unfiltered.labels[:5].tolist() == [281, 967, 872, 665, 812]


def test_images_have_the_size_asked_for_and_boxes_fit_their_masks() -> None:
    small = composites(5, seed=0, size=64)
    assert small.images.shape == (5, 3, 64, 64)
    assert torch.equal(boxes_around(small.masks), small.boxes)


def test_boxes_leave_out_ends_too_thin_for_the_mask() -> None:
    cameras = composites(40, seed=0, size=64, objects=("camera",))
    assert torch.equal(boxes_around(cameras.masks), cameras.boxes)
    height, width = cut_out_pixels(OBJECTS[2]).shape[:2]
    widths = (cameras.boxes[:, 2] - cameras.boxes[:, 0]).double()
    heights = (cameras.boxes[:, 3] - cameras.boxes[:, 1]).double()
    assert (widths < heights * width / height - 1).any()  # a leg's tip or the handle's, at this size


def test_a_model_that_recognises_nothing_ends_in_an_error() -> None:
    blind = load_model("torchvision:squeezenet1_1", weights="random", device="cpu")
    with pytest.raises(InputError, match=r"found 'chelsea' in none of 60 composites at 64 px"):
        composites(3, seed=0, model=blind, size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "seed": 0}, "n must be an integer of at least 1, got 0"),
        ({"n": 1.5, "seed": 0}, "n must be an integer of at least 1, got 1.5"),
        ({"n": 1, "seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"n": 1, "seed": 0, "size": 32}, "size must be an integer of at least 64, got 32"),
        ({"n": 1, "seed": 0, "objects": ("rockets", "coffee")}, "unknown object 'rockets'; did you mean"),
        ({"n": 1, "seed": 0, "objects": ()}, r"objects \(\) names none; known: chelsea, coffee"),
        ({"n": 1, "seed": 0, "objects": "coffee"}, "objects 'coffee' is a string; give a sequence of names"),
        (
            {"n": 1, "seed": 0, "objects": ("coffee", "coffee"), "distractor": True},
            r"objects \('coffee', 'coffee'\) leave no distractor of another class; name at least two",
        ),
    ],
)
def test_arguments_out_of_range_are_refused_with_their_value(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        composites(**arguments)


def test_a_model_of_other_classes_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    toy = Classifier(network, name="toy", input_size=64, labels=("a", "b", "c"), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match="model 'toy' has 3 classes"):
        composites(1, seed=0, model=toy, size=64)
