"""Choose alpha on some images and evaluate it on others.

No image's error then profits from that image's own boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from solvers.validation import as_integer, shown
from ssimpert.analysis.localization.thresholded_boxes import ThresholdedBoxes, Thresholding
from ssimpert.errors import InputError
from ssimpert.validation import Integers, check_integers, check_seed


class LocalizationRow(TypedDict):
    """One image at an alpha that other images chose. ``iou`` and the box are NaN where there is a ``reason``."""

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
class CrossValidatedLocalization:
    """B images, each evaluated at an alpha that was chosen without that image.

    (Called ``HeldOutLocalization`` before; the old name still works.)

    Attributes:
        thresholding: ``"value"``, ``"energy"`` or ``"mean"``.
        alpha: (B,) float64, the alpha at which each image is evaluated.
        fold: (B,) int64, the fold of each image; 0 where one set of images chose for another.
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


def choose_alpha(result: ThresholdedBoxes, images: Integers | None = None) -> float:
    """The alpha with the least error over ``images`` (indices; default all); the smallest among equals.

    Raises:
        InputError: no images, or an index that is no integer from 0 to the number of images less 1.
    """
    if images is None:
        return result.alphas[_best_column(result, None)]
    count = len(result.reasons)
    indices = check_integers("images", images)
    for index in indices:
        if not 0 <= index < count:
            raise InputError(f"image {index} is not in the result; it has images 0 to {count - 1}")
    return result.alphas[_best_column(result, torch.tensor(indices, dtype=torch.int64))]


def evaluate_at(chosen_on: ThresholdedBoxes, evaluated_on: ThresholdedBoxes) -> CrossValidatedLocalization:
    """Evaluate the images of ``evaluated_on`` at the alpha that has the least error over the images of ``chosen_on``.

    (Called ``judged`` before; the old name still works.)

    Raises:
        InputError: the two differ in their thresholding or in their alphas.
    """
    for attribute in ("thresholding", "alphas"):
        first, second = getattr(chosen_on, attribute), getattr(evaluated_on, attribute)
        if first != second:
            raise InputError(f"both sets must have the same {attribute}, got {first!r} and {second!r}")
    device = evaluated_on.correct.device
    count = len(evaluated_on.reasons)
    columns = torch.full((count,), _best_column(chosen_on, None), device=device)
    return _at_columns(evaluated_on, columns, torch.zeros(count, dtype=torch.int64, device=device))


def cross_validated(result: ThresholdedBoxes, *, folds: int = 5, seed: int = 0) -> CrossValidatedLocalization:
    """Evaluate every image at the alpha that has the least error over the images of the other folds.

    The images are dealt at random into ``folds`` folds (2 to B, default 5). The sizes of the folds differ by at most
    one. ``seed`` (default 0) alone decides which image goes where.

    Raises:
        InputError: fewer images than folds, or fewer than 2 folds.
    """
    count = len(result.reasons)
    fold_count = as_integer(folds)
    if fold_count is None or not 2 <= fold_count <= count:
        raise InputError(f"folds must be an integer from 2 to the number of images, {count}, got {shown(folds)}")
    seed = check_seed(seed)
    device = result.correct.device
    # The images are dealt on the CPU, so that a seed means the same folds on every device.
    fold = torch.empty(count, dtype=torch.int64)
    fold[torch.randperm(count, generator=torch.Generator().manual_seed(seed))] = torch.arange(count) % fold_count
    fold = fold.to(device)
    columns = torch.empty(count, dtype=torch.int64, device=device)
    for left_out in range(fold_count):
        columns[fold == left_out] = _best_column(result, (fold != left_out).nonzero()[:, 0])
    return _at_columns(result, columns, fold)


def _best_column(result: ThresholdedBoxes, images: Tensor | None) -> int:
    """The index of the alpha with the least error over ``images``; among equals that of the smallest alpha."""
    correct = result.correct if images is None else result.correct[images.to(result.correct.device)]
    if len(correct) == 0:
        raise InputError("alpha must be chosen on at least one image, got none")
    hits = correct.sum(dim=0).tolist()
    return min(range(len(hits)), key=lambda column: (-hits[column], result.alphas[column]))


def _at_columns(result: ThresholdedBoxes, columns: Tensor, fold: Tensor) -> CrossValidatedLocalization:
    """Each image at its own column of the alphas: ``columns`` and ``fold`` are (B,)."""
    rows = torch.arange(len(columns), device=columns.device)
    alphas = torch.tensor(result.alphas, dtype=torch.float64, device=columns.device)
    return CrossValidatedLocalization(
        thresholding=result.thresholding,
        alpha=alphas[columns],
        fold=fold,
        boxes=result.boxes[rows, columns],
        iou=result.iou[rows, columns],
        correct=result.correct[rows, columns],
        reasons=result.reasons,
    )


HeldOutLocalization = CrossValidatedLocalization
judged = evaluate_at
