"""How far two maps agree: metrics, and p-values from circular shifts."""

from ssimpert.analysis.map_agreement.agreement import (
    Agreement,
    agreement,
    auc,
    energy_share,
    kl_divergence,
    nss,
    pearson,
    similarity,
    spearman,
    top_iou,
)
from ssimpert.analysis.map_agreement.shift_test import ShiftNull, shift_null

__all__ = [
    "Agreement",
    "ShiftNull",
    "agreement",
    "auc",
    "energy_share",
    "kl_divergence",
    "nss",
    "pearson",
    "shift_null",
    "similarity",
    "spearman",
    "top_iou",
]
