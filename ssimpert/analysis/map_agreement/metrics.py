"""The agreement metrics as data: what each compares, how, and when it is undefined.

A metric turns the map and the class activation map (CAM) into *features*, one value a pixel each, and compares these
pixel by pixel. Shifting a map shifts its features, so a null distribution over shifts needs them only once; and where
the comparison is a function of the sum of products, one Fourier transform gives it for every shift.

"Above the median" (NSS, AUC) stands for the fixated pixels of the literature: the pixels where the CAM is strictly
above its own median.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ssimpert.analysis.map_agreement.map_pairs import Faults, MapPair, defined
from ssimpert.errors import InputError

TOP_SHARE = 0.2
INSIDE = 0.5
KL_EPSILON = 2.0**-52


@dataclass(frozen=True)
class AgreementMetric:
    """One metric.

    Attributes:
        name: the column's name.
        higher_is_better: False where a lower value means closer maps.
        features: (maps, cam), flat (B, N) float64 -> the features of each, (B, N).
        compare: the features of both, (B, N) -> (B,).
        faults: images where this metric is undefined though others are not.
        from_product: where ``compare`` depends on the features only by their sum of products: products (B, S) and
            both features -> (B, S).
    """

    name: str
    higher_is_better: bool
    features: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    compare: Callable[[Tensor, Tensor], Tensor]
    faults: Callable[[Tensor, Tensor], Faults]
    from_product: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def all_faults(self, pair: MapPair) -> Faults:
        """The pair's faults, then this metric's own."""
        return {**pair.faults, **self.faults(pair.maps, pair.cam)}

    def values(self, pair: MapPair) -> Tensor:
        """(B,) float64, NaN where undefined."""
        if pair.maps.shape[1] == 0:
            return pair.maps.new_full((pair.maps.shape[0],), math.nan)
        scores = self.compare(*self.features(pair.maps, pair.cam))
        return torch.where(defined(self.all_faults(pair)), scores, scores.new_full((), math.nan))


def _of_product(
    name: str,
    features: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    from_product: Callable[[Tensor, Tensor, Tensor], Tensor],
    faults: Callable[[Tensor, Tensor], Faults],
) -> AgreementMetric:
    def compare(first: Tensor, second: Tensor) -> Tensor:
        return from_product((first * second).sum(dim=1, keepdim=True), first, second)[:, 0]

    return AgreementMetric(name, True, features, compare, faults, from_product)


def _no_faults(maps: Tensor, cam: Tensor) -> Faults:
    return {}


def _negative(maps: Tensor, cam: Tensor) -> Faults:
    return {"map has negative values": (maps < 0).any(dim=1), "CAM has negative values": (cam < 0).any(dim=1)}


def _no_fixation(maps: Tensor, cam: Tensor) -> Faults:
    return {"no CAM pixel is above the median": ~above_median(cam).any(dim=1)}


def _no_inside(maps: Tensor, cam: Tensor) -> Faults:
    inside = cam >= INSIDE
    return {
        "map has negative values": (maps < 0).any(dim=1),
        "CAM leaves [0, 1]": ((cam < 0) | (cam > 1)).any(dim=1),
        f"no CAM pixel reaches {INSIDE}": ~inside.any(dim=1),
        f"every CAM pixel reaches {INSIDE}": inside.all(dim=1),
    }


def average_ranks(flat: Tensor) -> Tensor:
    """Ranks from 1, ties averaged: (B, N) -> (B, N) float64."""
    if flat.shape[1] == 0:
        return flat
    ordered, order = flat.sort(dim=1)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = starts.cumsum(dim=1) - 1
    size = torch.zeros_like(ordered).scatter_add_(1, group, torch.ones_like(ordered))
    last = size.cumsum(dim=1)  # the highest rank in each group of equals
    average = last - (size - 1) / 2
    return torch.empty_like(flat).scatter_(1, order, average.gather(1, group))


def beside_cut(flat: Tensor, count: int) -> Tensor:
    """(B, N) float64: 2 above the ``count``-th highest value of the row, 1 at it, 0 below. ``count`` >= 1."""
    cut = flat.sort(dim=1, descending=True).values[:, count - 1 : count]
    return 2.0 * (flat > cut) + 1.0 * (flat == cut)


def take_highest(levels: Tensor, count: Tensor) -> Tensor:
    """(B, N) bool from :func:`beside_cut`: all pixels above the cut and, in their order, the first of those at it,
    ``count`` (B, 1) in all."""
    above, at = levels == 2, levels == 1
    return above | (at & (at.cumsum(dim=1) <= count - above.sum(dim=1, keepdim=True)))


def above_median(flat: Tensor) -> Tensor:
    """(B, N) bool, True strictly above the row's median (of an even number: the mean of the middle two).

    Never True everywhere; nowhere where the largest value fills half the row.
    """
    if flat.shape[1] == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    # torch's median is the lower of the middle two. No value lies between the two, so "above their mean" and "above
    # the lower" are the same pixels, without rounding.
    return flat > flat.median(dim=1, keepdim=True).values


def _standardised(flat: Tensor) -> Tensor:
    """Mean 0 and norm 1. Scaled by the largest value first, or the squares of tiny maps would underflow."""
    scaled = _over(flat, flat.abs().amax(dim=1, keepdim=True))
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    return _over(centred, torch.linalg.vector_norm(centred, dim=1, keepdim=True))


def _distribution(flat: Tensor) -> Tensor:
    """Sum 1. Scaled by the largest value first, or the sum of huge maps would overflow."""
    scaled = _over(flat, flat.abs().amax(dim=1, keepdim=True))
    return _over(scaled, scaled.sum(dim=1, keepdim=True))


def _over(values: Tensor, divisor: Tensor) -> Tensor:
    return values / torch.where(divisor > 0, divisor, torch.ones_like(divisor))


def _clamped(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return product.clamp(-1, 1)


def _as_it_is(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return product


def _overlap(levels: Tensor, top: Tensor) -> Tensor:
    """From the map's levels and not from its highest pixels, for which of equals are taken depends on their places."""
    taken = take_highest(levels, top.sum(dim=1, keepdim=True))
    return (taken & top).sum(dim=1) / (taken | top).sum(dim=1).double()


def _share_of_pairs(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """AUC = 1/2 + sum over positives of (rank - (N + 1)/2) / (positives negatives)."""
    positives = second.sum(dim=1, keepdim=True)
    pairs = positives * (second.shape[1] - positives)
    # Ranks are half-integers: so is their sum, exact also from a Fourier transform.
    return 0.5 + _over((2 * product).round() / 2, pairs)


def _centred_ranks(maps: Tensor, cam: Tensor) -> tuple[Tensor, Tensor]:
    return average_ranks(maps) - (maps.shape[1] + 1) / 2, above_median(cam).double()


def _z_scores(maps: Tensor, cam: Tensor) -> tuple[Tensor, Tensor]:
    fixated = above_median(cam).double()
    scores = _standardised(maps) * math.sqrt(max(maps.shape[1] - 1, 0))
    return scores, _over(fixated, fixated.sum(dim=1, keepdim=True))


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    return (second * torch.log(KL_EPSILON + second / (first + KL_EPSILON))).sum(dim=1)


def top_iou_metric(share: float = TOP_SHARE) -> AgreementMetric:
    """Overlap of the highest ``share`` of pixels, 0 < share < 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"share must lie strictly between 0 and 1, got {share!r}")

    def features(maps: Tensor, cam: Tensor) -> tuple[Tensor, Tensor]:
        # Through the decimal value: 0.07 * 100 is 7.000000000000001 in binary, whose ceiling is 8.
        count = math.ceil(Fraction(str(share)) * maps.shape[1])
        levels = beside_cut(cam, count)
        return beside_cut(maps, count), take_highest(levels, torch.full_like(levels[:, :1], count))

    return AgreementMetric(f"top{100 * share:g}_iou", True, features, _overlap, _no_faults)


PEARSON = _of_product("pearson", lambda a, b: (_standardised(a), _standardised(b)), _clamped, _no_faults)
SPEARMAN = _of_product(
    "spearman", lambda a, b: (_standardised(average_ranks(a)), _standardised(average_ranks(b))), _clamped, _no_faults
)
SIMILARITY = AgreementMetric(
    "similarity",
    True,
    lambda maps, cam: (_distribution(maps), _distribution(cam)),
    lambda first, second: torch.minimum(first, second).sum(dim=1),
    _negative,
)
KL_DIVERGENCE = AgreementMetric(
    "kl_divergence", False, lambda maps, cam: (_distribution(maps), _distribution(cam)), _divergence, _negative
)
NSS = _of_product("nss", _z_scores, _as_it_is, _no_fixation)
AUC = _of_product("auc", _centred_ranks, _share_of_pairs, _no_fixation)
TOP_IOU = top_iou_metric()
ENERGY_SHARE = _of_product(
    "energy_share",
    lambda maps, cam: (_distribution(maps), (cam >= INSIDE).double()),
    lambda product, first, second: product.clamp(0, 1),
    _no_inside,
)

AGREEMENT_METRICS = {
    metric.name: metric for metric in (PEARSON, SPEARMAN, SIMILARITY, KL_DIVERGENCE, NSS, AUC, TOP_IOU, ENERGY_SHARE)
}
