"""Choose alpha on some images and judge it on others, so that no image's error profits from its own boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ssimpert.analysis.localization.thresholded_boxes import ThresholdedBoxes, Thresholding
from ssimpert.errors import InputError
from ssimpert.validation import check_seed


class LocalizationRow(TypedDict):
    """One image, judged at an alpha chosen elsewhere. ``iou`` and the box are NaN where there is a ``reason``."""

    image: int
    thresholding: Thresholding
    fold: int
    alpha: float
    x0: float
    y0: float
    x1: float
    y1: float
    iou: float
    correct: bool
    reason: str | None


@dataclass(frozen=True, eq=False)
class HeldOutLocalization:
    """B images, each judged at an alpha that was chosen without it.

    Attributes:
        thresholding: ``"value"``, ``"energy"`` or ``"mean"``.
        alpha: (B,) float64.
        fold: (B,) int64, the image's fold; 0 where one set chose for another.
        boxes: (B, 4) float64, (x0, y0, x1, y1), ends exclusive; NaN where the map estimates nothing.
        iou: (B,) float64; NaN where the map estimates nothing.
        correct: (B,) bool.
        reasons: why a map estimates nothing, ``None`` where it does.
    """

    thresholding: Thresholding
    alpha: Tensor
    fold: Tensor
    boxes: Tensor
    iou: Tensor
    correct: Tensor
    reasons: tuple[str | None, ...]

    @property
    def error(self) -> float:
        """The share of images that are wrong, in [0, 1]."""
        return 1 - float(self.correct.double().mean())

    def records(self) -> list[LocalizationRow]:
        """A row for each image: a tidy table."""
        columns = zip(
            self.fold.tolist(),
            self.alpha.tolist(),
            self.boxes.tolist(),
            self.iou.tolist(),
            self.correct.tolist(),
            self.reasons,
            strict=True,
        )
        return [
            LocalizationRow(
                image=index,
                thresholding=self.thresholding,
                fold=fold,
                alpha=alpha,
                x0=x0,
                y0=y0,
                x1=x1,
                y1=y1,
                iou=iou,
                correct=correct,
                reason=reason,
            )
            for index, (fold, alpha, (x0, y0, x1, y1), iou, correct, reason) in enumerate(columns)
        ]


def choose_alpha(result: ThresholdedBoxes, images: Tensor | None = None) -> float:
    """The alpha with the least error over ``images`` (indices; default all), the smallest of equals."""
    return result.alphas[_chosen(result, images)]


def judged(chosen_on: ThresholdedBoxes, judged_on: ThresholdedBoxes) -> HeldOutLocalization:
    """Choose alpha on one set of images and judge it on another.

    Raises:
        InputError: the two differ in thresholding or in their alphas.
    """
    for what in ("thresholding", "alphas"):
        first, second = getattr(chosen_on, what), getattr(judged_on, what)
        if first != second:
            raise InputError(f"both sets must have the same {what}, got {first!r} and {second!r}")
    device = judged_on.correct.device
    count = len(judged_on.reasons)
    column = torch.full((count,), _chosen(chosen_on, None), device=device)
    return _at(judged_on, column, torch.zeros(count, dtype=torch.int64, device=device))


def cross_validated(result: ThresholdedBoxes, *, folds: int = 5, seed: int = 0) -> HeldOutLocalization:
    """Judge every image at the alpha chosen on the other folds.

    The images are dealt at random into ``folds`` parts (2 to B, default 5) whose sizes differ by at most one;
    ``seed`` alone decides how.

    Raises:
        InputError: fewer images than folds, or fewer than 2 folds.
    """
    count = len(result.reasons)
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= count:
        raise InputError(f"folds must be an integer from 2 to the number of images, {count}, got {folds!r}")
    check_seed(seed)
    device = result.correct.device
    # Dealt on the CPU, so that a seed means the same folds on every device.
    fold = torch.empty(count, dtype=torch.int64)
    fold[torch.randperm(count, generator=torch.Generator().manual_seed(seed))] = torch.arange(count) % folds
    fold = fold.to(device)
    column = torch.empty(count, dtype=torch.int64, device=device)
    for part in range(folds):
        column[fold == part] = _chosen(result, (fold != part).nonzero()[:, 0])
    return _at(result, column, fold)


def _chosen(result: ThresholdedBoxes, images: Tensor | None) -> int:
    correct = result.correct if images is None else result.correct[images]
    if len(correct) == 0:
        raise InputError("alpha must be chosen on at least one image, got none")
    right = correct.sum(dim=0).tolist()
    order = sorted(range(len(right)), key=lambda index: (-right[index], result.alphas[index]))
    return order[0]


def _at(result: ThresholdedBoxes, column: Tensor, fold: Tensor) -> HeldOutLocalization:
    """Each image's entry at its own column of the alphas."""
    rows = torch.arange(len(column), device=column.device)
    alphas = torch.tensor(result.alphas, dtype=torch.float64, device=column.device)
    return HeldOutLocalization(
        thresholding=result.thresholding,
        alpha=alphas[column],
        fold=fold,
        boxes=result.boxes[rows, column],
        iou=result.iou[rows, column],
        correct=result.correct[rows, column],
        reasons=result.reasons,
    )
