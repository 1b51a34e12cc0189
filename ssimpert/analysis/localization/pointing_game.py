"""The pointing game: does the map's highest pixel lie on the object?

Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018, as TorchRay runs it
(``torchray.benchmark.pointing_game``): the point hits if some pixel of the object's mask lies at a squared distance
below tolerance^2 = 15^2. Each pair of an image and a class present in it is one trial; accuracy is the mean over
classes of hits/trials. A map that ranks no pixel first (constant, or not finite) points nowhere: it is counted apart
with its reason, and in the accuracy it is a trial that did not hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool1d

from ssimpert.analysis.degenerate_maps import degenerate_reasons, ranks_pixels
from ssimpert.errors import InputError
from ssimpert.validation import check_maps, check_positive

TOLERANCE = 15.0
LARGEST_DIFFICULT_SHARE = 0.25


class PointingRow(TypedDict):
    """One trial. ``x`` and ``y`` are NaN where there is a ``reason``; ``difficult`` is ``None`` where not asked."""

    pair: int
    category: int
    x: float
    y: float
    hit: bool
    difficult: bool | None
    reason: str | None


@dataclass(frozen=True, eq=False)
class PointingResult:
    """Trials of the pointing game.

    Attributes:
        points: (N, 2) float64, (x, y) in pixels; NaN where the map points nowhere.
        hits: (N,) bool; False where the map points nowhere.
        categories: (N,) int64, the class of each trial.
        difficult: (N,) bool, the trials of the difficult subset, or ``None`` where it was not given.
        reasons: why a map points nowhere, ``None`` where it points.
    """

    points: Tensor
    hits: Tensor
    categories: Tensor
    difficult: Tensor | None
    reasons: tuple[str | None, ...]

    @property
    def accuracy(self) -> float:
        """Mean over the classes with a trial of their share of hits, in [0, 1].

        TorchRay averages over all classes of a data set; where each has a trial, as in VOC 2007 test, that is this.
        """
        return _mean_over_classes(self.hits, self.categories)

    @property
    def difficult_accuracy(self) -> float:
        """The same over the difficult subset; NaN where no trial is difficult.

        Raises:
            InputError: the subset was not given.
        """
        if self.difficult is None:
            raise InputError("the difficult subset was not given; pass difficult= (see difficult_pairs)")
        return _mean_over_classes(self.hits[self.difficult], self.categories[self.difficult])

    @property
    def class_accuracies(self) -> dict[int, float]:
        """Share of hits for each class with a trial."""
        return {
            int(category): float(self.hits[self.categories == category].double().mean())
            for category in self.categories.unique()
        }

    @property
    def degenerate(self) -> int:
        """How many maps point nowhere."""
        return sum(reason is not None for reason in self.reasons)

    def records(self) -> list[PointingRow]:
        """A row for each trial: a tidy table."""
        difficult = [None] * len(self.reasons) if self.difficult is None else self.difficult.tolist()
        columns = zip(
            self.categories.tolist(), self.points.tolist(), self.hits.tolist(), difficult, self.reasons, strict=True
        )
        return [
            PointingRow(pair=index, category=category, x=x, y=y, hit=hit, difficult=hard, reason=reason)
            for index, (category, (x, y), hit, hard, reason) in enumerate(columns)
        ]


def pointing_game(
    maps: Tensor,
    masks: Tensor,
    categories: Tensor,
    *,
    tolerance: float = TOLERANCE,
    difficult: Tensor | None = None,
) -> PointingResult:
    """Play the game with saliency maps, a trial for each.

    Args:
        maps: (N, h, w), float32 or float64; resized bilinearly (``align_corners=False``) to the masks' size.
        masks: (N, H, W) bool, all objects of the class in the image: the union of its boxes
            (:func:`ssimpert.analysis.localization.boxes.box_masks`), or their segmentation. Same device as ``maps``.
        categories: (N,) int64, the class of each trial.
        tolerance: pixels, default 15: a mask pixel at distance 14 hits, one at 15 misses. At most 1 asks for the
            mask itself.
        difficult: (N,) bool, the difficult subset (:func:`difficult_pairs`); ``None``: not asked.

    Raises:
        InputError: shapes, types or devices that don't fit, a mask without a pixel.
    """
    check_maps("maps", maps)
    if maps.numel() == 0:
        raise InputError(f"maps must not be empty, got shape {tuple(maps.shape)}")
    _check_trials(masks, len(maps), categories, difficult, tolerance)
    if maps.device != masks.device:
        raise InputError(f"maps are on {maps.device}, masks on {masks.device}; bring both to one device")
    reasons = degenerate_reasons(maps)
    height, width = masks.shape[-2:]
    points = highest_points(maps, height, width)
    points[~ranks_pixels(reasons, maps.device)] = float("nan")
    return _played(points, masks, categories, tolerance, difficult, reasons)


def point_game(
    points: Tensor,
    masks: Tensor,
    categories: Tensor,
    *,
    tolerance: float = TOLERANCE,
    difficult: Tensor | None = None,
) -> PointingResult:
    """Play the game with points (N, 2), (x, y) in pixels, that come from no map. Else as :func:`pointing_game`."""
    if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        got = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise InputError(f"points must have shape (N, 2), got {got}")
    if not bool(points.isfinite().all()):
        raise InputError(f"points must be finite, got {points[~points.isfinite().all(dim=1)][0].tolist()}")
    _check_trials(masks, len(points), categories, difficult, tolerance)
    return _played(
        points.to(masks.device, torch.float64), masks, categories, tolerance, difficult, (None,) * len(points)
    )


def highest_points(maps: Tensor, height: int, width: int) -> Tensor:
    """(x, y) of each map's highest pixel after resizing to height x width: (N, h, w) -> (N, 2) float64.

    Among equal values the pixel that comes first in row-major order. Resizing is bilinear, ``align_corners=False``.
    """
    resized = maps
    if maps.shape[-2:] != (height, width):
        resized = interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    highest = resized.flatten(1).argmax(dim=1)
    return torch.stack([highest % width, highest // width], dim=1).double()


def centre_points(count: int, height: int, width: int) -> Tensor:
    """The baseline that knows nothing: (width/2, height/2) for each trial, as TorchRay's, (N, 2) float64."""
    return torch.tensor([[width / 2, height / 2]], dtype=torch.float64).repeat(count, 1)


def hits_mask(points: Tensor, masks: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """(N,) bool: some pixel of mask i lies at squared distance < tolerance^2 from point i (x, y). NaN never hits."""
    height, width = masks.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64, device=masks.device)
    columns = torch.arange(width, dtype=torch.float64, device=masks.device)
    vertical = (rows - points[:, 1:]).square()
    horizontal = (columns - points[:, :1]).square()
    near = vertical[:, :, None] + horizontal[:, None, :] < tolerance**2
    return (near & masks).flatten(1).any(dim=1)


def chance_of_hit(masks: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Probability that a pixel drawn uniformly from the image hits: (N, H, W) bool -> (N,) float64.

    Exact: the share of pixels within the tolerance of the mask, that is of the mask dilated by an open disc.
    """
    _check_masks(masks)
    tolerance = check_positive("tolerance", tolerance)
    return _dilated(masks, tolerance).flatten(1).double().mean(dim=1)


def difficult_pairs(masks: Tensor, categories: Tensor, images: Tensor) -> Tensor:
    """The difficult subset: (N,) bool, True where the object is small and the image shows another class too.

    Small: the mask covers less than a quarter of the image. ``images``: (N,) integers, equal where two trials share
    an image; a distractor is another class among the trials of the same image. Zhang et al. (IJCV 2018) define the
    subset so, by the boxes' total area; TorchRay ships their list of it, which this does not read.
    """
    _check_masks(masks)
    _check_integers("categories", categories, len(masks))
    _check_integers("images", images, len(masks))
    small = masks.flatten(1).double().mean(dim=1) < LARGEST_DIFFICULT_SHARE
    same_image = images[:, None] == images[None, :]
    distracted = (same_image & (categories[:, None] != categories[None, :])).any(dim=1)
    return small & distracted.to(masks.device)


def joined(results: Sequence[PointingResult]) -> PointingResult:
    """Trials of several calls as one, in order: images of different sizes are played one size at a time."""
    if not results:
        raise InputError("results must hold at least one PointingResult, got none")
    given = {result.difficult is None for result in results}
    if len(given) > 1:
        raise InputError("results must all know the difficult subset or none of them")
    subset = [result.difficult for result in results if result.difficult is not None]
    return PointingResult(
        points=torch.cat([result.points for result in results]),
        hits=torch.cat([result.hits for result in results]),
        categories=torch.cat([result.categories for result in results]),
        difficult=torch.cat(subset) if subset else None,
        reasons=tuple(reason for result in results for reason in result.reasons),
    )


def _played(
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


def _mean_over_classes(hits: Tensor, categories: Tensor) -> float:
    if len(hits) == 0:
        return float("nan")
    shares = [hits[categories == category].double().mean() for category in categories.unique()]
    return float(torch.stack(shares).mean())


def _dilated(masks: Tensor, tolerance: float) -> Tensor:
    """(N, H, W) bool: within the open disc of radius ``tolerance`` of the mask. One horizontal pass for each row of
    the disc, shifted to its place."""
    height, width = masks.shape[-2:]
    found = torch.zeros_like(masks)
    values = masks.float()
    for offset in range(min(_reach(tolerance**2), height - 1) + 1):
        half = min(_reach(tolerance**2 - offset**2), width - 1)
        spread = max_pool1d(values.flatten(0, 1)[:, None], 2 * half + 1, stride=1, padding=half)[:, 0] > 0
        spread = spread.reshape(masks.shape)
        found[:, offset:] |= spread[:, : height - offset]
        found[:, : height - offset] |= spread[:, offset:]
    return found


def _reach(square: float) -> int:
    """The largest integer whose square is below ``square`` > 0."""
    reach = int(square**0.5) + 1
    while reach**2 >= square:
        reach -= 1
    return reach


def _check_trials(masks: Tensor, count: int, categories: Tensor, difficult: Tensor | None, tolerance: float) -> None:
    _check_masks(masks)
    if len(masks) != count:
        raise InputError(f"masks must be given for each of the {count} trials, got {len(masks)}")
    _check_integers("categories", categories, count)
    check_positive("tolerance", tolerance)
    if difficult is None:
        return
    if not isinstance(difficult, Tensor) or difficult.dtype != torch.bool or difficult.shape != (count,):
        tensor = isinstance(difficult, Tensor)
        got = f"{tuple(difficult.shape)} {difficult.dtype}" if tensor else type(difficult).__name__
        raise InputError(f"difficult must be ({count},) bool, got {got}")


def _check_masks(masks: Tensor) -> None:
    if not isinstance(masks, Tensor) or masks.ndim != 3 or masks.dtype != torch.bool or masks.numel() == 0:
        got = f"{tuple(masks.shape)} {masks.dtype}" if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks must be (N, H, W) bool, got {got}")
    empty = (~masks.flatten(1).any(dim=1)).nonzero()
    if len(empty):
        raise InputError(f"mask {int(empty[0])} has no pixel; a trial needs an object of its class in the image")


def _check_integers(name: str, values: Tensor, count: int) -> None:
    whole = isinstance(values, Tensor) and values.dtype in (torch.int64, torch.int32)
    if not whole or values.shape != (count,):
        got = f"{tuple(values.shape)} {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"{name} must be ({count},) integers, got {got}")
