"""The agreement metrics as data: what each metric compares, how, and when it is undefined.

A metric turns the map and the class activation map (CAM) into *features*, one value for each pixel, and compares the
features pixel by pixel. A shift of the map shifts its features. A null distribution over shifts therefore computes the
features only once. Where the comparison is a function of the sum of products of the features, one Fourier transform
gives its value for every shift.

NSS and AUC ask for the fixated pixels of the literature. Here these are the pixels where the CAM is strictly above its
own median.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ssimpert.analysis.map_agreement.map_pairs import Faults, MapPair, defined
from ssimpert.validation import check_share

TOP_SHARE = 0.2
INSIDE_CAM = 0.5
"""Where the CAM reaches this value, a pixel lies inside (energy share)."""
KL_EPSILON = 2.0**-52


@dataclass(frozen=True)
class AgreementMetric:
    """One metric.

    Attributes:
        name: the name of the metric, and of its column in tables.
        higher_is_better: False where a lower value means closer maps.
        features: maps and CAMs, flat (B, N) float64 -> the features of each, (B, N).
        compare: the features of the maps and of the CAMs, (B, N) each -> (B,).
        faults: maps and CAMs, flat (B, N) -> the images where this metric is undefined although others are defined.
        from_product: given where ``compare`` depends on the features only through their sum of products: sums of
            products (B, S) and both features (B, N) -> the metric for each of these sums, (B, S). Else ``None``.
    """

    name: str
    higher_is_better: bool
    features: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    compare: Callable[[Tensor, Tensor], Tensor]
    faults: Callable[[Tensor, Tensor], Faults]
    from_product: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def all_faults(self, pair: MapPair) -> Faults:
        """The faults of the pair, followed by the faults of this metric alone."""
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
    inside = cam >= INSIDE_CAM
    return {
        "map has negative values": (maps < 0).any(dim=1),
        "CAM leaves [0, 1]": ((cam < 0) | (cam > 1)).any(dim=1),
        f"no CAM pixel reaches {INSIDE_CAM}": ~inside.any(dim=1),
        f"every CAM pixel reaches {INSIDE_CAM}": inside.all(dim=1),
    }


def average_ranks(flat: Tensor) -> Tensor:
    """The ranks of each row, from 1; tied values share their average rank: (B, N) -> (B, N) float64.

    Equal to ``scipy.stats.rankdata(axis=1)``, on any device.
    """
    if flat.shape[1] == 0:
        return flat
    ordered, order = flat.sort(dim=1)
    starts_group = torch.ones_like(ordered, dtype=torch.bool)
    starts_group[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = starts_group.cumsum(dim=1) - 1
    group_size = torch.zeros_like(ordered).scatter_add_(1, group, torch.ones_like(ordered))
    highest_rank = group_size.cumsum(dim=1)
    average_rank = highest_rank - (group_size - 1) / 2
    return torch.empty_like(flat).scatter_(1, order, average_rank.gather(1, group))


def levels_around_cut(flat: Tensor, count: int) -> Tensor:
    """Where each value lies relative to the ``count``-th highest value of its row, the cut; ``count`` is 1 or more.

    (B, N) -> (B, N) float64: 2 above the cut, 1 at the cut, 0 below the cut.
    """
    cut = flat.sort(dim=1, descending=True).values[:, count - 1 : count]
    return 2.0 * (flat > cut) + 1.0 * (flat == cut)


def take_highest(levels: Tensor, count: Tensor) -> Tensor:
    """The ``count`` (B, 1) highest pixels of each row: levels (B, N) of :func:`levels_around_cut` -> (B, N) bool.

    All pixels above the cut are taken, and then the first pixels at the cut, in their order.
    """
    above_cut, at_cut = levels == 2, levels == 1
    return above_cut | (at_cut & (at_cut.cumsum(dim=1) <= count - above_cut.sum(dim=1, keepdim=True)))


def above_median(flat: Tensor) -> Tensor:
    """(B, N) bool: True strictly above the median of the row (of an even number of values: the mean of the middle two).

    A row is never True everywhere. It is True nowhere if its largest value fills half of it.
    """
    if flat.shape[1] == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    # torch's median is the lower of the middle two values. No value lies between these two, so the pixels above their
    # mean are the pixels above the lower one, without rounding.
    return flat > flat.median(dim=1, keepdim=True).values


def _standardised(flat: Tensor) -> Tensor:
    """Each row with mean 0 and norm 1."""
    # The largest value is divided out first: the squares of a tiny map would underflow.
    scaled = _divided(flat, flat.abs().amax(dim=1, keepdim=True))
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    return _divided(centred, torch.linalg.vector_norm(centred, dim=1, keepdim=True))


def _distribution(flat: Tensor) -> Tensor:
    """Each row with sum 1."""
    # The largest value is divided out first: the sum of a huge map would overflow.
    scaled = _divided(flat, flat.abs().amax(dim=1, keepdim=True))
    return _divided(scaled, scaled.sum(dim=1, keepdim=True))


def _divided(values: Tensor, divisor: Tensor) -> Tensor:
    """``values / divisor``; the values as they are where the divisor is not above 0."""
    return values / torch.where(divisor > 0, divisor, torch.ones_like(divisor))


def _clamped(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return product.clamp(-1, 1)


def _product_itself(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return product


def _overlap(levels: Tensor, top: Tensor) -> Tensor:
    """Intersection over union of the highest pixels.

    ``levels`` (B, N) are those of the map, ``top`` (B, N) bool are the highest pixels of the CAM.
    """
    # The map comes as levels and not as its highest pixels: which of equal pixels are taken depends on their places,
    # and a shift changes the places.
    highest = take_highest(levels, top.sum(dim=1, keepdim=True))
    return (highest & top).sum(dim=1) / (highest | top).sum(dim=1).double()


def _share_of_pairs(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """AUC = 1/2 + sum over positives of (rank - (N + 1)/2) / (positives negatives)."""
    positives = second.sum(dim=1, keepdim=True)
    pairs = positives * (second.shape[1] - positives)
    # Centred ranks are half-integers, and so is their sum. Rounding makes the sum from a Fourier transform exact, too.
    return 0.5 + _divided((2 * product).round() / 2, pairs)


def _centred_ranks(maps: Tensor, cam: Tensor) -> tuple[Tensor, Tensor]:
    return average_ranks(maps) - (maps.shape[1] + 1) / 2, above_median(cam).double()


def _z_scores(maps: Tensor, cam: Tensor) -> tuple[Tensor, Tensor]:
    fixated = above_median(cam).double()
    scores = _standardised(maps) * math.sqrt(max(maps.shape[1] - 1, 0))
    return scores, _divided(fixated, fixated.sum(dim=1, keepdim=True))


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    return (second * torch.log(KL_EPSILON + second / (first + KL_EPSILON))).sum(dim=1)


def top_iou_metric(share: float = TOP_SHARE) -> AgreementMetric:
    """The overlap of the highest pixels as a metric; ``share`` of all pixels are taken, 0 < share < 1, default 0.2."""
    share = check_share("share", share)

    def features(maps: Tensor, cam: Tensor) -> tuple[Tensor, Tensor]:
        # The share is taken by its decimal form: in binary 0.07 * 100 is 7.000000000000001, whose ceiling is 8.
        count = math.ceil(Fraction(str(share)) * maps.shape[1])
        levels = levels_around_cut(cam, count)
        return levels_around_cut(maps, count), take_highest(levels, torch.full_like(levels[:, :1], count))

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
NSS = _of_product("nss", _z_scores, _product_itself, _no_fixation)
AUC = _of_product("auc", _centred_ranks, _share_of_pairs, _no_fixation)
TOP_IOU = top_iou_metric()
ENERGY_SHARE = _of_product(
    "energy_share",
    lambda maps, cam: (_distribution(maps), (cam >= INSIDE_CAM).double()),
    lambda product, first, second: product.clamp(0, 1),
    _no_inside,
)

AGREEMENT_METRICS = {
    metric.name: metric for metric in (PEARSON, SPEARMAN, SIMILARITY, KL_DIVERGENCE, NSS, AUC, TOP_IOU, ENERGY_SHARE)
}
