"""Agreement between a map and a class activation map (CAM): the eight metrics of the evaluation protocol (section 3).

Maps are (B, H, W); each function gives (B,) in float64. The first argument is the map that is judged, the second the
CAM; Pearson, Spearman and the overlap of the highest pixels are symmetric.

A map that is constant, empty or has a value that isn't finite says nothing about where: its agreement is NaN in every
metric, never a number. :func:`agreement` gives the reason for each NaN.

Definitions follow Bylinskii, Judd, Oliva, Torralba, Durand, "What do different evaluation metrics tell us about
saliency models?", IEEE TPAMI 2018, and the MIT saliency benchmark's code; each docstring says where they differ.
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

    Pearson's correlation of the ranks, tied values sharing their average rank (as ``scipy.stats.spearmanr``).
    """
    return SPEARMAN.values(paired(a, b, ("a", "b")))


def similarity(maps: Tensor, cam: Tensor) -> Tensor:
    """SIM, the histogram intersection: (B, H, W) x 2 -> (B,) in [0, 1].

    Sum over pixels of min(P, Q), both maps divided by their sum (the paper's equation). The benchmark's code also
    shifts each map's minimum to 0 beforehand; here, as in the protocol, maps are only divided. NaN also where a map
    has negative values.
    """
    return SIMILARITY.values(paired(maps, cam))


def kl_divergence(maps: Tensor, cam: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the CAM from the map: (B, H, W) x 2 -> (B,), 0 or more; *lower* is closer.

    sum over pixels of Q log(e + Q / (P + e)), P the map and Q the CAM, both divided by their sum, natural logarithm,
    e = 2^-52: the benchmark's formula with its epsilon. Rounding may leave equal maps a value of -1e-16 or so, and a
    pixel that P misses costs up to 36 Q. NaN also where a map has negative values.
    """
    return KL_DIVERGENCE.values(paired(maps, cam))


def nss(maps: Tensor, cam: Tensor) -> Tensor:
    """Normalised scanpath saliency: (B, H, W) x 2 -> (B,), 0 at chance.

    Mean over the fixated pixels of the map's z-scores (standard deviation with N - 1, as the benchmark's). Fixated
    are the pixels where the CAM is strictly above its median, as for :func:`auc`. NaN also where no pixel is: the
    CAM's largest value then fills half of it.
    """
    return NSS.values(paired(maps, cam))


def auc(maps: Tensor, cam: Tensor) -> Tensor:
    """Area under the ROC curve: (B, H, W) x 2 -> (B,) in [0, 1], 1/2 at chance.

    Label: the CAM strictly above its median. Score: the map. Exact Mann-Whitney statistic, the share of pairs (pixel
    above, pixel not above) that the map puts in that order; a tie counts one half. NaN where :func:`nss` is.
    """
    return AUC.values(paired(maps, cam))


def top_iou(a: Tensor, b: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Intersection over union of the highest pixels of each map: (B, H, W) x 2 -> (B,) in [0, 1].

    Exactly ceil(share * H * W) pixels are taken from each map; among equal values the pixel that comes first
    in row-major order wins, so the result is deterministic. ``share`` lies strictly between 0 and 1; two
    unrelated maps overlap by about share/(2 - share), which is 0.11 for the default 0.2.
    """
    return top_iou_metric(share).values(paired(a, b, ("a", "b")))


def energy_share(maps: Tensor, cam: Tensor) -> Tensor:
    """Share of the map's sum that lies where the CAM is at least 0.5: (B, H, W) x 2 -> (B,) in [0, 1].

    "Energy" is the sum of the map's values, as in the energy-based pointing game (Wang et al., Score-CAM, CVPR
    Workshops 2020). The CAM is taken as it is: min-max normalised to [0, 1], as
    :func:`~ssimpert.analysis.grad_cam` returns it. NaN also where it leaves that range, where it reaches 0.5 nowhere
    or everywhere, and where the map has negative values. An unrelated map scores the share of the area.
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

    By name, in the protocol's order: ``pearson``, ``spearman``, ``similarity``, ``kl_divergence`` (lower is closer),
    ``nss``, ``auc``, ``top20_iou``, ``energy_share``. Writing down the reasons waits for the device.
    """
    pair = paired(maps, cam)
    return Agreement(
        values={name: metric.values(pair) for name, metric in AGREEMENT_METRICS.items()},
        reasons={name: first_reasons(metric.all_faults(pair)) for name, metric in AGREEMENT_METRICS.items()},
    )
