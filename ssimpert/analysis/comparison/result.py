"""What a comparison found, as maps, as a table, as records and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import numpy as np
import torch
from torch import Tensor

from solvers.printing import Printed, Summary, cells, counted, image_numbers
from ssimpert.analysis.comparison.maps import Maps
from ssimpert.analysis.comparison.scores import MapScores
from ssimpert.analysis.map_agreement.agreement import Agreement
from ssimpert.analysis.statistics.bootstrap import Clusters
from ssimpert.analysis.statistics.table import COLUMNS, agreement_table
from ssimpert.errors import InputError
from ssimpert.notebook_pictures import map_pictures
from ssimpert.perturbation.results import PerturbResult
from ssimpert.printing import listed
from ssimpert.records import json_values
from ssimpert.validation import Integers, Names

if TYPE_CHECKING:
    import pandas as pd


P_VALUE = "p_value"
# So many methods have a column in what a comparison prints.
METHODS_SHOWN = 4


class AgreementRow(TypedDict):
    """One map of one image: every metric, NaN where ``reasons`` has an entry for that metric.

    ``p_values`` has the metrics that are tested by circular shifts. The measures from ``energy_over_area`` on are there
    if masks, or insertion and deletion, were asked for.
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


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Printed):
    """What :func:`ssimpert.compare` returns.

    Attributes:
        perturbation: the perturbation's name.
        cam: (B, H, W) in [0, 1], the class activation map of each clean image for ``cam_target``; zeros where the map
            is constant.
        cam_name: the name of its method; ``"grad_cam"`` by default.
        cam_target: (B,) int64, the class that the map explains: the model's own label of the clean image.
        cam_layer: the name of the layer that the map explains.
        maps: the maps by method and kind, (B, H, W) each, in this order: the perturbation and its control, with the
            kinds ``rms``, ``ssim`` and ``contribution``; ``"gradient magnitude"``, ``"local std"``, ``"local
            variance"``, ``"centred Gaussian"`` and each attribution, with one kind named after the method; ``"random
            weights"``, with the class activation map and the ``gradient_magnitude`` of the randomised model.
        scores: the measures by method and kind, as ``maps``.
        control: the control perturbation; ``None`` where the control was left out.
        settings: what the numbers depend on, as plain values.
        run: which run this is: a list over images for each of :data:`~ssimpert.analysis.RUN_COLUMNS`, such as the
            model, the constraint and its level.
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
    run: dict[str, list[Any]] = field(default_factory=dict)

    def summary(self) -> Summary:
        """What the comparison prints: the Pearson correlation of every method's first map, image by image."""
        images = len(self.cam)
        first = {name: next(iter(kinds.values())) for name, kinds in self.scores.items() if kinds}
        columns = {name: cells(scores.values["pearson"], "+.3f") for name, scores in first.items()}
        shown = dict(list(columns.items())[:METHODS_SHOWN])
        return Summary(
            f"Comparison of {self.perturbation!r} with {self.cam_name} ({self.cam_layer}): {counted(images)}",
            {"image": image_numbers(images), "class": cells(self.cam_target), **shown},
            images,
            [f"methods: {listed(list(self.scores))}; Pearson correlations of the first map of each; table() has all"],
        )

    def _repr_html_(self) -> str:
        first = [(name, next(iter(kinds.values()))) for name, kinds in self.maps.items() if kinds]
        return super()._repr_html_() + map_pictures([(self.cam_name, self.cam), *first[:METHODS_SHOWN]])

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
        images: Names | Integers | None = None,
        columns: Mapping[str, Clusters] | None = None,
    ) -> pd.DataFrame:
        """The per-image table (:mod:`ssimpert.analysis.statistics.table`): a row for each image, method, map and
        metric.

        :func:`~ssimpert.analysis.summarize`, :func:`~ssimpert.analysis.paired_differences` and
        :func:`~ssimpert.analysis.write_table` take this table. ``table.attrs`` has the settings.

        The columns :data:`~ssimpert.analysis.RUN_COLUMNS` say which run each row is of: model, constraint, level,
        engine, seed, and what tells two sets of one kind apart. So ``pandas.concat`` puts the tables of several
        comparisons together, and ``by`` of :func:`~ssimpert.analysis.summarize` takes them apart again.

        The column ``p_value`` has the p-values by circular shifts. They are a column and not a metric, since each
        belongs to the value of its row; a mean of p-values, or their correction among the tests of differences, would
        mean nothing. ``p_value`` is NaN for every metric but Pearson and Spearman, and where the value is NaN.

        Args:
            images: B identifiers, all different; default 0 to B - 1.
            columns: further columns, B values each, such as the object of a composite. A column of the name of a run's
                column replaces that one; a ``level`` of your own has no ``level_unit``.

        Raises:
            InputError: identifiers that are not all different, a column of another length, or one of the table's own
                names.
        """
        import pandas as pd

        count = self.cam.shape[0]
        identifiers = list(range(count)) if images is None else images
        given = dict(columns or {})
        run = self.run | ({"level_unit": [""] * count} if self.run and "level" in given else {})
        extra = {**run, **given}
        if P_VALUE in extra:
            raise InputError(f"column {P_VALUE!r} is the table's own; taken: {', '.join((*COLUMNS, P_VALUE))}")
        parts = []
        for name, kinds in self.scores.items():
            for kind, scores in kinds.items():
                measured = Agreement(scores.values, scores.reasons)
                part = agreement_table(measured, images=identifiers, method=name, kind=kind, columns=extra)
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
        """The records, the curves and the outcome of the control as JSON values.

        NaN becomes ``None``. The maps are left out.
        """
        curves = {
            name: {
                kind: {curve_kind: _curve(curve) for curve_kind, curve in scores.curves.items()}
                for kind, scores in kinds.items()
            }
            for name, kinds in self.scores.items()
        }
        return {
            **self._origin(),
            "cam_target": self.cam_target.tolist(),
            "run": json_values(self.run),
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
    """The outcome of one perturbation: a list over images for each quantity."""
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
