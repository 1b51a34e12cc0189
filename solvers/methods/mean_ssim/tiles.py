"""``mean_tiles``: mean SSIM over windows that do not overlap, to a global bound.

The set is not convex, but its Lagrangian falls apart into tiles, each of which has two numbers to choose: the levels of
its two losses (:mod:`solvers.constraints.mean_index.tile_losses`). Points at many levels are collected as in Dantzig
and Wolfe's
column generation: the multiplier at which the points chosen spend the budget tells every tile the levels to try next.
What the points leave of the budget is spent in the end (:mod:`.tiles_rounding`).
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from solvers.constraints.mean_index.tile_bound import BOUND_SLACK, first_cuts, selected, sharpen, stalled
from solvers.constraints.mean_index.tile_losses import TileLevels
from solvers.constraints.mean_ssim import BoundMeanSSIM, MeanSSIM
from solvers.constraints.ssim_windows.tiles import from_tiles
from solvers.methods.mean_ssim.tiles_rounding import choice_at, spend
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings

ROUNDS = 60
# Of the bound: with less between it and the points there is no use in another round. Nor with less than this share of
# the gap asked; the rest of it is for what spending the budget tile by tile leaves.
ENOUGH, SHARE = 3e-4, 0.25


def _refuses(problem: Problem) -> str | None:
    count = len(problem.find(MeanSSIM))
    if count != 1:
        return f"takes one MeanSSIM, got {count}"
    bounds = [constraint.bind(problem.reference) for constraint in problem.constraints]
    bound = next(entry for entry in bounds if isinstance(entry, BoundMeanSSIM))
    if not bound.keeps_luminance(elementwise_bounds(problem, bounds)[0]):
        return "takes MeanSSIM with luminance=None only where pixels stay at or above 0"
    return None


@register_method(
    "mean_tiles",
    problems=(LinearProblem,),
    required={"MeanSSIM", "Box"},
    optional={"Support"},
    windows="tiles",
    accepts=_refuses,
)
def mean_tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Mean SSIM over tiles, not convex: Lagrangian in one multiplier, with a global bound."""
    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64)
    assert isinstance(exact, LinearProblem)
    position = exact.find(MeanSSIM)[0]
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    bound = sets[position]
    assert isinstance(bound, BoundMeanSSIM)
    levels = TileLevels(bound, exact.gradient, *elementwise_bounds(exact, sets))
    setup_time = time.perf_counter() - started
    enough = max(ENOUGH, SHARE * settings.eps_rel)
    delta, multiplier, rounds = _search(levels, min(ROUNDS, settings.max_iter), enough)
    return MethodOutput(
        delta=from_tiles(bound, delta),
        dual=tuple(multiplier if k == position else None for k in range(len(sets))),
        # The certificate turns it to OPTIMAL where the gap closes: with few tiles it need not.
        status=(Status.MAX_ITER,) * problem.batch,
        iterations=(rounds,) * problem.batch,
        setup_time=setup_time,
        messages=("global bound by weak duality",) * problem.batch,
    )


def _search(levels: TileLevels, rounds: int, enough: float) -> tuple[Tensor, Tensor, int]:
    """Points (G, N), the best multiplier (B,), and the rounds that it took until all but ``enough`` of the bound was
    attained."""
    first_cuts(levels)
    best_bound = torch.full_like(levels.sum(levels.mean), torch.inf)
    best_multiplier = torch.zeros_like(best_bound)
    bounds: list[Tensor] = []
    number = 0
    while number < rounds:
        number += 1
        multiplier = _balance(levels)
        budget = multiplier * (1 - levels.bound.constraint.threshold)
        most, attained = sharpen(levels, multiplier, BOUND_SLACK)
        bound, reached = budget + levels.sum(most), budget + levels.sum(attained)
        best_multiplier = torch.where(bound < best_bound, multiplier, best_multiplier)
        best_bound = torch.minimum(bound, best_bound)
        bounds.append(best_bound)
        if bool(((bound - reached <= enough * bound.abs()) | stalled(bounds, BOUND_SLACK)).all()):
            break
    return spend(levels, _balance(levels)), best_multiplier, number


def _balance(levels: TileLevels, halvings: int = 60) -> Tensor:
    """The least multiplier (B,) at which the points chosen keep the budget."""
    value = torch.stack([cut.value for cut in levels.cuts]).abs()
    loss = torch.stack([cut.loss for cut in levels.cuts])
    rate = levels.bound.count * (value / loss.clamp_min(1e-12)).amax(dim=0)
    high = 4 * rate.reshape(levels.batch, -1).amax(dim=1) + torch.finfo(rate.dtype).tiny
    low = 1e-15 * high
    for _ in range(halvings):
        middle = (low * high).sqrt()
        spent = levels.sum(selected(levels.cuts, choice_at(levels, middle), "loss"))
        fits = spent <= levels.budget
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    return high
