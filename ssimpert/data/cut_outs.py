"""Objects in the sample photos, cut out along outlines that are part of the package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from solvers.validation import shown
from ssimpert.data.samples import sample_array
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import Names, check_names

Polygon = Sequence[tuple[float, float]]

# The number of classes of ImageNet-1k. The objects' classes are given by their numbers there.
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class CompositeObject:
    """An object in a sample photo, to be pasted elsewhere.

    Attributes:
        name: the object's name. It is the photo's name where the photo is named after the object.
        photo: the sample that shows the object.
        crop: (x0, y0, x1, y1) in the photo's pixels, ends exclusive: a rectangle around the object, with few other
            pixels.
        classes: ImageNet-1k classes that name the object rightly; the first is its main class.
    """

    name: str
    photo: str
    crop: tuple[int, int, int, int]
    classes: tuple[int, ...]


OBJECTS = (
    # The head. A tabby: tabby, tiger cat and Egyptian cat (ImageNet's three short-haired striped cats) are all right.
    CompositeObject("chelsea", "chelsea", (90, 0, 360, 300), (281, 282, 285)),
    # Espresso in a cup: espresso, cup and coffee mug. The cut-out contains the saucer and the spoon.
    CompositeObject("coffee", "coffee", (150, 0, 430, 400), (967, 504, 968)),
    # The camera on its tripod. The rectangle also contains the photographer's hands and arms, and no more of him.
    CompositeObject("camera", "camera", (215, 110, 405, 512), (872,)),
    # ImageNet-1k has no motorcycle; its motorised two-wheelers are moped and motor scooter.
    CompositeObject("motorcycle", "motorcycle", (85, 60, 695, 460), (665, 670)),
    # The model of a space shuttle with tank and boosters that stands beside the astronaut.
    CompositeObject("shuttle", "astronaut", (345, 0, 480, 292), (812,)),
)


def named_objects(names: Names | None) -> tuple[CompositeObject, ...]:
    """The objects called ``names``, in that order; all objects for None.

    Raises:
        InputError: no object has such a name, there is no name, or ``names`` is a string instead of a sequence.
    """
    if names is None:
        return OBJECTS
    objects = {item.name: item for item in OBJECTS}
    if isinstance(names, str):
        raise InputError(f"objects {names!r} is a string; give a sequence of names, as ({names!r},)")
    chosen = check_names("objects", names)
    if not chosen:
        raise InputError(f"objects {shown(names)} names none; known: {', '.join(objects)}")
    for name in chosen:
        if name not in objects:
            raise unknown_name("object", str(name), objects)
    return tuple(objects[name] for name in chosen)


@cache
def photo(name: str) -> NDArray[np.uint8]:
    """The sample ``name`` (H, W, 3), decoded once. The array is read-only."""
    pixels = sample_array(name)
    pixels.flags.writeable = False
    return pixels


@cache
def object_mask(item: CompositeObject) -> NDArray[np.bool_]:
    """(H, W) bool in the object's photo: the pixels whose centre lies within the object's outline. Read-only.

    The outline is the union of its parts, without its holes. Parts and holes are polygons. Their vertices (x, y) are in
    pixels from the photo's upper left corner, so that pixel (column, row) covers [column, column + 1) x
    [row, row + 1). The outline follows the object to within 2 or 3 pixels. Four outlines were drawn by hand. The
    motorcycle's outline comes from the photo's disparity map: everything nearer than bench and shelf and above the
    floor's plane. Front indicator, right lever and the foot of the stand are missing in that map and were drawn.
    """
    outline = _outlines()[item.name]
    shape = photo(item.photo).shape[:2]
    mask: NDArray[np.bool_] = _union(outline["parts"], shape) & ~_union(outline["holes"], shape)
    mask.flags.writeable = False
    return mask


@cache
def cut_out_pixels(item: CompositeObject) -> NDArray[np.uint8]:
    """(h, w, 4): red, green, blue and opacity (255 on the object, else 0) in the object's tightest box. Read-only."""
    mask = object_mask(item)
    x0, y0, x1, y1 = tightest_box(mask)
    opacity = np.where(mask, 255, 0).astype(np.uint8)
    pixels = np.dstack([photo(item.photo), opacity])[y0:y1, x0:x1].copy()
    pixels.flags.writeable = False
    return pixels


def tightest_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) around the True pixels of ``mask`` (H, W), ends exclusive. At least one pixel must be True."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@cache
def _outlines() -> dict[str, dict[str, list[Polygon]]]:
    text = (files("ssimpert.data") / "outlines.json").read_text(encoding="utf-8")
    outlines: dict[str, dict[str, list[Polygon]]] = json.loads(text)
    return outlines


def _union(polygons: Iterable[Polygon], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    from skimage.draw import polygon2mask

    mask = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        # polygon2mask takes (row, column) and puts pixel centres on the integers.
        mask |= polygon2mask(shape, np.asarray(polygon)[:, ::-1] - 0.5)
    return mask
