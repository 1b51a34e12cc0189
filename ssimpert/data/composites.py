"""Objects pasted off centre on textures: a localisation set with exact boxes that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimpert.data.resizing import resize
from ssimpert.data.samples import sample_array, samples
from ssimpert.errors import InputError
from ssimpert.models.classifier import Classifier
from ssimpert.models.labels import IMAGENET_CLASSES

SMALLEST_SIZE = 64
"""Pixels. Below this the objects are too small to be recognised."""

_DEFAULT_SIZE = 224
_HEIGHTS = (0.4, 0.6)
_LEAST_OFFSET = 0.25
_MOST_ATTEMPTS = 60


@dataclass(frozen=True)
class CompositeObject:
    """A sample photo's part that is pasted.

    Attributes:
        name: the sample's name.
        crop: (x0, y0, x1, y1) in the sample's pixels, ends exclusive: the object, with little around it.
        classes: ImageNet-1k classes that name it rightly; the first is its main class.
    """

    name: str
    crop: tuple[int, int, int, int]
    classes: tuple[int, ...]


OBJECTS = (
    # A tabby: tabby, tiger cat and Egyptian cat (ImageNet's three short-haired striped cats) are all right.
    CompositeObject("chelsea", (90, 0, 360, 300), (281, 282, 285)),
    # Espresso in a cup: espresso, cup and coffee mug.
    CompositeObject("coffee", (150, 0, 430, 400), (967, 504, 968)),
    # The camera on its tripod, with the photographer's hands and arms; without the rest of him.
    CompositeObject("camera", (215, 110, 405, 512), (872,)),
)


@dataclass(frozen=True)
class CompositeSet:
    """n composites of S x S pixels.

    Attributes:
        images: (n,3,S,S) float32 in [0, 1], on the 1/255 grid.
        boxes: (n,4) long: (x0, y0, x1, y1) of the pasted rectangle, ends exclusive, so width = x1 - x0.
        masks: (n,S,S) bool: True on the pasted rectangle.
        labels: (n,) long: the class that the model gives, one of the object's right ones; without a model the
            object's main class.
        objects: n names of the pasted sample.
        textures: n names of the background sample.
        rejected_share: composites refused by the model, divided by all that were made, in [0, 1); 0 without a
            model.
    """

    images: Tensor
    boxes: Tensor
    masks: Tensor
    labels: Tensor
    objects: tuple[str, ...]
    textures: tuple[str, ...]
    rejected_share: float


@dataclass(frozen=True)
class _Composite:
    image: Tensor
    box: tuple[int, int, int, int]
    label: int
    texture: str


def composites(n: int, seed: int, model: Classifier | None = None, size: int | None = None) -> CompositeSet:
    """``n`` composites: a cat, a cup and a camera in turn, each pasted on a random piece of a texture photo.

    The pasted rectangle is 40 to 60% of the image high, lies wholly inside, and its centre is at least 25% of
    the image's side away from the image's centre: a guess at the centre does badly. Only composites whose
    largest logit belongs to a right class of their object are kept; refused ones are drawn again with the
    same object. Composite i depends on ``seed``, ``i``, ``size`` and the model alone: fewer or more
    composites share their beginning.

    Args:
        n: how many, at least 1.
        seed: non-negative integer.
        model: an ImageNet-1k classifier, or None (default) to keep everything.
        size: side S in pixels, at least 64; default the model's input size, 224 without a model.

    Returns:
        The set, on the CPU.

    Raises:
        InputError: an argument out of range, a model without ImageNet's 1000 classes, or one that recognises
            an object in none of 60 attempts.
    """
    if size is None:
        size = _DEFAULT_SIZE if model is None else model.input_size
    _check(n, seed, model, size)
    textures = tuple(sample.name for sample in samples() if sample.kind == "texture")
    photos = {name: sample_array(name) for name in (*textures, *(item.name for item in OBJECTS))}

    kept: list[_Composite] = []
    made = 0
    for index in range(n):
        item = OBJECTS[index % len(OBJECTS)]
        for attempt in range(_MOST_ATTEMPTS):
            made += 1
            rng = np.random.default_rng([seed, index, attempt])
            composite = _compose(item, textures, photos, size, rng, model)
            if composite.label in item.classes:
                kept.append(composite)
                break
        else:
            name = model.name if model is not None else "none"
            raise InputError(
                f"model {name!r} found {item.name!r} in none of {_MOST_ATTEMPTS} composites at {size} px "
                f"(composite {index}); use a trained ImageNet classifier, or model=None"
            )

    masks = torch.zeros(n, size, size, dtype=torch.bool)
    for mask, composite in zip(masks, kept, strict=True):
        x0, y0, x1, y1 = composite.box
        mask[y0:y1, x0:x1] = True
    return CompositeSet(
        images=torch.cat([composite.image for composite in kept]),
        boxes=torch.tensor([composite.box for composite in kept]),
        masks=masks,
        labels=torch.tensor([composite.label for composite in kept]),
        objects=tuple(OBJECTS[index % len(OBJECTS)].name for index in range(n)),
        textures=tuple(composite.texture for composite in kept),
        rejected_share=(made - n) / made,
    )


def _check(n: int, seed: int, model: Classifier | None, size: int) -> None:
    for what, value, least in (("n", n, 1), ("seed", seed, 0), ("size", size, SMALLEST_SIZE)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{what} {value!r} is not valid; give an integer of at least {least}")
    if model is not None and len(model.labels) != IMAGENET_CLASSES:
        raise InputError(
            f"model {model.name!r} has {len(model.labels)} classes; composites need one of ImageNet's "
            f"{IMAGENET_CLASSES}, or model=None"
        )


def _compose(
    item: CompositeObject,
    textures: Sequence[str],
    photos: dict[str, NDArray[np.uint8]],
    size: int,
    rng: np.random.Generator,
    model: Classifier | None,
) -> _Composite:
    texture = textures[int(rng.integers(len(textures)))]
    pixels = _background(photos[texture], size, rng)

    left, top, right, bottom = item.crop
    patch = photos[item.name][top:bottom, left:right]
    height = round(size * rng.uniform(*_HEIGHTS))
    width = round(height * (right - left) / (bottom - top))
    x0, y0 = _place(width, height, size, rng)
    pixels[y0 : y0 + height, x0 : x0 + width] = resize(patch, height, width)

    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).contiguous().float() / 255
    # One image at a time: in a batch, rounding may depend on the batch's size, and with it what is kept.
    label = item.classes[0] if model is None else int(model.predict(image.to(model.mean.device)))
    return _Composite(image, (x0, y0, x0 + width, y0 + height), label, texture)


def _background(photo: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square piece of ``photo``, at least half its shorter side and mirrored at random, at S x S."""
    height, width = photo.shape[:2]
    side = int(rng.integers(min(height, width) // 2, min(height, width) + 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    piece = photo[y : y + side, x : x + side]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return resize(np.ascontiguousarray(piece), size, size).copy()


def _place(width: int, height: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """The upper left corner (x0, y0), uniform among those that put the rectangle off centre."""
    xs, ys = np.arange(size - width + 1), np.arange(size - height + 1)
    distance = np.hypot(xs[None, :] + width / 2 - size / 2, ys[:, None] + height / 2 - size / 2)
    # The corners always qualify: the tallest rectangle, a 0.54 x 0.6 cat, gets 0.3 of the side away.
    rows, columns = np.nonzero(distance >= _LEAST_OFFSET * size)
    choice = int(rng.integers(len(rows)))
    return int(columns[choice]), int(rows[choice])
