"""``[analysis]``: what is measured of every perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ssimpert.analysis.attributions.catalog import ATTRIBUTIONS
from ssimpert.analysis.comparison.maps import CENTRED_GAUSSIAN, GRADIENT_MAGNITUDE, LOCAL_STD, LOCAL_VARIANCE
from ssimpert.analysis.comparison.options import CAMS
from ssimpert.analysis.map_agreement.shift_test import MIN_SHIFTS
from ssimpert.study.sections.section import OptionError, Section, at_key, read_choice, read_choices, read_name
from ssimpert.validation import check_count, check_flag

MAPS = ("rms", "ssim", "contribution")
METRICS = ("agreement", "pointing", "localization", "insertion-deletion")
OBJECT_METRICS = ("pointing", "localization")
"""The metrics that ask where the objects are."""
L2_CONTROL = "l2"
CONTROLS = {
    L2_CONTROL: "l2",
    "gradient-magnitude": GRADIENT_MAGNITUDE,
    "local-std": LOCAL_STD,
    "local-variance": LOCAL_VARIANCE,
    "gaussian": CENTRED_GAUSSIAN,
}
"""The controls by their names in a study, and what :func:`ssimpert.compare` calls each."""


@dataclass(frozen=True, kw_only=True)
class AnalysisSection(Section):
    """What :func:`ssimpert.compare` and the benchmarks of localisation measure of every perturbation.

    Attributes:
        maps: the kinds of maps of a perturbation: ``"rms"``, ``"ssim"``, ``"contribution"``; default all.
        cam: the class activation map to compare with; default ``"grad_cam"``.
        layer: the layer of the class activation map; default the model's own.
        attributions: further maps to compare, by their names in :data:`ssimpert.analysis.ATTRIBUTIONS`; default none.
        metrics: ``"agreement"`` (default), ``"pointing"``, ``"localization"``, ``"insertion-deletion"``; an empty list
            leaves the analysis out.
        controls: what stands beside the perturbation; default all of :data:`CONTROLS`. ``"l2"`` is a run of its own.
        shifts: how many circular shifts give the p-values of the agreement: at least 200, or 0 for none; default 200.
        sanity: whether the maps of the model with random weights are compared, too; default False.
    """

    section: ClassVar[str] = "analysis"

    maps: tuple[str, ...] = MAPS
    cam: str = "grad_cam"
    layer: str | None = None
    attributions: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("agreement",)
    controls: tuple[str, ...] = tuple(CONTROLS)
    shifts: int = MIN_SHIFTS
    sanity: bool = False

    def __post_init__(self) -> None:
        for key, valid in (
            ("maps", MAPS),
            ("attributions", tuple(ATTRIBUTIONS)),
            ("metrics", METRICS),
            ("controls", tuple(CONTROLS)),
        ):
            object.__setattr__(self, key, read_choices(key, getattr(self, key), valid))
        read_choice("cam", self.cam, CAMS)
        if self.layer is not None:
            read_name("layer", self.layer)
        with at_key("shifts"):
            shifts = check_count("shifts", self.shifts, 0)
        if 0 < shifts < MIN_SHIFTS:
            raise OptionError(
                f"shifts must be 0, for no p-values, or at least {MIN_SHIFTS}, got {shifts}", key="shifts"
            )
        object.__setattr__(self, "shifts", shifts)
        with at_key("sanity"):
            object.__setattr__(self, "sanity", check_flag("sanity", self.sanity))

    @property
    def measures_maps(self) -> bool:
        """Whether any map is made."""
        return bool(self.metrics)

    @property
    def used_shifts(self) -> int:
        """The circular shifts of the p-values, which belong to the agreement; 0 without this metric."""
        return self.shifts if "agreement" in self.metrics else 0

    @property
    def needs_objects(self) -> bool:
        """Whether a metric asks where the objects of an item are."""
        return bool(set(OBJECT_METRICS) & set(self.metrics))

    def deciding_options(self) -> dict[str, Any]:
        """What decides the measures of a perturbation. The order in which names are listed decides nothing."""
        if not self.metrics:
            return {}
        return {
            "maps": sorted(self.maps),
            "cam": self.cam,
            "layer": self.layer,
            "attributions": sorted(self.attributions),
            "metrics": sorted(self.metrics),
            "controls": sorted(self.controls),
            "shifts": self.used_shifts,
            "sanity": self.sanity,
        }
