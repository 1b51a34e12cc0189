"""The options of a comparison, as one frozen object that every stage reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from solvers.validation import as_list, plain
from ssimpert.analysis.attributions.class_targets import Model
from ssimpert.analysis.localization.boxes import Boxes, box_masks
from ssimpert.analysis.map_agreement.shift_test import MIN_SHIFTS
from ssimpert.models import OnnxClassifier
from ssimpert.models.layouts import Layout
from ssimpert.perturbation.results import PerturbResult
from ssimpert.validation import Names

CONTROLS = ("l2",)
"""The controls that :func:`ssimpert.compare` makes itself."""

CAMS = ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "guided_grad_cam")
"""The class activation maps, by their names in :data:`ssimpert.analysis.ATTRIBUTIONS`."""

FORWARD_ONLY = ("occlusion", "rise")
"""The attributions that need no gradient."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonOptions:
    """The keywords of :func:`ssimpert.compare`, with the same names and defaults; that function documents each.

    The object itself checks nothing: see :mod:`ssimpert.analysis.comparison.checks`. Scalars of numpy and torch become
    values of Python, and the names of attributions a tuple.
    """

    control: str | PerturbResult | None = "l2"
    support: Tensor | None = None
    layer: str | None = None
    layout: Layout | None = None
    prefix_tokens: int | None = None
    cam: str = "grad_cam"
    attributions: Names = ()
    masks: Tensor | None = None
    boxes: Boxes | None = None
    insertion_deletion: bool | int = False
    sanity: bool = False
    shifts: int = MIN_SHIFTS
    seed: int = 0
    forward: OnnxClassifier | None = None

    def __post_init__(self) -> None:
        for name in ("prefix_tokens", "insertion_deletion", "sanity", "shifts", "seed"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        names = as_list(self.attributions)
        object.__setattr__(self, "attributions", self.attributions if names is None else tuple(names))

    @property
    def draws_curves(self) -> bool:
        """Whether insertion and deletion are run for every map."""
        return self.insertion_deletion is not False

    @property
    def curve_step(self) -> int | None:
        """The pixels that insertion and deletion change at a time; ``None`` stands for their default."""
        return None if isinstance(self.insertion_deletion, bool) else self.insertion_deletion

    @property
    def uses_forward(self) -> bool:
        """Whether anything that is asked for runs passes without gradients, which ``forward`` could run."""
        return self.draws_curves or any(name in FORWARD_ONLY for name in self.attributions)

    @property
    def cam_options(self) -> dict[str, Any]:
        """Which layer the class activation maps read, and how: keywords of :func:`ssimpert.analysis.grad_cam`."""
        return {"layer": self.layer, "layout": self.layout, "prefix_tokens": self.prefix_tokens}

    def object_masks(self, maps: Tensor) -> Tensor | None:
        """The objects as masks of ``maps`` (B, H, W): ``masks``, else the union of ``boxes``, else ``None``."""
        if self.masks is not None or self.boxes is None:
            return self.masks
        count, height, width = maps.shape
        return box_masks(self.boxes, count, height, width, maps.device)

    def forward_model(self, model: Model) -> Model:
        """What runs the passes that need no gradient: ``forward``, or ``model`` where no copy was given."""
        return model if self.forward is None else self.forward

    def settings(self) -> dict[str, Any]:
        """What the numbers of a comparison depend on, as plain values."""
        return {
            "attributions": list(self.attributions),
            "masks": self.masks is not None or self.boxes is not None,
            "boxes": self.boxes is not None,
            "insertion_deletion": self.insertion_deletion,
            "sanity": self.sanity,
            "shifts": self.shifts,
            "seed": self.seed,
            "forward": "torch" if self.forward is None else "onnx",
        }
