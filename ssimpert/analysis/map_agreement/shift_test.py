"""Could the agreement be chance? A null distribution by circular shifts of one map against the other.

A shifted map keeps its values, its smoothness and its scale and loses only its place, so smooth maps don't look
significant merely for being smooth, as they would if pixels were permuted. The null hypothesis is that the map's place
relative to the class activation map (CAM) is arbitrary; then all shifts, (0, 0) among them, are alike, and the p-value
is exact for fields that are stationary on the torus. Photos are not: what sits in the middle of both maps makes the
p-value small, and the centred Gaussian control tells how much of the agreement that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ssimpert.analysis.map_agreement.map_pairs import MapPair, first_reasons, paired
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS, AgreementMetric
from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_seed

MIN_SHIFTS = 200
ROUNDING = 1e-12
Alternative = Literal["closer", "farther", "two-sided"]
MapMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ShiftNull:
    """What :func:`shift_null` found, for B images and S shifts.

    Attributes:
        metric: its name.
        higher_is_better: which way the metric points.
        alternative: the side that was tested.
        seed: of the drawing of shifts; ``None`` where every shift was taken.
        shifts: (S, 2) int64, rows and columns by which the map was moved, the same for all images.
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
    """p-value for each image that its map agrees with its CAM more than shifted copies of the map do.

    p = (1 + number of shifts whose value is at least as good as the observed one) / (1 + number of shifts). Values
    within 1e-12 of the largest magnitude count as equal, hence against the map.

    Args:
        maps, cam: (B, H, W), float32 or float64. ``maps`` is the one that moves.
        metric: a name in :func:`ssimpert.analysis.map_agreement.agreement`, or a function of two (B, H, W) that gives
            (B,).
        shifts: how many, drawn without replacement; at least 200 (the protocol's least). ``None`` takes all.
            Pearson, Spearman, NSS, AUC and energy share get theirs from one Fourier transform, at the same price for
            all H W shifts; the others are evaluated shift by shift. The transform runs on the CPU for maps of any
            device.
        few_shifts: True allows fewer than 200 shifts, for small maps.
        minimum_distance: least Euclidean length of a shift in pixels, the shorter way round. The default 1 excludes
            only (0, 0). Smooth maps resemble themselves under short shifts, which makes the test conservative; a
            distance beyond their correlation length avoids that, but then (0, 0) is no longer one of many alike and
            the p-value is approximate.
        alternative: ``"closer"`` (default): a shift counts if it agrees at least as well; ``"farther"``: at most as
            well; ``"two-sided"``: twice the smaller of the two, at most 1. Closer is lower for ``kl_divergence``.
        higher_is_better: for a function only (default True); the named metrics know theirs.
        seed: of the drawing. Images don't influence each other: a batch gives what its images give one by one.

    Raises:
        InputError: unknown metric, fewer than 200 shifts unasked, more shifts than the maps' size allows.
    """
    if alternative not in get_args(Alternative):
        raise unknown_name("alternative", str(alternative), get_args(Alternative))
    known = _known(metric, higher_is_better)
    pair = paired(maps, cam)
    moves, drawn = _draw(maps.shape[-2:], shifts, few_shifts, minimum_distance, seed)
    if isinstance(known, AgreementMetric):
        name, better = known.name, known.higher_is_better
        observed, null, reasons = _named(known, pair, moves, maps.shape)
    else:
        name, better = getattr(known, "__name__", type(known).__name__), higher_is_better is not False
        observed, null, reasons = _called(known, maps.detach(), cam.detach(), moves)
    return ShiftNull(
        metric=name,
        higher_is_better=better,
        alternative=alternative,
        seed=seed if drawn else None,
        shifts=moves,
        observed=observed,
        null=null,
        p_value=_p_value(observed, null, alternative, better),
        reasons=reasons,
    )


def _known(metric: str | MapMetric, higher_is_better: bool | None) -> AgreementMetric | MapMetric:
    if not isinstance(metric, str):
        if not callable(metric):
            raise InputError(f"metric must be a name or a function of two maps, got {metric!r}")
        if higher_is_better is not None and not isinstance(higher_is_better, bool):
            raise InputError(f"higher_is_better must be True, False or None, got {higher_is_better!r}")
        return metric
    if metric not in AGREEMENT_METRICS:
        raise unknown_name("agreement metric", metric, AGREEMENT_METRICS)
    if higher_is_better is not None:
        raise InputError(f"higher_is_better is for functions; {metric!r} knows its own, got {higher_is_better!r}")
    return AGREEMENT_METRICS[metric]


def _draw(
    size: torch.Size, shifts: int | None, few_shifts: bool, minimum_distance: float, seed: int
) -> tuple[Tensor, bool]:
    """(S, 2) shifts on the CPU, and whether they were drawn rather than all taken."""
    check_seed(seed)
    if shifts is not None and (isinstance(shifts, bool) or not isinstance(shifts, int) or shifts < 1):
        raise InputError(f"shifts must be a positive integer or None (all of them), got {shifts!r}")
    if isinstance(minimum_distance, bool) or not isinstance(minimum_distance, int | float) or not minimum_distance > 0:
        raise InputError(f"minimum_distance must be a positive number of pixels, got {minimum_distance!r}")
    height, width = size
    down, across = torch.arange(height), torch.arange(width)
    rows, columns = torch.minimum(down, height - down), torch.minimum(across, width - across)
    far = rows[:, None] ** 2 + columns[None, :] ** 2 >= minimum_distance**2
    allowed = far.nonzero()
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
        return allowed, False
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return allowed[order[:shifts]], True


def _named(
    metric: AgreementMetric, pair: MapPair, moves: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    # Whether the metric is defined depends on the values and not on their places, so the same holds for all shifts.
    observed = metric.values(pair)
    first, second = metric.features(pair.maps, pair.cam)
    grid = first.reshape(shape)
    if metric.from_product is not None:
        products = _products_under_shifts(grid, second.reshape(shape))
        down, across = moves.to(products.device).unbind(dim=1)
        null = metric.from_product(products[:, down, across], first, second)
    else:
        null = torch.stack([metric.compare(_moved(grid, move).flatten(1), second) for move in moves.tolist()], dim=1)
    null = torch.where(observed.isnan()[:, None], observed[:, None], null)
    return observed, null, first_reasons(metric.all_faults(pair))


def _products_under_shifts(first: Tensor, second: Tensor) -> Tensor:
    """For each shift (down, across) the sum of products of ``first``, so shifted, with ``second``: (B, H, W)."""
    # Image by image, for the transform of a batch rounds differently. On the CPU, which does a plane in a millisecond:
    # cuFFT failed with an internal error on the GPU that this was tried on.
    products = [
        torch.fft.irfft2(torch.fft.rfft2(one).conj() * torch.fft.rfft2(other), s=one.shape)
        for one, other in zip(first.cpu(), second.cpu(), strict=True)
    ]
    return torch.stack(products).to(first.device)


def _called(metric: MapMetric, maps: Tensor, cam: Tensor, moves: Tensor) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    def value(moved: Tensor) -> Tensor:
        scores = metric(moved, cam)
        if not isinstance(scores, Tensor) or scores.shape != maps.shape[:1]:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(f"the metric must give one value an image, shape {tuple(maps.shape[:1])}, got {found}")
        return scores.detach().double()

    observed = value(maps)
    null = torch.stack([value(_moved(maps, move)) for move in moves.tolist()], dim=1)
    nowhere, somewhere = observed.isnan().tolist(), null.isnan().any(dim=1).tolist()
    reasons = tuple(
        "metric is NaN" if here else "metric is NaN under a shift" if there else ""
        for here, there in zip(nowhere, somewhere, strict=True)
    )
    return observed, null, reasons


def _moved(maps: Tensor, move: list[int]) -> Tensor:
    return maps.roll(move, dims=(-2, -1))


def _p_value(observed: Tensor, null: Tensor, alternative: Alternative, higher_is_better: bool) -> Tensor:
    sign = 1.0 if higher_is_better else -1.0
    gain = sign * (null - observed[:, None])
    slack = ROUNDING * torch.maximum(null.abs().amax(dim=1), observed.abs())[:, None]
    count = null.shape[1]
    closer = (1 + (gain >= -slack).sum(dim=1).double()) / (1 + count)
    farther = (1 + (gain <= slack).sum(dim=1).double()) / (1 + count)
    both = (2 * torch.minimum(closer, farther)).clamp(max=1)
    p_value = {"closer": closer, "farther": farther, "two-sided": both}[alternative]
    undefined = observed.isnan() | null.isnan().any(dim=1)
    return torch.where(undefined, p_value.new_full((), math.nan), p_value)
