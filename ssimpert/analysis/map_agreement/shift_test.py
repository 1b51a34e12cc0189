"""Could the agreement be chance? A test by circular shifts of one map against the other.

A shifted map keeps its values, its smoothness and its scale, and loses only its place. Smooth maps therefore do not
look significant merely because they are smooth, as they would if single pixels were permuted. The null hypothesis is
that the map's place relative to the class activation map (CAM) is arbitrary. All shifts, (0, 0) among them, are then
alike, and the p-value is exact for fields that are stationary on the torus.

Photos are not stationary. If both maps are high in the middle of the image, the p-value is small; the centred Gaussian
control tells how much of the agreement comes from that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from solvers.validation import as_integer, as_real, plain, shown
from ssimpert.analysis.map_agreement.map_pairs import MapPair, first_reasons, paired
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS, AgreementMetric
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_seed

MIN_SHIFTS = 200
EQUAL_WITHIN = 1e-12
"""Values of a metric count as equal up to this share of the largest magnitude."""
Alternative = Literal["closer", "farther", "two-sided"]
MapMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ShiftNull:
    """What :func:`shift_null` found, for B images and S shifts.

    Attributes:
        metric: the name of the metric.
        higher_is_better: whether a higher value of the metric means closer maps.
        alternative: the side that was tested.
        seed: the seed that drew the shifts; ``None`` where every shift was taken.
        shifts: (S, 2) int64, the rows and columns by which the maps were shifted, the same for all images.
        observed: (B,), the metric of the maps as they are.
        null: (B, S), the metric under each shift.
        p_value: (B,) in (0, 1], NaN where the metric is undefined.
        reasons: for each image why its p-value is NaN, or ``""``.
    """

    metric: str
    higher_is_better: bool
    alternative: Alternative
    seed: int | None
    shifts: Tensor
    observed: Tensor
    null: Tensor
    p_value: Tensor
    reasons: tuple[str, ...]


def shift_null(
    maps: Tensor,
    cam: Tensor,
    metric: str | MapMetric = "pearson",
    *,
    shifts: int | None = MIN_SHIFTS,
    few_shifts: bool = False,
    minimum_distance: float = 1.0,
    alternative: Alternative = "closer",
    higher_is_better: bool | None = None,
    seed: int = 0,
) -> ShiftNull:
    """The p-value, for each image, that its map agrees with its CAM more than shifted copies of the map do.

    p = (1 + number of shifts whose value is at least as good as the observed value) / (1 + number of shifts). Values
    within 1e-12 of the largest magnitude count as equal, and an equal value counts against the map. Images do not
    influence one another: a batch gives what its images give one by one.

    Args:
        maps: (B, H, W), float32 or float64. These maps are shifted.
        cam: (B, H, W), float32 or float64, on the device of ``maps``. These maps stay in place.
        metric: a name in :func:`ssimpert.analysis.agreement` (default ``"pearson"``), or a function of two tensors
            (B, H, W) that gives (B,).
        shifts: how many shifts are drawn, without replacement; 200 or more, default 200 (the protocol's least).
            ``None`` takes all shifts. For Pearson, Spearman, NSS, AUC and energy share one Fourier transform gives the
            values under all H W shifts at once; the transform runs on the CPU for maps of any device. The other metrics
            are computed shift by shift.
        few_shifts: True allows fewer than 200 shifts, for small maps. Default False.
        minimum_distance: the least Euclidean length of a shift in pixels, measured the shorter way round the torus;
            above 0. The default 1 excludes only (0, 0). Smooth maps resemble themselves under short shifts, and the
            test is then conservative. A distance beyond their correlation length avoids that, but then (0, 0) is no
            longer one of many like shifts, and the p-value is approximate.
        alternative: ``"closer"`` (default) counts the shifts whose maps agree at least as well. ``"farther"`` counts
            those whose maps agree at most as well. ``"two-sided"`` gives twice the smaller p-value of the two, at most
            1. For ``kl_divergence`` a lower value is closer.
        higher_is_better: for a function, whether a higher value is closer; default ``None``, which means True. The
            named metrics know their own direction and refuse this argument.
        seed: an integer from 0, default 0, that decides which shifts are drawn.

    Raises:
        InputError: an unknown metric or alternative, fewer than 200 shifts without ``few_shifts``, or more shifts than
            maps of this size have.
    """
    if alternative not in get_args(Alternative):
        raise unknown_name("alternative", str(alternative), get_args(Alternative))
    higher_is_better = plain(higher_is_better)
    checked_metric = _checked_metric(metric, higher_is_better)
    seed = check_seed(seed)
    shifts = None if shifts is None else _checked_shifts(shifts)
    minimum_distance = _checked_distance(minimum_distance)
    pair = paired(maps, cam)
    offsets = _chosen_shifts(maps.shape[-2:], shifts, few_shifts, minimum_distance, seed)
    if isinstance(checked_metric, AgreementMetric):
        name, higher = checked_metric.name, checked_metric.higher_is_better
        observed, null, reasons = _null_of_named_metric(checked_metric, pair, offsets, maps.shape)
    else:
        name = getattr(checked_metric, "__name__", type(checked_metric).__name__)
        higher = higher_is_better is not False
        observed, null, reasons = _null_of_function(checked_metric, maps.detach(), cam.detach(), offsets)
    return ShiftNull(
        metric=name,
        higher_is_better=higher,
        alternative=alternative,
        seed=None if shifts is None else seed,
        shifts=offsets,
        observed=observed,
        null=null,
        p_value=_p_value(observed, null, alternative, higher),
        reasons=reasons,
    )


def _checked_metric(metric: str | MapMetric, higher_is_better: bool | None) -> AgreementMetric | MapMetric:
    if not isinstance(metric, str):
        if not callable(metric):
            raise InputError(f"metric must be a name or a function of two maps, got {metric!r}")
        if higher_is_better is not None and not isinstance(higher_is_better, bool):
            raise InputError(f"higher_is_better must be True, False or None, got {shown(higher_is_better)}")
        return metric
    if metric not in AGREEMENT_METRICS:
        raise unknown_name("agreement metric", metric, AGREEMENT_METRICS)
    if higher_is_better is not None:
        raise InputError(f"higher_is_better is for functions; {metric!r} knows its own, got {higher_is_better!r}")
    return AGREEMENT_METRICS[metric]


def _checked_shifts(shifts: int) -> int:
    number = as_integer(shifts)
    if number is None or number < 1:
        raise InputError(f"shifts must be a positive integer or None (all of them), got {shown(shifts)}")
    return number


def _checked_distance(minimum_distance: float) -> float:
    distance = as_real(minimum_distance)
    if distance is None or not distance > 0:
        raise InputError(f"minimum_distance must be a positive number of pixels, got {shown(minimum_distance)}")
    return distance


def _chosen_shifts(
    size: torch.Size, shifts: int | None, few_shifts: bool, minimum_distance: float, seed: int
) -> Tensor:
    """The shifts that are tried, (S, 2) int64, rows and columns, on the CPU."""
    height, width = size
    down, across = torch.arange(height), torch.arange(width)
    rows, columns = torch.minimum(down, height - down), torch.minimum(across, width - across)
    is_far_enough = rows[:, None] ** 2 + columns[None, :] ** 2 >= minimum_distance**2
    allowed = is_far_enough.nonzero()
    count = len(allowed)
    if count == 0 or (shifts is not None and shifts > count):
        wanted = "any shift" if shifts is None else f"{shifts} shifts"
        raise InputError(
            f"maps of {height}x{width} pixels have {count} shifts of length {minimum_distance:g} or more; "
            f"{wanted} can't be taken from them"
        )
    if not few_shifts and (count if shifts is None else shifts) < MIN_SHIFTS:
        raise InputError(
            f"a null of {count if shifts is None else shifts} shifts is coarse: take {MIN_SHIFTS} or more, "
            "or say few_shifts=True"
        )
    if shifts is None:
        return allowed
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return allowed[order[:shifts]]


def _null_of_named_metric(
    metric: AgreementMetric, pair: MapPair, offsets: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The metric as it is, (B,), under each shift, (B, S), and for each image why it is NaN.

    Args:
        metric: the metric.
        pair: the maps and the CAMs.
        offsets: (S, 2), the shifts.
        shape: (B, H, W), the shape of the maps.
    """
    # Whether a metric is defined depends on the values and not on their places: it is the same under every shift.
    observed = metric.values(pair)
    map_features, cam_features = metric.features(pair.maps, pair.cam)
    grid = map_features.reshape(shape)
    if metric.from_product is not None:
        products = _products_under_shifts(grid, cam_features.reshape(shape))
        down, across = offsets.to(products.device).unbind(dim=1)
        null = metric.from_product(products[:, down, across], map_features, cam_features)
    else:
        shifted = (_shifted(grid, offset).flatten(1) for offset in offsets.tolist())
        null = torch.stack([metric.compare(features, cam_features) for features in shifted], dim=1)
    null = torch.where(observed.isnan()[:, None], observed[:, None], null)
    return observed, null, first_reasons(metric.all_faults(pair))


def _products_under_shifts(first: Tensor, second: Tensor) -> Tensor:
    """At (b, down, across): the sum over pixels of ``first[b]``, shifted by (down, across), times ``second[b]``.

    Two tensors (B, H, W) -> (B, H, W).
    """
    # Image by image, because the transform of a batch rounds differently. On the CPU, which transforms a plane in a
    # millisecond: cuFFT failed with an internal error on the GPU on which this was tried.
    products = [
        torch.fft.irfft2(torch.fft.rfft2(plane).conj() * torch.fft.rfft2(fixed_plane), s=plane.shape)
        for plane, fixed_plane in zip(first.cpu(), second.cpu(), strict=True)
    ]
    return torch.stack(products).to(first.device)


def _null_of_function(
    metric: MapMetric, maps: Tensor, cam: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The same as :func:`_null_of_named_metric`, for a function of two maps."""

    def value(shifted: Tensor) -> Tensor:
        scores = metric(shifted, cam)
        if not isinstance(scores, Tensor) or scores.shape != maps.shape[:1]:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"the metric must give one value an image, shape {tuple(maps.shape[:1])}, got {got}")
        return scores.detach().double()

    observed = value(maps)
    null = torch.stack([value(_shifted(maps, offset)) for offset in offsets.tolist()], dim=1)
    nan_observed, nan_under_shift = observed.isnan().tolist(), null.isnan().any(dim=1).tolist()
    reasons = tuple(
        "metric is NaN" if observed_is_nan else "metric is NaN under a shift" if null_has_nan else ""
        for observed_is_nan, null_has_nan in zip(nan_observed, nan_under_shift, strict=True)
    )
    return observed, null, reasons


def _shifted(maps: Tensor, offset: list[int]) -> Tensor:
    return maps.roll(offset, dims=(-2, -1))


def _p_value(observed: Tensor, null: Tensor, alternative: Alternative, higher_is_better: bool) -> Tensor:
    sign = 1.0 if higher_is_better else -1.0
    gain = sign * (null - observed[:, None])
    slack = EQUAL_WITHIN * torch.maximum(null.abs().amax(dim=1), observed.abs())[:, None]
    count = null.shape[1]
    closer = (1 + (gain >= -slack).sum(dim=1).double()) / (1 + count)
    farther = (1 + (gain <= slack).sum(dim=1).double()) / (1 + count)
    two_sided = (2 * torch.minimum(closer, farther)).clamp(max=1)
    p_value = {"closer": closer, "farther": farther, "two-sided": two_sided}[alternative]
    undefined = observed.isnan() | null.isnan().any(dim=1)
    return torch.where(undefined, p_value.new_full((), math.nan), p_value)
