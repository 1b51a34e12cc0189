"""Objects pasted off centre on textures: a localisation set with exact masks and boxes that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssimpert.data.cut_outs import IMAGENET_CLASSES, CompositeObject, cut_out_pixels, named_objects, photo, tightest_box
from ssimpert.data.resizing import resize
from ssimpert.data.samples import samples
from ssimpert.errors import InputError
from ssimpert.validation import check_count

SMALLEST_SIZE = 64
"""Pixels. Below this the objects are too small to be recognised."""

_DEFAULT_SIZE = 224
_HEIGHTS = (0.4, 0.6)
_LARGEST_WIDTH = 0.7
_LEAST_OFFSET = 0.25
_DISTRACTOR_SIDES = (0.25, 0.35)
_HALF_OPAQUE = 128
_MOST_ATTEMPTS = 60


class LabellingModel(Protocol):
    """What :func:`composites` uses of a model; :class:`ssimpert.Classifier` has all of it.

    Attributes:
        name: the name that errors give it.
        input_size: side, in pixels, of the square images that it was made for.
        labels: the names of its K classes.
        mean: a tensor on the device that the model is on.
    """

    name: str
    input_size: int
    labels: tuple[str, ...]
    mean: Tensor

    def predict(self, images: Tensor) -> Tensor:
        """The class of largest logit, (B,) long, for ``images`` (B, 3, H, W) in [0, 1]."""
        ...


@dataclass(frozen=True)
class Distractors:
    """The second objects of n composites, of other classes than the first.

    Attributes:
        boxes: (n,4) long: (x0, y0, x1, y1), ends exclusive.
        masks: (n,S,S) bool.
        labels: (n,) long: each one's main class; no model was asked.
        objects: n names.
    """

    boxes: Tensor
    masks: Tensor
    labels: Tensor
    objects: tuple[str, ...]


@dataclass(frozen=True)
class CompositeSet:
    """n composites of S x S pixels.

    Attributes:
        images: (n,3,S,S) float32 in [0, 1], on the 1/255 grid.
        boxes: (n,4) long: (x0, y0, x1, y1), the tightest box around the mask, ends exclusive, so width = x1 - x0.
        masks: (n,S,S) bool: True where the object's opacity is at least one half, so where it outweighs the
            texture; the pasted rectangle without ``cut_out``. Outside the box nothing is pasted.
        labels: (n,) long: the class that the model gives, one of the object's right ones; without a model the
            object's main class.
        objects: n names of the pasted object.
        textures: n names of the background sample.
        rejected_share: composites refused by the model, divided by all that were made, in [0, 1); 0 without a
            model.
        distractors: the second objects, or None if none were asked for.
    """

    images: Tensor
    boxes: Tensor
    masks: Tensor
    labels: Tensor
    objects: tuple[str, ...]
    textures: tuple[str, ...]
    rejected_share: float
    distractors: Distractors | None = None


@dataclass(frozen=True)
class _Pasted:
    item: CompositeObject
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Composite:
    image: Tensor
    object: _Pasted
    distractor: _Pasted | None
    label: int
    texture: str


def composites(
    n: int,
    seed: int,
    model: LabellingModel | None = None,
    size: int | None = None,
    *,
    objects: Sequence[str] | None = None,
    cut_out: bool = True,
    distractor: bool = False,
) -> CompositeSet:
    """``n`` composites: sample objects in turn, each cut out and pasted on a random piece of a texture photo.

    An object is 40 to 60% of the image high, or up to 70% wide if that is less; it lies wholly inside, and the
    centre of its box is at least 25% of the image's side away from the image's centre: a guess at the centre
    does badly. The cut-out and its opacity are resized together (bicubic with antialiasing, colours weighted
    by opacity), so the object's edge blends with the texture over about a pixel and carries nothing of its
    old surroundings.

    Only composites whose largest logit belongs to a right class of their object are kept; refused ones are
    drawn again with the same object. Composite i depends on ``seed``, ``i``, ``size``, the options and the
    model alone: fewer or more composites share their beginning.

    Args:
        n: how many, at least 1.
        seed: non-negative integer.
        model: an ImageNet-1k classifier, or None (default) to keep everything.
        size: side S in pixels, at least 64; default the model's input size, 224 without a model.
        objects: names among chelsea, coffee, camera, motorcycle and shuttle, in the order of their
            turns; default all.
        cut_out: False pastes each object's rectangle, with what little surrounds it there, as its mask.
        distractor: True also pastes a second object, chosen at random among those of ``objects`` that share no
            class with the first: its longer side is 25 to 35% of the image's, and its box is disjoint from the
            first one's. The label is still the first object's.

    Returns:
        The set, on the CPU.

    Raises:
        InputError: an argument out of range, an unknown object, no two objects of different classes for a
            distractor, a model without ImageNet's 1000 classes, or one that recognises an object in none of
            60 attempts.
    """
    if size is None:
        if model is not None and not isinstance(getattr(model, "input_size", None), int):
            raise InputError(f"model must be a Classifier, as load_model returns, or None, got {model!r}")
        size = _DEFAULT_SIZE if model is None else model.input_size
    _check(n, seed, model, size)
    items = named_objects(objects)
    rivals = {
        item.name: tuple(other for other in items if not set(other.classes) & set(item.classes)) for item in items
    }
    if distractor and not all(rivals.values()):
        raise InputError(f"objects {tuple(objects or ())!r} leave no distractor of another class; name at least two")

    kept: list[_Composite] = []
    made = 0
    for index in range(n):
        item = items[index % len(items)]
        for attempt in range(_MOST_ATTEMPTS):
            made += 1
            rng = np.random.default_rng([seed, index, attempt])
            composite = _compose(item, rivals[item.name] if distractor else (), cut_out, size, rng, model)
            if composite.label in item.classes:
                kept.append(composite)
                break
        else:
            name = model.name if model is not None else "none"
            raise InputError(
                f"model {name!r} found {item.name!r} in none of {_MOST_ATTEMPTS} composites at {size} px "
                f"(composite {index}); use a trained ImageNet classifier, other objects, or model=None"
            )

    seconds = [composite.distractor for composite in kept if composite.distractor is not None]
    return CompositeSet(
        images=torch.cat([composite.image for composite in kept]),
        boxes=_boxes([composite.object for composite in kept]),
        masks=_masks([composite.object for composite in kept]),
        labels=torch.tensor([composite.label for composite in kept]),
        objects=tuple(composite.object.item.name for composite in kept),
        textures=tuple(composite.texture for composite in kept),
        rejected_share=(made - n) / made,
        distractors=Distractors(
            boxes=_boxes(seconds),
            masks=_masks(seconds),
            labels=torch.tensor([second.item.classes[0] for second in seconds]),
            objects=tuple(second.item.name for second in seconds),
        )
        if seconds
        else None,
    )


def _boxes(pasted: Sequence[_Pasted]) -> Tensor:
    return torch.tensor([each.box for each in pasted])


def _masks(pasted: Sequence[_Pasted]) -> Tensor:
    return torch.from_numpy(np.stack([each.mask for each in pasted]))


def _check(n: int, seed: int, model: LabellingModel | None, size: int) -> None:
    for name, value, minimum in (("n", n, 1), ("seed", seed, 0), ("size", size, SMALLEST_SIZE)):
        check_count(name, int(value) if isinstance(value, np.integer) else value, minimum)
    if model is not None and len(model.labels) != IMAGENET_CLASSES:
        raise InputError(
            f"model {model.name!r} has {len(model.labels)} classes; composites need one of ImageNet's "
            f"{IMAGENET_CLASSES}, or model=None"
        )


def _compose(
    item: CompositeObject,
    rivals: Sequence[CompositeObject],
    cut_out: bool,
    size: int,
    rng: np.random.Generator,
    model: LabellingModel | None,
) -> _Composite:
    textures = tuple(sample.name for sample in samples() if sample.kind == "texture")
    texture = textures[int(rng.integers(len(textures)))]
    pixels = _background(photo(texture), size, rng)

    source = _source(item, cut_out)
    aspect = source.shape[1] / source.shape[0]
    patch = _resized(source, size * rng.uniform(_HEIGHTS[0], min(_HEIGHTS[1], _LARGEST_WIDTH / aspect)))
    # The corners always qualify: among the objects, the nearest is a 0.62 x 0.6 cup, 0.27 of the side away.
    first = _paste(item, patch, pixels, _off_centre(patch, size), rng)
    second = None
    if rivals:
        rival = rivals[int(rng.integers(len(rivals)))]
        source = _source(rival, cut_out)
        aspect = source.shape[1] / source.shape[0]
        patch = _resized(source, size * rng.uniform(*_DISTRACTOR_SIDES) / max(1.0, aspect))
        # There is room: opposite an object so far off centre, a strip of 0.36 of the side or more is free.
        second = _paste(rival, patch, pixels, _clear_of(first.box, patch, size), rng)

    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).contiguous().float() / 255
    # One image at a time: in a batch, rounding may depend on the batch's size, and with it what is kept.
    label = item.classes[0] if model is None else int(model.predict(image.to(model.mean.device)))
    return _Composite(image, first, second, label, texture)


def _background(picture: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square piece of ``picture``, at least half its shorter side and mirrored at random, at S x S."""
    height, width = picture.shape[:2]
    side = int(rng.integers(min(height, width) // 2, min(height, width) + 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    piece = picture[y : y + side, x : x + side]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return resize(np.ascontiguousarray(piece), size, size).copy()


def _source(item: CompositeObject, cut_out: bool) -> NDArray[np.uint8]:
    """What is pasted: (h,w,4) with opacity, or the rectangle (h,w,3)."""
    if cut_out:
        return cut_out_pixels(item)
    left, top, right, bottom = item.crop
    return photo(item.photo)[top:bottom, left:right]


def _resized(source: NDArray[np.uint8], height: float) -> NDArray[np.uint8]:
    """``source`` at ``height``, rounded, proportions kept; cut to the tightest box of what is half opaque."""
    rows = round(height)
    patch = resize(source, rows, round(rows * source.shape[1] / source.shape[0]))
    if patch.shape[2] == 3:
        return patch
    x0, y0, x1, y1 = tightest_box(patch[:, :, 3] >= _HALF_OPAQUE)
    return patch[y0:y1, x0:x1]


def _paste(
    item: CompositeObject,
    patch: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
    places: NDArray[np.bool_],
    rng: np.random.Generator,
) -> _Pasted:
    """Blend ``patch`` into ``pixels`` (S,S,3), in place, with its upper left corner uniform among ``places``."""
    ys, xs = np.nonzero(places)
    choice = int(rng.integers(len(ys)))
    x0, y0 = int(xs[choice]), int(ys[choice])
    box = (x0, y0, x0 + patch.shape[1], y0 + patch.shape[0])
    region = (slice(box[1], box[3]), slice(box[0], box[2]))
    mask = np.zeros(pixels.shape[:2], dtype=bool)
    if patch.shape[2] == 3:
        pixels[region] = patch
        mask[region] = True
    else:
        # Whole numbers: opacity 0 leaves the texture exactly, 255 gives the object exactly.
        opacity = patch[:, :, 3:].astype(np.int32)
        pixels[region] = (opacity * patch[:, :, :3] + (255 - opacity) * pixels[region] + 127) // 255
        mask[region] = patch[:, :, 3] >= _HALF_OPAQUE
    return _Pasted(item, box, mask)


def _off_centre(patch: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    """[y0, x0]: the corners that put the patch's centre far enough from the image's."""
    height, width = patch.shape[:2]
    xs, ys = np.arange(size - width + 1), np.arange(size - height + 1)
    distance = np.hypot(xs[None, :] + width / 2 - size / 2, ys[:, None] + height / 2 - size / 2)
    return np.asarray(distance >= _LEAST_OFFSET * size)


def _clear_of(box: tuple[int, int, int, int], patch: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    """[y0, x0]: the corners that put the patch beside, above or below ``box``."""
    height, width = patch.shape[:2]
    xs, ys = np.arange(size - width + 1)[None, :], np.arange(size - height + 1)[:, None]
    beside = (xs + width <= box[0]) | (xs >= box[2])
    return np.asarray(beside | (ys + height <= box[1]) | (ys >= box[3]))
