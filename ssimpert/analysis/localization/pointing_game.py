"""The pointing game: does the map's highest pixel lie on the object?

Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016 (journal version IJCV 2018), as TorchRay
runs it (``torchray.benchmark.pointing_game``). Each pair of an image and a class in that image is one trial. A trial
hits if some pixel of the object's mask lies at a squared distance below tolerance^2 = 15^2 from the map's highest
pixel. The accuracy is the mean over classes of hits/trials.

A map that is constant or not finite has no highest pixel and points nowhere. Such a map is named with its reason, and
in the accuracy its trial is a miss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.analysis.localization.object_masks import TOLERANCE, check_masks, dilated_masks, hits_mask
from ssimpert.analysis.localization.pointing_result import PointingResult
from ssimpert.errors import InputError
from ssimpert.validation import check_count, check_maps, check_positive

LARGEST_DIFFICULT_SHARE = 0.25


def pointing_game(
    maps: Tensor,
    masks: Tensor,
    categories: Tensor,
    *,
    tolerance: float = TOLERANCE,
    difficult: Tensor | None = None,
) -> PointingResult:
    """Play the game with saliency maps, one trial for each map.

    Args:
        maps: (N, h, w), float32 or float64. The maps are resized bilinearly (``align_corners=False``) to the size of
            the masks.
        masks: (N, H, W) bool, all objects of the class in the image: the union of the objects' boxes
            (:func:`ssimpert.analysis.localization.boxes.box_masks`), or their segmentation. On the device of ``maps``.
        categories: (N,) int64, the class of each trial.
        tolerance: pixels, above 0, default 15: a mask pixel at distance 14 hits, and one at distance 15 misses. With a
            tolerance of 1 or less only the mask itself hits.
        difficult: (N,) bool, the difficult subset (:func:`difficult_pairs`); default ``None``: not given.

    Raises:
        InputError: shapes, types or devices that do not fit; a mask without a pixel; a tolerance that is not positive.
    """
    check_maps("maps", maps)
    if maps.numel() == 0:
        raise InputError(f"maps must not be empty, got shape {tuple(maps.shape)}")
    _check_trials(masks, len(maps), categories, difficult)
    tolerance = check_positive("tolerance", tolerance)
    if maps.device != masks.device:
        raise InputError(f"maps are on {maps.device}, masks on {masks.device}; bring both to one device")
    reasons = degenerate_reasons(maps)
    height, width = masks.shape[-2:]
    points = highest_points(maps, height, width)
    points[~ranks_pixels(reasons, maps.device)] = float("nan")
    return _result_of_points(points, masks, categories, tolerance, difficult, reasons)


def point_game(
    points: Tensor,
    masks: Tensor,
    categories: Tensor,
    *,
    tolerance: float = TOLERANCE,
    difficult: Tensor | None = None,
) -> PointingResult:
    """Play the game with points that come from no map.

    Args:
        points: (N, 2), (x, y) in pixels, finite.
        masks, categories, tolerance, difficult: as for :func:`pointing_game`.

    Raises:
        InputError: as :func:`pointing_game`, and points that are not finite.
    """
    if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise InputError(f"points must have shape (N, 2), got {got}")
    if not bool(points.isfinite().all()):
        raise InputError(f"points must be finite, got {points[~points.isfinite().all(dim=1)][0].tolist()}")
    _check_trials(masks, len(points), categories, difficult)
    tolerance = check_positive("tolerance", tolerance)
    return _result_of_points(
        points.to(masks.device, torch.float64), masks, categories, tolerance, difficult, (None,) * len(points)
    )


def highest_points(maps: Tensor, height: int, width: int) -> Tensor:
    """(x, y) of each map's highest pixel after resizing to height x width: (N, h, w) -> (N, 2) float64.

    Resizing is bilinear, ``align_corners=False``. Among equal values the first pixel in row-major order is taken.
    """
    resized = maps
    if maps.shape[-2:] != (height, width):
        resized = interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    highest = resized.flatten(1).argmax(dim=1)
    return torch.stack([highest % width, highest // width], dim=1).double()


def centre_points(count: int, height: int, width: int) -> Tensor:
    """The middle of the image for each trial, (N, 2) float64: the baseline (width/2, height/2) of TorchRay.

    Raises:
        InputError: a count that is no integer from 0, or a side that is no integer from 1.
    """
    count = check_count("count", count, 0)
    height, width = check_count("height", height), check_count("width", width)
    return torch.tensor([[width / 2, height / 2]], dtype=torch.float64).repeat(count, 1)


def chance_of_hit(masks: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """The probability that a pixel drawn uniformly from the image hits: (N, H, W) bool -> (N,) float64.

    This is the exact share of the pixels that lie within ``tolerance`` pixels (default 15) of the mask.

    Raises:
        InputError: masks that are not bool or have no pixel; a tolerance that is not positive.
    """
    check_masks(masks)
    tolerance = check_positive("tolerance", tolerance)
    return dilated_masks(masks, tolerance).flatten(1).double().mean(dim=1)


def difficult_pairs(masks: Tensor, categories: Tensor, images: Tensor) -> Tensor:
    """The difficult subset, (N,) bool: the trials whose object is small and whose image shows another class, too.

    An object is small if its mask covers less than a quarter of the image. This is the definition of Zhang et al.
    (ECCV 2016, IJCV 2018), who measure the total area of the boxes. TorchRay ships their list of the subset; this
    function does not read that list.

    Args:
        masks: (N, H, W) bool, the objects of each trial.
        categories: (N,) integers, the class of each trial.
        images: (N,) integers, the image of each trial; two trials with one number share an image.

    Raises:
        InputError: shapes or types that do not fit, a mask without a pixel.
    """
    check_masks(masks)
    _check_integers("categories", categories, len(masks))
    _check_integers("images", images, len(masks))
    small = masks.flatten(1).double().mean(dim=1) < LARGEST_DIFFICULT_SHARE
    same_image = images[:, None] == images[None, :]
    has_distractor = (same_image & (categories[:, None] != categories[None, :])).any(dim=1)
    return small & has_distractor.to(masks.device)


def _result_of_points(
    points: Tensor,
    masks: Tensor,
    categories: Tensor,
    tolerance: float,
    difficult: Tensor | None,
    reasons: tuple[str | None, ...],
) -> PointingResult:
    return PointingResult(
        points=points,
        hits=hits_mask(points, masks, tolerance),
        categories=categories.to(masks.device, torch.int64),
        difficult=None if difficult is None else difficult.to(masks.device),
        reasons=reasons,
    )


def _check_trials(masks: Tensor, count: int, categories: Tensor, difficult: Tensor | None) -> None:
    check_masks(masks)
    if len(masks) != count:
        raise InputError(f"masks must be given for each of the {count} trials, got {len(masks)}")
    _check_integers("categories", categories, count)
    if difficult is None:
        return
    if not isinstance(difficult, Tensor) or difficult.dtype != torch.bool or difficult.shape != (count,):
        is_tensor = isinstance(difficult, Tensor)
        got = f"{tuple(difficult.shape)} {difficult.dtype}" if is_tensor else type(difficult).__name__
        raise InputError(f"difficult must be ({count},) bool, got {got}")


def _check_integers(name: str, values: Tensor, count: int) -> None:
    integers = isinstance(values, Tensor) and values.dtype in (torch.int64, torch.int32)
    if not integers or values.shape != (count,):
        got = f"{tuple(values.shape)} {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"{name} must be ({count},) integers, got {got}")
