"""Objects pasted off centre on textures: images for localisation with exact masks and boxes, without a download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solvers.printing import Printed, Summary, cells, counted, image_numbers, image_shape
from solvers.validation import as_integer
from ssimpert.data.cut_outs import IMAGENET_CLASSES, CompositeObject, cut_out_pixels, named_objects, photo, tightest_box
from ssimpert.data.resizing import resize
from ssimpert.data.samples import samples
from ssimpert.errors import InputError
from ssimpert.notebook_pictures import photo_pictures
from ssimpert.validation import Names, check_count

SMALLEST_SIZE = 64
"""In pixels. On smaller images the objects are too small to be recognised."""

_DEFAULT_SIZE = 224
# All in shares of the image's side.
_OBJECT_HEIGHTS = (0.4, 0.6)
_LARGEST_OBJECT_WIDTH = 0.7
_LEAST_OFFSET = 0.25
_DISTRACTOR_SIDES = (0.25, 0.35)
# Opacity, of 255.
_HALF_OPAQUE = 128
_MAX_ATTEMPTS = 60


class LabellingModel(Protocol):
    """The attributes of a model that :func:`composites` uses; :class:`ssimpert.Classifier` has all of them.

    Attributes:
        name: what errors call the model.
        input_size: side, in pixels, of the square images that the model was made for.
        labels: the names of the K classes.
        mean: a tensor on the model's device.
    """

    name: str
    input_size: int
    labels: tuple[str, ...]
    mean: Tensor

    def predict(self, images: Tensor) -> Tensor:
        """The class of the largest logit, (B,) long, for ``images`` (B, 3, H, W) in [0, 1]."""
        ...


@dataclass(frozen=True)
class Distractors:
    """The second objects of n composites. Their classes are other classes than those of the first objects.

    Attributes:
        boxes: (n, 4) long: (x0, y0, x1, y1) in pixels, ends exclusive.
        masks: (n, S, S) bool.
        labels: (n,) long: each object's main class; no model was asked.
        objects: n names.
    """

    boxes: Tensor
    masks: Tensor
    labels: Tensor
    objects: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class CompositeSet(Printed):
    """n composites of S x S pixels.

    Attributes:
        images: (n, 3, S, S) float32 in [0, 1], multiples of 1/255.
        boxes: (n, 4) long: (x0, y0, x1, y1) in pixels, the tightest box around the mask, ends exclusive, so the width
            is x1 - x0.
        masks: (n, S, S) bool: True where the object's opacity is at least one half. Without ``cut_out`` the mask is the
            pasted rectangle. Outside the box nothing is pasted.
        labels: (n,) long: the class that the model gives, which is one of the object's right classes; without a model
            the object's main class.
        objects: n names of the pasted objects.
        textures: n names of the samples in the background.
        rejected_share: the number of composites refused by the model, divided by the number made, in [0, 1); 0 without
            a model.
        distractors: the second objects, or None without the option ``distractor``.
    """

    images: Tensor
    boxes: Tensor
    masks: Tensor
    labels: Tensor
    objects: tuple[str, ...]
    textures: tuple[str, ...]
    rejected_share: float
    distractors: Distractors | None = None

    def summary(self) -> Summary:
        """What the set prints: the objects of the first composites, and where they are."""
        images = len(self.objects)
        return Summary(
            f"CompositeSet of {counted(images)}, {image_shape(self.images)}, rejected share {self.rejected_share:.3g}",
            {
                "image": image_numbers(images),
                "object": cells(self.objects),
                "label": cells(self.labels),
                "box (x0, y0, x1, y1)": cells(self.boxes),
                "texture": cells(self.textures),
            },
            images,
            [] if self.distractors is None else ["with a second object of another class in each"],
        )

    def _repr_html_(self) -> str:
        return super()._repr_html_() + photo_pictures(self.images, self.objects)


@dataclass(frozen=True)
class _Pasted:
    """An object in a composite: which object, its box (x0, y0, x1, y1) in pixels, and its mask (S, S)."""

    item: CompositeObject
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Composite:
    """One composite: ``image`` (1, 3, S, S), what is pasted, its label, and the name of the texture."""

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
    objects: Names | None = None,
    cut_out: bool = True,
    distractor: bool = False,
) -> CompositeSet:
    """``n`` composites: sample objects in turn, each cut out and pasted on a random piece of a texture photo.

    An object is 40 to 60% of the image high, or up to 70% wide if that is less. The object lies wholly inside the
    image. The centre of its box is at least 25% of the image's side away from the image's centre, so a guess at the
    centre does badly. The cut-out and its opacity are resized together (bicubic with antialiasing, colours weighted by
    opacity). So the object's edge blends with the texture over about a pixel, and nothing of the object's old
    surroundings is pasted.

    A composite is kept only if its largest logit belongs to a right class of its object. A refused composite is drawn
    again with the same object. Composite i depends on ``seed``, ``i``, ``size``, the options and the model alone. So
    sets of different ``n`` begin with the same composites.

    Args:
        n: how many composites, at least 1.
        seed: a non-negative integer.
        model: an ImageNet-1k classifier, or None (default) to keep all composites.
        size: side S in pixels, at least 64. Default: the model's input size; 224 without a model.
        objects: names among chelsea, coffee, camera, motorcycle and shuttle, in the order of their turns; default all.
        cut_out: False pastes each object's rectangle, with the few pixels around the object, and the mask is this
            rectangle.
        distractor: True also pastes a second object, chosen at random among those of ``objects`` that share no class
            with the first. Its longer side is 25 to 35% of the image's side, and its box is disjoint from the first
            object's box. The label is still the first object's.

    Returns:
        The set, on the CPU.

    Raises:
        InputError: an argument is out of range, an object is unknown, no two objects of different classes remain for a
            distractor, the model has not ImageNet's 1000 classes, or it recognises an object in none of 60 attempts.
    """
    if size is None:
        if model is not None and as_integer(getattr(model, "input_size", None)) is None:
            raise InputError(f"model must be a Classifier, as load_model returns, or None, got {model!r}")
        size = _DEFAULT_SIZE if model is None else model.input_size
    n, seed, size = check_count("n", n), check_count("seed", seed, 0), check_count("size", size, SMALLEST_SIZE)
    _check_classes(model)
    items = named_objects(objects)
    rivals = {
        item.name: tuple(other for other in items if not set(other.classes) & set(item.classes)) for item in items
    }
    if distractor and not all(rivals.values()):
        names = tuple(item.name for item in items)
        raise InputError(f"objects {names!r} leave no distractor of another class; name at least two")

    kept_composites: list[_Composite] = []
    made_count = 0
    for index in range(n):
        item = items[index % len(items)]
        composite, attempts = _first_kept(
            item, rivals[item.name] if distractor else (), cut_out, size, seed, index, model
        )
        kept_composites.append(composite)
        made_count += attempts
    return _joined(kept_composites, (made_count - n) / made_count)


def composite_at(index: int, seed: int = 0, *, size: int = _DEFAULT_SIZE, objects: Names | None = None) -> CompositeSet:
    """Composite ``index`` alone, as a set of one: the same as in ``composites(n, seed, size=size, objects=objects)``.

    Args:
        index: of the composite, from 0.
        seed: a non-negative integer.
        size: side S in pixels, at least 64. Default 224.
        objects: as in :func:`composites`.

    Raises:
        InputError: an argument is out of range, or an object is unknown.
    """
    index, seed = check_count("index", index, 0), check_count("seed", seed, 0)
    size = check_count("size", size, SMALLEST_SIZE)
    items = named_objects(objects)
    composite, _ = _first_kept(items[index % len(items)], (), True, size, seed, index, None)
    return _joined([composite], 0.0)


def _first_kept(
    item: CompositeObject,
    rivals: Sequence[CompositeObject],
    cut_out: bool,
    size: int,
    seed: int,
    index: int,
    model: LabellingModel | None,
) -> tuple[_Composite, int]:
    """The first composite ``index`` that the model recognises, and how many attempts it took."""
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng([seed, index, attempt])
        composite = _compose(item, rivals, cut_out, size, rng, model)
        if composite.label in item.classes:
            return composite, attempt + 1
    name = model.name if model is not None else "none"
    raise InputError(
        f"model {name!r} found {item.name!r} in none of {_MAX_ATTEMPTS} composites at {size} px "
        f"(composite {index}); use a trained ImageNet classifier, other objects, or model=None"
    )


def _joined(kept_composites: Sequence[_Composite], rejected_share: float) -> CompositeSet:
    distractors = [composite.distractor for composite in kept_composites if composite.distractor is not None]
    return CompositeSet(
        images=torch.cat([composite.image for composite in kept_composites]),
        boxes=_boxes([composite.object for composite in kept_composites]),
        masks=_masks([composite.object for composite in kept_composites]),
        labels=torch.tensor([composite.label for composite in kept_composites]),
        objects=tuple(composite.object.item.name for composite in kept_composites),
        textures=tuple(composite.texture for composite in kept_composites),
        rejected_share=rejected_share,
        distractors=Distractors(
            boxes=_boxes(distractors),
            masks=_masks(distractors),
            labels=torch.tensor([pasted.item.classes[0] for pasted in distractors]),
            objects=tuple(pasted.item.name for pasted in distractors),
        )
        if distractors
        else None,
    )


def _boxes(pasted: Sequence[_Pasted]) -> Tensor:
    return torch.tensor([each.box for each in pasted])


def _masks(pasted: Sequence[_Pasted]) -> Tensor:
    return torch.from_numpy(np.stack([each.mask for each in pasted]))


def _check_classes(model: LabellingModel | None) -> None:
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
    patch = _resized(
        source, size * rng.uniform(_OBJECT_HEIGHTS[0], min(_OBJECT_HEIGHTS[1], _LARGEST_OBJECT_WIDTH / aspect))
    )
    # The corners are always far enough from the centre: the nearest object is a 0.62 x 0.6 cup, 0.27 of the side away.
    pasted = _paste(item, patch, pixels, _off_centre(patch, size), rng)
    distractor = None
    if rivals:
        rival = rivals[int(rng.integers(len(rivals)))]
        source = _source(rival, cut_out)
        aspect = source.shape[1] / source.shape[0]
        patch = _resized(source, size * rng.uniform(*_DISTRACTOR_SIDES) / max(1.0, aspect))
        # There is room: the object is so far off centre that opposite of it a strip of 0.36 of the side or more is
        # free.
        distractor = _paste(rival, patch, pixels, _clear_of(pasted.box, patch, size), rng)

    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).contiguous().float() / 255
    # One image at a time: in a batch, rounding may depend on the batch's size, and so may the choice of what is kept.
    label = item.classes[0] if model is None else int(model.predict(image.to(model.mean.device)))
    return _Composite(image, pasted, distractor, label, texture)


def _background(picture: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square piece of ``picture``, at least half its shorter side, mirrored at random, resized to S x S."""
    height, width = picture.shape[:2]
    side = int(rng.integers(min(height, width) // 2, min(height, width) + 1))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    piece = picture[y : y + side, x : x + side]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    return resize(np.ascontiguousarray(piece), size, size).copy()


def _source(item: CompositeObject, cut_out: bool) -> NDArray[np.uint8]:
    """The pixels to paste: (h, w, 4) with opacity, or the rectangle (h, w, 3)."""
    if cut_out:
        return cut_out_pixels(item)
    left, top, right, bottom = item.crop
    return photo(item.photo)[top:bottom, left:right]


def _resized(source: NDArray[np.uint8], height: float) -> NDArray[np.uint8]:
    """``source`` resized to ``height`` (rounded) with its proportions, cut to the tightest box of opaque pixels."""
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
    """Blend ``patch`` into ``pixels`` (S, S, 3), in place; its upper left corner is drawn at random from ``places``."""
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
        # In whole numbers, so that opacity 0 leaves the texture exactly, and 255 gives the object exactly.
        opacity = patch[:, :, 3:].astype(np.int32)
        pixels[region] = (opacity * patch[:, :, :3] + (255 - opacity) * pixels[region] + 127) // 255
        mask[region] = patch[:, :, 3] >= _HALF_OPAQUE
    return _Pasted(item, box, mask)


def _off_centre(patch: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    """[y0, x0]: True at the upper left corners that put the patch's centre far enough from the image's centre."""
    height, width = patch.shape[:2]
    xs, ys = np.arange(size - width + 1), np.arange(size - height + 1)
    distance = np.hypot(xs[None, :] + width / 2 - size / 2, ys[:, None] + height / 2 - size / 2)
    return np.asarray(distance >= _LEAST_OFFSET * size)


def _clear_of(box: tuple[int, int, int, int], patch: NDArray[np.uint8], size: int) -> NDArray[np.bool_]:
    """[y0, x0]: True at the upper left corners that put the patch beside, above or below ``box``."""
    height, width = patch.shape[:2]
    xs, ys = np.arange(size - width + 1)[None, :], np.arange(size - height + 1)[:, None]
    beside = (xs + width <= box[0]) | (xs >= box[2])
    return np.asarray(beside | (ys + height <= box[1]) | (ys >= box[3]))
