"""Agreement between a map and a class activation map (CAM): the eight metrics of the evaluation protocol (section 3).

Each function takes two tensors of maps (B, H, W), float32 or float64, on one device, and gives (B,) in float64. The
first tensor has the maps that are measured, the second has the CAMs. Pearson, Spearman and the overlap of the highest
pixels are symmetric. Each function raises :class:`~ssimpert.errors.InputError` for other types, shapes or devices.

A map that is constant, empty or not finite says nothing about where. Its agreement is NaN in every metric.
:func:`agreement` also gives the reason for each NaN.

The definitions follow Bylinskii, Judd, Oliva, Torralba, Durand, "What do different evaluation metrics tell us about
saliency models?", IEEE TPAMI 2018, and the code of the MIT saliency benchmark. Where the two differ, the docstring of
the metric says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssimpert.analysis.map_agreement.map_pairs import first_reasons, paired
from ssimpert.analysis.map_agreement.metrics import (
    AGREEMENT_METRICS,
    AUC,
    ENERGY_SHARE,
    KL_DIVERGENCE,
    NSS,
    PEARSON,
    SIMILARITY,
    SPEARMAN,
    TOP_SHARE,
    top_iou_metric,
)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation (CC) over pixels: (B, H, W) x 2 -> (B,) in [-1, 1]."""
    return PEARSON.values(paired(a, b, ("a", "b")))


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation over pixels: (B, H, W) x 2 -> (B,) in [-1, 1].

    This is Pearson's correlation of the ranks; tied values share their average rank (as in ``scipy.stats.spearmanr``).
    """
    return SPEARMAN.values(paired(a, b, ("a", "b")))


def similarity(maps: Tensor, cam: Tensor) -> Tensor:
    """SIM, the histogram intersection: (B, H, W) x 2 -> (B,) in [0, 1].

    SIM is the sum over pixels of min(P, Q), where P and Q are the two maps, each divided by its sum (the paper's
    equation). The benchmark's code first shifts the minimum of each map to 0; here, as in the protocol, the maps are
    only divided. SIM is NaN also where a map has negative values.
    """
    return SIMILARITY.values(paired(maps, cam))


def kl_divergence(maps: Tensor, cam: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the CAM from the map: (B, H, W) x 2 -> (B,), 0 or more; *lower* is closer.

    The divergence is the sum over pixels of Q log(e + Q / (P + e)), where P is the map and Q the CAM, each divided by
    its sum, with the natural logarithm and e = 2^-52. This is the benchmark's formula with its epsilon. Equal maps may
    get a value of about -1e-16 by rounding, and a pixel where P is 0 costs up to 36 Q. The divergence is NaN also where
    a map has negative values.
    """
    return KL_DIVERGENCE.values(paired(maps, cam))


def nss(maps: Tensor, cam: Tensor) -> Tensor:
    """Normalised scanpath saliency: (B, H, W) x 2 -> (B,), 0 at chance.

    NSS is the mean of the map's z-scores over the fixated pixels. The standard deviation has N - 1, as in the
    benchmark. The fixated pixels are those where the CAM is strictly above its median, as for :func:`auc`. NSS is NaN
    also where no pixel is above the median: the largest value of the CAM then fills half of the image.
    """
    return NSS.values(paired(maps, cam))


def auc(maps: Tensor, cam: Tensor) -> Tensor:
    """Area under the ROC curve: (B, H, W) x 2 -> (B,) in [0, 1], 1/2 at chance.

    The label of a pixel says whether the CAM is strictly above its median there; the score is the map. AUC is the exact
    Mann-Whitney statistic: of all pairs of a pixel above and a pixel not above, the share that the map puts in this
    order, where a tie counts one half. AUC is NaN where :func:`nss` is NaN.
    """
    return AUC.values(paired(maps, cam))


def top_iou(a: Tensor, b: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Intersection over union of the highest pixels of each map: (B, H, W) x 2 -> (B,) in [0, 1].

    Exactly ceil(share * H * W) pixels are taken from each map. Among equal values the first pixels in row-major order
    are taken, so the result is deterministic. ``share`` lies strictly between 0 and 1, default 0.2. Two unrelated maps
    overlap by about share/(2 - share), which is 0.11 for the default.
    """
    return top_iou_metric(share).values(paired(a, b, ("a", "b")))


def energy_share(maps: Tensor, cam: Tensor) -> Tensor:
    """Share of the map's sum that lies where the CAM is at least 0.5: (B, H, W) x 2 -> (B,) in [0, 1].

    The energy of a map is the sum of its values, as in the energy-based pointing game (Wang et al., Score-CAM, CVPR
    Workshops 2020). The CAM must be in [0, 1], as :func:`~ssimpert.analysis.grad_cam` returns it. The share is NaN also
    where the CAM leaves that range, where the CAM reaches 0.5 nowhere or everywhere, and where the map has negative
    values. An unrelated map scores the share of the area where the CAM is at least 0.5.
    """
    return ENERGY_SHARE.values(paired(maps, cam))


@dataclass(frozen=True, eq=False)
class Agreement:
    """What :func:`agreement` found.

    Attributes:
        values: metric -> (B,) float64, NaN where undefined.
        reasons: metric -> for each image why the value is NaN, ``""`` where it is a number.
    """

    values: dict[str, Tensor]
    reasons: dict[str, tuple[str, ...]]


def agreement(maps: Tensor, cam: Tensor) -> Agreement:
    """All metrics of maps with class activation maps, (B, H, W) each, float32 or float64.

    The names are, in the protocol's order: ``pearson``, ``spearman``, ``similarity``, ``kl_divergence`` (lower is
    closer), ``nss``, ``auc``, ``top20_iou``, ``energy_share``. The call waits for the device, to write down the
    reasons.
    """
    pair = paired(maps, cam)
    return Agreement(
        values={name: metric.values(pair) for name, metric in AGREEMENT_METRICS.items()},
        reasons={name: first_reasons(metric.all_faults(pair)) for name, metric in AGREEMENT_METRICS.items()},
    )
