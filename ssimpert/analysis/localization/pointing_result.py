"""The trials of the pointing game and their accuracy (:mod:`ssimpert.analysis.localization.pointing_game`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ssimpert.errors import InputError


class PointingRow(TypedDict):
    """One trial. ``x`` and ``y`` are NaN where there is a ``reason``; ``difficult`` is ``None`` where the
    difficult subset was not given."""

    pair: int
    category: int
    x: float
    y: float
    hit: bool
    difficult: bool | None
    reason: str | None


@dataclass(frozen=True, eq=False)
class PointingResult:
    """Trials of the pointing game.

    Attributes:
        points: (N, 2) float64, (x, y) in pixels; NaN where the map points nowhere.
        hits: (N,) bool; False where the map points nowhere.
        categories: (N,) int64, the class of each trial.
        difficult: (N,) bool, the trials of the difficult subset, or ``None`` where it was not given.
        reasons: why a map points nowhere, ``None`` where it points.
    """

    points: Tensor
    hits: Tensor
    categories: Tensor
    difficult: Tensor | None
    reasons: tuple[str | None, ...]

    @property
    def accuracy(self) -> float:
        """The share of hits of each class, averaged over the classes that have a trial; in [0, 1].

        TorchRay averages over all classes of the data set. The two are equal where every class has a trial, as in VOC
        2007 test.
        """
        return _mean_over_classes(self.hits, self.categories)

    @property
    def difficult_accuracy(self) -> float:
        """:attr:`accuracy` over the difficult subset; NaN where no trial is difficult.

        Raises:
            InputError: the subset was not given.
        """
        if self.difficult is None:
            raise InputError("the difficult subset was not given; pass difficult= (see difficult_pairs)")
        return _mean_over_classes(self.hits[self.difficult], self.categories[self.difficult])

    @property
    def class_accuracies(self) -> dict[int, float]:
        """Share of hits for each class with a trial."""
        return {
            int(category): float(self.hits[self.categories == category].double().mean())
            for category in self.categories.unique()
        }

    @property
    def degenerate(self) -> int:
        """The number of maps that point nowhere."""
        return sum(reason is not None for reason in self.reasons)

    def records(self) -> list[PointingRow]:
        """A row for each trial: a tidy table."""
        difficult = [None] * len(self.reasons) if self.difficult is None else self.difficult.tolist()
        columns = zip(
            self.categories.tolist(), self.points.tolist(), self.hits.tolist(), difficult, self.reasons, strict=True
        )
        return [
            PointingRow(pair=index, category=category, x=x, y=y, hit=hit, difficult=is_difficult, reason=reason)
            for index, (category, (x, y), hit, is_difficult, reason) in enumerate(columns)
        ]


def joined(results: Sequence[PointingResult]) -> PointingResult:
    """The trials of several calls as one result, in order.

    One call takes masks of one size, so images of different sizes need a call for each size.

    Raises:
        InputError: no results, or a difficult subset in some results only.
    """
    if not results:
        raise InputError("results must hold at least one PointingResult, got none")
    if len({result.difficult is None for result in results}) > 1:
        raise InputError("results must all know the difficult subset or none of them")
    subsets = [result.difficult for result in results if result.difficult is not None]
    return PointingResult(
        points=torch.cat([result.points for result in results]),
        hits=torch.cat([result.hits for result in results]),
        categories=torch.cat([result.categories for result in results]),
        difficult=torch.cat(subsets) if subsets else None,
        reasons=tuple(reason for result in results for reason in result.reasons),
    )


def _mean_over_classes(hits: Tensor, categories: Tensor) -> float:
    if len(hits) == 0:
        return float("nan")
    shares = [hits[categories == category].double().mean() for category in categories.unique()]
    return float(torch.stack(shares).mean())
