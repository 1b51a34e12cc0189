"""Composites: exact boxes, off centre, classified rightly, the same for the same seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from ssimpert.data import CompositeSet, composites
from ssimpert.data.composites import OBJECTS
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model


@pytest.fixture(scope="module")
def kept(model: Classifier) -> CompositeSet:
    return composites(24, seed=3, model=model)


@pytest.fixture(scope="module")
def unfiltered() -> CompositeSet:
    return composites(60, seed=1)


def test_shapes_and_kinds(kept: CompositeSet) -> None:
    assert kept.images.shape == (24, 3, 224, 224)
    assert kept.images.dtype == torch.float32
    assert kept.boxes.shape == (24, 4)
    assert kept.boxes.dtype == kept.labels.dtype == torch.int64
    assert kept.masks.shape == (24, 224, 224)
    assert kept.masks.dtype == torch.bool
    assert len(kept.objects) == len(kept.textures) == 24
    assert torch.equal((kept.images * 255).round() / 255, kept.images)


def test_the_model_is_right_on_every_kept_composite(kept: CompositeSet, model: Classifier) -> None:
    accepted = {item.name: item.classes for item in OBJECTS}
    assert torch.equal(model.predict(kept.images), kept.labels)
    assert all(label in accepted[name] for label, name in zip(kept.labels.tolist(), kept.objects, strict=True))
    assert 0 <= kept.rejected_share < 0.3


def test_objects_take_turns_and_textures_vary(kept: CompositeSet) -> None:
    assert kept.objects[:4] == ("chelsea", "coffee", "camera", "chelsea")
    assert len(set(kept.textures)) >= 4


def test_masks_are_their_boxes_with_exclusive_ends() -> None:
    chosen = composites(6, seed=0)
    for mask, (x0, y0, x1, y1) in zip(chosen.masks, chosen.boxes.tolist(), strict=True):
        assert 0 <= x0 < x1 <= 224
        assert 0 <= y0 < y1 <= 224
        assert mask.sum() == (x1 - x0) * (y1 - y0)
        rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x0, y0, x1, y1)


def test_only_the_box_holds_colour(unfiltered: CompositeSet) -> None:
    # Grey textures, coloured cats and cups: colour appears inside the box only, up to its edges.
    checked = 0
    for image, box, name, texture in zip(
        unfiltered.images, unfiltered.boxes, unfiltered.objects, unfiltered.textures, strict=True
    ):
        if name == "camera" or texture == "hubble_deep_field":
            continue
        coloured = (image.amax(dim=0) - image.amin(dim=0)) > 0.5 / 255
        columns = coloured.any(dim=0).nonzero().flatten()
        rows = coloured.any(dim=1).nonzero().flatten()
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert torch.equal(torch.stack(seen), box)
        checked += 1
    assert checked > 20


def test_heights_are_40_to_60_percent_and_proportions_kept(unfiltered: CompositeSet) -> None:
    widths = (unfiltered.boxes[:, 2] - unfiltered.boxes[:, 0]).double()
    heights = (unfiltered.boxes[:, 3] - unfiltered.boxes[:, 1]).double()
    assert heights.min() >= 0.4 * 224 - 0.5
    assert heights.max() <= 0.6 * 224 + 0.5
    assert heights.max() - heights.min() > 0.15 * 224
    for index, item in enumerate(OBJECTS):
        x0, y0, x1, y1 = item.crop
        expected = heights[index::3] * (x1 - x0) / (y1 - y0)
        assert (widths[index::3] - expected).abs().max() <= 0.51


def test_a_guess_at_the_centre_does_badly(unfiltered: CompositeSet) -> None:
    x0, y0, x1, y1 = unfiltered.boxes.double().unbind(dim=1)
    offset = torch.hypot((x0 + x1) / 2 - 112, (y0 + y1) / 2 - 112)
    assert offset.min() >= 0.25 * 224
    inside = (x0 <= 112) & (x1 > 112) & (y0 <= 112) & (y1 > 112)
    assert inside.double().mean() < 0.35
    for share in (0.4, 0.5, 0.6, 0.7, 1.0):
        low, high = 112 * (1 - share), 112 * (1 + share)
        overlap = (x1.clamp(max=high) - x0.clamp(min=low)).clamp(min=0)
        overlap = overlap * (y1.clamp(max=high) - y0.clamp(min=low)).clamp(min=0)
        union = (x1 - x0) * (y1 - y0) + (high - low) ** 2 - overlap
        assert (overlap / union >= 0.5).double().mean() < 0.1


def test_the_same_seed_gives_the_same_set(kept: CompositeSet, model: Classifier) -> None:
    again = composites(24, seed=3, model=model)
    for field in dataclasses.fields(CompositeSet):
        first, second = getattr(kept, field.name), getattr(again, field.name)
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    assert not torch.equal(composites(24, seed=4).boxes, composites(24, seed=3).boxes)


def test_fewer_composites_are_the_beginning_of_more(kept: CompositeSet, model: Classifier) -> None:
    fewer = composites(7, seed=3, model=model)
    for field in ("images", "boxes", "masks", "labels"):
        assert torch.equal(getattr(fewer, field), getattr(kept, field)[:7])
    assert fewer.objects == kept.objects[:7]
    assert fewer.textures == kept.textures[:7]


def test_without_a_model_nothing_is_refused(unfiltered: CompositeSet) -> None:
    assert unfiltered.rejected_share == 0
    assert unfiltered.labels[:3].tolist() == [281, 967, 872]


def test_other_sizes() -> None:
    small = composites(3, seed=0, size=64)
    assert small.images.shape == (3, 3, 64, 64)
    assert small.boxes.max() <= 64


def test_a_model_that_recognises_nothing_ends_in_an_error() -> None:
    blind = load_model("torchvision:squeezenet1_1", weights="random", device="cpu")
    with pytest.raises(InputError, match=r"found 'chelsea' in none of 60 composites at 64 px"):
        composites(3, seed=0, model=blind, size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "seed": 0}, "n 0 is not valid"),
        ({"n": 1.5, "seed": 0}, "n 1.5 is not valid"),
        ({"n": 1, "seed": -1}, "seed -1 is not valid"),
        ({"n": 1, "seed": 0, "size": 32}, "size 32 is not valid; give an integer of at least 64"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        composites(**arguments)


def test_a_model_of_other_classes_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    toy = Classifier(network, name="toy", input_size=64, labels=("a", "b", "c"), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match="model 'toy' has 3 classes"):
        composites(1, seed=0, model=toy, size=64)
