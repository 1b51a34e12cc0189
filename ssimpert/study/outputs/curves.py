"""A value against the level, or against a distance that all families of sets have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssimpert.analysis.statistics.bootstrap import CONFIDENCE
from ssimpert.errors import InputError
from ssimpert.study.outputs.results import StudyResults
from ssimpert.study.outputs.table import with_attacks_named
from ssimpert.study.outputs.values import unit_values
from ssimpert.validation import check_count, check_seed, check_share

LEVEL = "level"
GRID = 60
RESAMPLES = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """One family's curve for one model.

    Attributes:
        model: its name.
        family: the formulation's or the attack's name.
        unit: of the levels, such as ``"threshold"``.
        levels: the levels, sorted by ``at``; for an attack its passes.
        at: where each level is on the axis, (levels,): the level itself, or the mean distance at that level.
        mean: the mean value at each level, (levels,).
        low, high: the ends of its interval; NaN from fewer than two images.
        grid: points on the axis between the first and the last level, (points,). Empty against the level.
        grid_mean, grid_low, grid_high: the value there, interpolated between levels; intervals by resampling the images
            and interpolating anew. NaN where too many resamples would have to extrapolate: more than
            ``1 - confidence`` of them.
        images: how many images have a number at all levels.
        left_out: how many images have a number at some of the levels and not at all of them.
    """

    model: str
    family: str
    unit: str
    levels: Floats
    at: Floats
    mean: Floats
    low: Floats
    high: Floats
    grid: Floats
    grid_mean: Floats
    grid_low: Floats
    grid_high: Floats
    images: int
    left_out: int = 0


def curves(
    results: StudyResults,
    value: str,
    *,
    against: str = LEVEL,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Curve]:
    """A curve for each model and family, over the images that have a number at all levels of that family.

    Against the level, a family without levels (a least budget) has no curve; against a distance it is one point. An
    attack with several radii is a family for each number of passes; one without a radius has its passes as levels.

    Args:
        results: of a study.
        value: see :func:`~ssimpert.study.outputs.values.unit_values`.
        against: ``"level"`` (default), whose axis each family has for itself; or a value that all families share, such
            as ``one_minus_ssim``, ``l2_norm``, ``linf_norm`` or ``success``. Levels are then placed at the mean of that
            value. Between levels the curve is linear; it is never extended beyond the first and the last level.
        confidence: of the intervals.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Raises:
        InputError: an unknown value, or no family with a number.
    """
    confidence = check_share("confidence", confidence)
    resamples, seed = check_count("resamples", resamples), check_seed(seed)
    frame = with_families(unit_values(results, value).frame)
    if against == LEVEL:
        frame["x"] = frame["place"]
    else:
        frame["x"] = unit_values(results, against).frame["value"].to_numpy()
    found = []
    for (model, family), group in frame.groupby(["model", "family"], sort=False):
        points = _points(group, against == LEVEL)
        if points is not None:
            found.append(_curve(str(model), str(family), str(group["unit"].iloc[0]), points, against == LEVEL,
                                _Bootstrap(confidence, resamples, seed)))  # fmt: skip
    if not found:
        where = " and a level" if against == LEVEL else f" and a number {against!r}"
        raise InputError(f"no family has a number {value!r}{where} for one image at all its levels")
    return found


def with_families(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with the columns ``family``, ``place`` (on the axis of the family; NaN without levels) and ``unit``."""
    is_attack = frame["attack"] != ""
    level = pd.to_numeric(frame["level"]).astype("float64")
    passes = pd.to_numeric(frame["passes"]).astype("float64")
    by_passes = is_attack & level.isna()
    # Passes of an attack with radii are no levels: its curve is over the radii.
    alone = frame["attack"].where(by_passes, with_attacks_named(frame)["formulation"])
    return frame.assign(
        family=alone, place=level.where(~by_passes, passes), unit=frame["level_unit"].mask(by_passes, "passes")
    )


@dataclass(frozen=True, eq=False)
class _Points:
    """Where each image is at each level: ``x`` and ``y`` (images, levels), levels in the order of their mean ``x``."""

    levels: Floats
    x: Floats
    y: Floats
    left_out: int


@dataclass(frozen=True)
class _Bootstrap:
    confidence: float
    resamples: int
    seed: int


def _points(group: pd.DataFrame, is_level: bool) -> _Points | None:
    """The images with a number at all levels; ``None`` where there is none, or no level to draw against."""
    if is_level and group["place"].isna().all():
        return None
    # Repeats of an image are one point. One level that is no number (a least budget) is one column.
    group = group.assign(place=group["place"].fillna(math.inf))
    means = group.groupby(["data", "item", "place"], sort=True)[["x", "value"]].mean()
    x, y = (means[name].unstack("place") for name in ("x", "value"))
    is_defined = (x.notna() & y.notna()).to_numpy()
    is_whole = is_defined.all(axis=1)
    if not is_whole.any():
        return None
    levels = x.columns.to_numpy(dtype=np.float64)
    xs, ys = x[is_whole].to_numpy(dtype=np.float64), y[is_whole].to_numpy(dtype=np.float64)
    order = np.argsort(xs.mean(axis=0), kind="stable")
    left_out = int((is_defined.any(axis=1) & ~is_whole).sum())
    levels = np.where(np.isinf(levels), math.nan, levels)
    return _Points(levels[order], xs[:, order], ys[:, order], left_out)


def _curve(model: str, family: str, unit: str, points: _Points, is_level: bool, bootstrap: _Bootstrap) -> Curve:
    at, mean = points.levels if is_level else points.x.mean(axis=0), points.y.mean(axis=0)
    grid = np.array([]) if is_level or len(at) < 2 else np.linspace(at[0], at[-1], GRID)
    low, high, grid_low, grid_high = _intervals(points, grid, bootstrap)
    return Curve(
        model=model, family=family, unit=unit, levels=points.levels, at=at, mean=mean, low=low, high=high, grid=grid,
        grid_mean=_between(grid, at, mean), grid_low=grid_low, grid_high=grid_high, images=len(points.x),
        left_out=points.left_out,
    )  # fmt: skip


def _intervals(points: _Points, grid: Floats, bootstrap: _Bootstrap) -> tuple[Floats, Floats, Floats, Floats]:
    """The ends of the intervals at the levels and on the grid, all NaN for a single image."""
    count, levels = points.x.shape
    ends = [np.full(size, math.nan) for size in (levels, levels, len(grid), len(grid))]
    if count < 2:
        return ends[0], ends[1], ends[2], ends[3]
    generator = np.random.default_rng(bootstrap.seed)
    means, grids = np.empty((bootstrap.resamples, levels)), np.empty((bootstrap.resamples, len(grid)))
    for number in range(bootstrap.resamples):
        # The same images give the places and the values, so that their errors stay together.
        drawn = generator.integers(count, size=count)
        means[number] = points.y[drawn].mean(axis=0)
        grids[number] = _between(grid, points.x[drawn].mean(axis=0), means[number])
    tails = [(1 - bootstrap.confidence) / 2, (1 + bootstrap.confidence) / 2]
    ends[0], ends[1] = np.quantile(means, tails, axis=0)
    is_inside = np.isfinite(grids).mean(axis=0) >= bootstrap.confidence
    if is_inside.any():
        ends[2][is_inside], ends[3][is_inside] = np.nanquantile(grids[:, is_inside], tails, axis=0)
    return ends[0], ends[1], ends[2], ends[3]


def _between(grid: Floats, at: Floats, values: Floats) -> Floats:
    """Linear interpolation; NaN beyond the ends."""
    if not len(grid):
        return np.array([])
    order = np.argsort(at, kind="stable")
    return np.interp(grid, at[order], values[order], left=math.nan, right=math.nan)
