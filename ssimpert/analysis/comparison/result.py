"""What a comparison found, as maps, as a table, as records and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import numpy as np
import torch
from torch import Tensor

from ssimpert.analysis.comparison.maps import Maps
from ssimpert.analysis.comparison.scores import MapScores
from ssimpert.analysis.map_agreement.agreement import Agreement
from ssimpert.analysis.statistics.table import COLUMNS, agreement_table
from ssimpert.errors import InputError
from ssimpert.perturbation.results import PerturbResult
from ssimpert.records import json_values

if TYPE_CHECKING:
    import pandas as pd


P_VALUE = "p_value"


class AgreementRow(TypedDict):
    """One map of one image: every metric, NaN where ``reasons`` has an entry for it.

    ``p_values``: of the metrics that have a null by circular shifts. The measures from ``energy_over_area`` on are
    there where masks, or insertion and deletion, were asked for.
    """

    image: int
    perturbation: str
    map: str
    pearson: float
    spearman: float
    similarity: float
    kl_divergence: float
    nss: float
    auc: float
    top20_iou: float
    energy_share: float
    energy_over_area: NotRequired[float]
    pointing_hit: NotRequired[float]
    best_box_iou: NotRequired[float]
    insertion_auc: NotRequired[float]
    deletion_auc: NotRequired[float]
    p_values: dict[str, float]
    reasons: dict[str, str]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What :func:`ssimpert.analysis.comparison.compare.compare` found.

    Attributes:
        perturbation: the perturbation's name.
        cam: (B, H, W), the class activation map of the clean image for ``cam_target``, each in [0, 1]; zeros where
            flat.
        cam_name: its method's name, ``"grad_cam"`` unless asked otherwise.
        cam_target: (B,), the class explained: the model's own label of the clean image.
        cam_layer: name of the layer explained.
        maps: by method and kind, each (B, H, W), in this order: the perturbation and its control (``rms``, ``ssim``,
            ``contribution``); ``"gradient magnitude"``, ``"local std"``, ``"local variance"``, ``"centred Gaussian"``
            and each attribution (one kind, named after the method); ``"random weights"`` (the class activation map
            and ``gradient_magnitude`` of the randomised model).
        scores: by method and kind, as ``maps``.
        control: the control perturbation, or ``None`` where it was not asked for.
        settings: what the numbers depend on, as plain values.
    """

    perturbation: str
    cam: Tensor
    cam_name: str
    cam_target: Tensor
    cam_layer: str
    maps: Maps
    scores: dict[str, dict[str, MapScores]]
    control: PerturbResult | None
    settings: dict[str, Any]

    @cached_property
    def records(self) -> list[AgreementRow]:
        """A row for each image and map with all metrics side by side, image by image, in the order of ``maps``."""
        columns = [
            (name, kind, _lists(scores.values), _lists(scores.p_values), scores.reasons)
            for name, kinds in self.scores.items()
            for kind, scores in kinds.items()
        ]
        rows = [
            {"image": index, "perturbation": name, "map": kind}
            | {metric: column[index] for metric, column in values.items()}
            | {
                "p_values": {metric: column[index] for metric, column in p_values.items()},
                "reasons": {metric: column[index] for metric, column in reasons.items() if column[index]},
            }
            for index in range(self.cam.shape[0])
            for name, kind, values, p_values, reasons in columns
        ]
        return cast("list[AgreementRow]", rows)

    def table(
        self,
        images: Sequence[str] | Sequence[int] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> pd.DataFrame:
        """The per-image table of :mod:`ssimpert.analysis.statistics.table`: a row for each image, method, map and
        metric.

        For :func:`~ssimpert.analysis.summarize`, :func:`~ssimpert.analysis.paired_differences` and
        :func:`~ssimpert.analysis.write_table`; tables of several comparisons go together with ``pandas.concat``.

        Args:
            images: B identifiers, all different; default 0 to B - 1.
            columns: further columns, B values each, such as the constraint's level or the object of a composite.

        Column ``p_value`` is that of the circular shifts. It is a column and not a metric, for it belongs to its row's
        value, and a mean of p-values or their correction among the tests of differences would mean nothing. It is NaN
        for metrics without a null (all but Pearson and Spearman) and where the value is NaN. ``table.attrs`` has the
        settings.
        """
        import pandas as pd

        count = self.cam.shape[0]
        named = list(range(count)) if images is None else images
        extra = dict(columns or {})
        if P_VALUE in extra:
            raise InputError(f"column {P_VALUE!r} is the table's own; taken: {', '.join((*COLUMNS, P_VALUE))}")
        parts = []
        for name, kinds in self.scores.items():
            for kind, scores in kinds.items():
                found = Agreement(scores.values, scores.reasons)
                part = agreement_table(found, images=named, method=name, kind=kind, columns=extra)
                missing = np.full(count, math.nan)
                p_values = [
                    scores.p_values[metric].cpu().numpy() if metric in scores.p_values else missing
                    for metric in scores.values
                ]
                part.insert(part.columns.get_loc("value") + 1, P_VALUE, np.stack(p_values, axis=1).ravel())
                parts.append(part)
        table = pd.concat(parts, ignore_index=True)
        table.attrs = {**self._origin(), "settings": self.settings}
        return table

    def to_json(self) -> dict[str, Any]:
        """The records, curves and the control's outcome as JSON values; NaN becomes ``None``. Maps are left out."""
        curves = {
            name: {
                kind: {what: _curve(curve) for what, curve in scores.curves.items()} for kind, scores in kinds.items()
            }
            for name, kinds in self.scores.items()
        }
        return {
            **self._origin(),
            "cam_target": self.cam_target.tolist(),
            "settings": self.settings,
            "control": None if self.control is None else _summary(self.control),
            "records": json_values(self.records),
            "curves": curves if self.settings["insertion_deletion"] else None,
        }

    def _origin(self) -> dict[str, str]:
        return {"perturbation": self.perturbation, "cam": self.cam_name, "cam_layer": self.cam_layer}


def _lists(columns: Mapping[str, Tensor]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in columns.items()}


def _curve(curve: Any) -> dict[str, Any]:
    return {
        "fractions": curve.fractions.tolist(),
        "scores": json_values(curve.scores.tolist()),
        "auc": json_values(curve.auc.tolist()),
        "target": curve.target.tolist(),
        "reasons": list(curve.reasons),
    }


def _summary(result: PerturbResult) -> dict[str, Any]:
    """One perturbation's outcome, a list over images for each quantity."""
    per_image = {
        "success": result.success,
        "label_before": result.label_before,
        "label_after": result.label_after,
        "margin_before": result.margin_before,
        "margin_after": result.margin_after,
        "ssim": result.ssim,
        "min_window_ssim": result.min_window_ssim,
        "contrast_distance": result.contrast_distance,
        "l2_norm": torch.linalg.vector_norm(result.delta.double().flatten(1), dim=1),
    }
    return {"name": result.name, **{key: json_values(values.tolist()) for key, values in per_image.items()}}
