"""What a perturbation returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from solvers.constraints import Constraint
from ssimpert.linearization import Margin

# A constraint set, or a rule that makes one for the current references (B, C, H, W).
ConstraintRule = Constraint | Callable[[Tensor], Constraint]


class StepRow(TypedDict):
    """One step of one image: the margin and label *after* the step, and what the solver said of the step."""

    step: int
    image: int
    margin: float
    label: int
    step_length: float
    rel_gap: float
    status: str
    seconds: float


@dataclass(frozen=True, eq=False)
class PerturbResult:
    """Perturbed images and what is true of them, one entry per image; failures are returned too.

    Every number is measured on ``adversarial`` as returned, after rounding to its dtype, by a fresh forward pass.

    Attributes:
        adversarial: (B, C, H, W) in [0, 1], in the images' dtype.
        delta: ``adversarial - image``.
        success: (B,) bool, whether the goal is reached: the label changed, or became the target.
        label: (B,) long, the classes that the margin is measured against: the caller's, or ``label_before``.
        label_before, label_after: (B,) long, the model's own labels.
        margin_before, margin_after: (B,), on logits; positive where the goal is reached.
        ssim: (B,), mean SSIM to the clean image (Gaussian 11x11, sigma 1.5, valid region).
        min_window_ssim: (B,), the least SSIM of any whole window at stride 1 (so for tiles also of the windows
            across their borders, which the tiles don't constrain). The window is the constraint's own, with its
            covariance and range, where it is a WindowSSIM; else the Gaussian of the index.
        violation: (B,), the excess of ``delta`` over the constraint set around the original image, in the set's own
            unit, at least 0: what rounding to the dtype cost. NaN for re-centred perturbations.
        contrast_distance: (B,), d2 to the clean image over the whole image (methods B).
        gradient: (B, C, H, W), the margin's gradient at the clean image.
        stationarity_gap: (B,), ``max <grad, s - d>`` over the set at the returned point, bounded from above by the
            solver's certificate: the linear model promises no more margin than this. NaN for re-centred
            perturbations, whose set moves along.
        steps: (B,) long, steps taken.
        messages: (B,), why an image stopped early, or empty.
        history: one row per step and image.
        name: what to call the perturbation in tables.
        margin: the goal.
        constraint: the set, or the rule that makes one.
        settings: how it was made, as plain values.
        seconds: wall-clock time of the whole batch.
    """

    adversarial: Tensor
    delta: Tensor
    success: Tensor
    label: Tensor
    label_before: Tensor
    label_after: Tensor
    margin_before: Tensor
    margin_after: Tensor
    ssim: Tensor
    min_window_ssim: Tensor
    violation: Tensor
    contrast_distance: Tensor
    gradient: Tensor
    stationarity_gap: Tensor
    steps: Tensor
    messages: tuple[str, ...]
    history: tuple[StepRow, ...]
    name: str
    margin: Margin
    constraint: ConstraintRule
    settings: dict[str, Any]
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """The numbers, one dictionary of plain values per image, ready for a table or JSON."""
        norm = torch.linalg.vector_norm(self.delta.double().flatten(1), dim=1)
        largest = self.delta.double().abs().flatten(1).amax(dim=1)
        return [
            {
                "image": k,
                "perturbation": self.name,
                "success": bool(self.success[k]),
                "label_before": int(self.label_before[k]),
                "label_after": int(self.label_after[k]),
                "margin_before": float(self.margin_before[k]),
                "margin_after": float(self.margin_after[k]),
                "ssim": float(self.ssim[k]),
                "min_window_ssim": float(self.min_window_ssim[k]),
                "violation": float(self.violation[k]),
                "contrast_distance": float(self.contrast_distance[k]),
                "l2_norm": float(norm[k]),
                "linf_norm": float(largest[k]),
                "stationarity_gap": float(self.stationarity_gap[k]),
                "steps": int(self.steps[k]),
                "message": self.messages[k],
            }
            for k in range(self.success.shape[0])
        ]
