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
            and interpolating anew. NaN where a resample would have to extrapolate.
        images: how many images all levels have.
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
    frame = with_attacks_named_apart(unit_values(results, value).frame)
    if against == LEVEL:
        frame["x"] = frame["place"]
    else:
        frame["x"] = unit_values(results, against).frame["value"].to_numpy()
    found = []
    for (model, family), group in frame.groupby(["model", "family"], sort=False):
        curve = _curve(str(model), str(family), group, against == LEVEL, confidence, resamples, seed)
        if curve is not None:
            found.append(curve)
    if not found:
        raise InputError(f"no family has a number {value!r} for one image at all its levels")
    return found


def with_attacks_named_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with the columns ``family`` and ``place``: the level, for an attack without a radius its passes."""
    named = with_attacks_named(frame)
    is_attack = frame["attack"] != ""
    family = frame["attack"].where(is_attack, named["formulation"])
    level = pd.to_numeric(frame["level"])
    place = level.where(~(is_attack & level.isna()), pd.to_numeric(frame["passes"]).astype("float64"))
    unit = frame["level_unit"].where(~(is_attack & level.isna()), "passes")
    return frame.assign(family=family, place=place.fillna(0.0), unit=unit)


def _curve(
    model: str, family: str, group: pd.DataFrame, is_level: bool, confidence: float, resamples: int, seed: int
) -> Curve | None:
    means = group.groupby(["data", "item", "place"], sort=True)[["x", "value"]].mean()
    x, y = (means[name].unstack("place") for name in ("x", "value"))
    whole = x.notna().all(axis=1) & y.notna().all(axis=1)
    if not whole.any():
        return None
    levels = x.columns.to_numpy(dtype=np.float64)
    xs, ys = x[whole].to_numpy(dtype=np.float64), y[whole].to_numpy(dtype=np.float64)  # (images, levels)
    count = len(xs)
    order = np.argsort(xs.mean(axis=0), kind="stable")
    levels, xs, ys = levels[order], xs[:, order], ys[:, order]
    at, mean = xs.mean(axis=0), ys.mean(axis=0)
    tail = (1 - confidence) / 2
    nothing = np.full(len(levels), math.nan)
    grid = np.array([]) if is_level or len(levels) < 2 else np.linspace(at[0], at[-1], GRID)
    grid_mean = _between(grid, at, mean)
    if count < 2:
        empty = np.full(len(grid), math.nan)
        intervals = nothing, nothing, grid, grid_mean, empty, empty
        return Curve(model, family, group["unit"].iloc[0], levels, at, mean, *intervals, images=count)
    generator = np.random.default_rng(seed)
    drawn_means, drawn_grids = np.empty((resamples, len(levels))), np.empty((resamples, len(grid)))
    for number in range(resamples):
        drawn = generator.integers(count, size=count)
        drawn_at, drawn_means[number] = xs[drawn].mean(axis=0), ys[drawn].mean(axis=0)
        drawn_grids[number] = _between(grid, drawn_at, drawn_means[number])
    low, high = np.quantile(drawn_means, [tail, 1 - tail], axis=0)
    grid_low, grid_high = np.full(len(grid), math.nan), np.full(len(grid), math.nan)
    inside = np.isfinite(drawn_grids).mean(axis=0) >= confidence if len(grid) else np.array([], dtype=bool)
    if inside.any():
        grid_low[inside], grid_high[inside] = np.nanquantile(drawn_grids[:, inside], [tail, 1 - tail], axis=0)
    intervals = low, high, grid, grid_mean, grid_low, grid_high
    return Curve(model, family, group["unit"].iloc[0], levels, at, mean, *intervals, images=count)


def _between(grid: Floats, at: Floats, values: Floats) -> Floats:
    """Linear interpolation; NaN beyond the ends."""
    if not len(grid):
        return np.array([])
    order = np.argsort(at, kind="stable")
    return np.interp(grid, at[order], values[order], left=math.nan, right=math.nan)
