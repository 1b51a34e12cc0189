"""The curve of an insertion or a deletion, and its area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor

Kind = Literal["insertion", "deletion"]


class CurveRow(TypedDict):
    """The figures of one image's curve. ``auc``, ``start`` and ``end`` are NaN where there is a ``reason``."""

    image: int
    kind: Kind
    target: int
    auc: float
    start: float
    end: float
    reason: str | None


@dataclass(frozen=True, eq=False)
class PixelCurve:
    """The probabilities of a class along an insertion or a deletion of n steps.

    Attributes:
        kind: ``"insertion"`` or ``"deletion"``.
        scores: (B, n+1) float64, the probability of the target after k steps; NaN for a map that ranks no pixels.
        fractions: (n+1,) float64, the share of pixels that have changed after k steps: min(k*step, H*W)/(H*W). The last
            step may change fewer pixels than the others.
        auc: (B,) float64, the published area (sum - first/2 - last/2)/n. All steps count alike, a smaller last one,
            too.
        target: (B,) int64, the class whose probability is followed.
        start: (B,), the first score.
        end: (B,), the last score.
        reasons: for each image why there is no curve; ``None`` where there is one.
    """

    kind: Kind
    scores: Tensor
    fractions: Tensor
    auc: Tensor
    target: Tensor
    reasons: tuple[str | None, ...]

    @property
    def start(self) -> Tensor:
        return self.scores[:, 0]

    @property
    def end(self) -> Tensor:
        return self.scores[:, -1]

    @property
    def auc_over_fractions(self) -> Tensor:
        """(B,), the area by the trapezoid rule over ``fractions``; equal to ``auc`` where ``step`` divides H*W."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)

    def records(self) -> list[CurveRow]:
        """A row for each image: a tidy table."""
        columns = zip(
            self.target.tolist(), self.auc.tolist(), self.start.tolist(), self.end.tolist(), self.reasons, strict=True
        )
        return [
            CurveRow(image=index, kind=self.kind, target=target, auc=auc, start=start, end=end, reason=reason)
            for index, (target, auc, start, end, reason) in enumerate(columns)
        ]
