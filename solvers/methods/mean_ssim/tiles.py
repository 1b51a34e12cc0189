"""``mean_tiles``: mean SSIM over windows that do not overlap, to a global bound.

The set is not convex. Its Lagrangian, with one multiplier mu of the index, falls apart into tiles::

    D(mu) = mu (1 - t) + sum_p max { g_p'd_p - mu (1 - SSIM_p(d_p))/n : d_p in the box }

D(mu) bounds every feasible objective (weak duality). A tile chooses two numbers, the levels of its two losses
(:mod:`solvers.constraints.mean_index.tile_losses`). Points at many levels are collected as in the column generation of
Dantzig and Wolfe: the multiplier at which the chosen points spend the budget tells every tile the levels to try next.
What the points leave of the budget is spent in the end (:mod:`.tiles_rounding`). The page docs/methods/mean-ssim.md has
the mathematics.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from solvers import clock
from solvers.constraints.mean_index.tile_bound import BOUND_SLACK, first_cuts, selected, sharpen, stalled
from solvers.constraints.mean_index.tile_losses import TileLevels
from solvers.constraints.mean_ssim import BoundMeanSSIM, MeanSSIM
from solvers.constraints.ssim_windows.tiles import from_tiles
from solvers.methods.mean_ssim.tiles_rounding import FACTOR_HALVINGS, choice_at, spend
from solvers.methods.monitor import Monitor
from solvers.methods.refusals import unless_single
from solvers.problem import LinearProblem, Problem, elementwise_bounds
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

MAX_ROUNDS = 60
# The search ends when bound and points differ by this share of the bound, or, where that is more, by this share of the
# gap asked for. The remainder of that gap is left to the rounding, which spends the budget tile by tile.
MIN_SEARCH_GAP, SEARCH_GAP_SHARE = 3e-4, 0.25
# Halvings of the interval of log mu.
MULTIPLIER_HALVINGS = 60
# The share of a time limit that is left to the certificate: its bound takes about as long as the search, because it
# must not trust the search's cuts.
CERTIFICATE_TIME_SHARE = 0.45
# The share of the time that is left to the search, for its first cuts.
FIRST_CUTS_TIME_SHARE = 0.4
NOTE = "global bound by weak duality"  # in the messages


def _refusal(problem: Problem) -> str | None:
    """Why the method can't take the problem, or ``None``."""
    reason = unless_single(problem, MeanSSIM)
    if reason is not None:
        return reason
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
    accepts=_refusal,
)
def mean_tiles(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """Mean SSIM over tiles, not convex: Lagrangian in one multiplier, with a global bound."""
    # Cut into tiles.
    monitor = Monitor(problem, settings, own_criterion=True)
    exact, certifier, plan = monitor.problem, monitor.certifier, monitor.plan
    assert isinstance(exact, LinearProblem)
    position = exact.find(MeanSSIM)[0]
    bound = certifier.sets[position]
    assert isinstance(bound, BoundMeanSSIM)
    plan.leave_share(CERTIFICATE_TIME_SHARE)
    with clock.deadline(plan.deadline):
        levels = TileLevels(bound, exact.gradient, certifier.lower, certifier.upper)
        monitor.setup_done()
        monitor.check_best()
        # Search for the multiplier, and round to points that spend the budget.
        _search(monitor, levels, position, max(MIN_SEARCH_GAP, SEARCH_GAP_SHARE * settings.eps_rel))
    # The certificate turns the status to OPTIMAL where the gap closes: with few tiles it need not.
    output = monitor.output()
    notes = (f"{message}; {NOTE}" if message else NOTE for message in output.messages)
    return replace(output, messages=tuple(notes))


def _search(monitor: Monitor, levels: TileLevels, position: int, tolerance: float) -> None:
    """Add points and bounds until all but ``tolerance`` of the bound is attained, or the bound stalls.

    Args:
        monitor: is given the points and the multiplier of the best bound.
        levels: the tiles.
        position: the position of MeanSSIM among the constraints.
        tolerance: a share of the bound.
    """
    plan, rounds, done = monitor.plan, 0, not monitor.any_running
    dual: list[Tensor | None] = [None] * len(monitor.dual)
    best_bound = torch.full_like(monitor.bound, torch.inf)
    best_multiplier = torch.zeros_like(best_bound)
    bounds: list[Tensor] = []
    if not done:
        _first_cuts(monitor, levels)
    while monitor.any_running and not done:
        # The multiplier at which the points collected so far spend the budget.
        rounds += 1
        multiplier = _balance(levels)

        # Every tile's Lagrangian value there, from above and as attained; new points where the two differ.
        budget = multiplier * (1 - levels.bound.constraint.threshold)
        with clock.deadline(plan.iterations_end):
            tile_bounds, tile_values = sharpen(levels, multiplier, BOUND_SLACK)
        bound, attained = budget + levels.sum(tile_bounds), budget + levels.sum(tile_values)

        # Keep the best bound.
        best_multiplier = torch.where(bound < best_bound, multiplier, best_multiplier)
        best_bound = torch.minimum(bound, best_bound)
        bounds.append(best_bound)
        done = bool(((bound - attained <= tolerance * bound.abs()) | stalled(bounds, BOUND_SLACK)).all())
        done = done or rounds == MAX_ROUNDS

        # Certify points; the bound is the search's own until the end.
        if monitor.due(rounds) or done:
            monitor.begin_check()
            dual[position] = best_multiplier
            delta = from_tiles(levels.bound, spend(levels, _balance(levels)))
            monitor.check(rounds, delta, dual, bound=best_bound)


def _first_cuts(monitor: Monitor, levels: TileLevels) -> None:
    """The first cuts, as many as there is time for. Each of them solves all tiles once, and so do the steps of the
    rounding to points."""
    plan, began = monitor.plan, clock.now()
    with clock.deadline(began + FIRST_CUTS_TIME_SHARE * (plan.deadline - began)):
        first_cuts(levels)
    plan.expect_check((clock.now() - began) * FACTOR_HALVINGS / len(levels.cuts))
    plan.check_may_be_cut = True
    plan.resume()


def _balance(levels: TileLevels) -> Tensor:
    """The smallest multiplier (B,) at which the chosen points keep the budget, by bisection of its logarithm."""
    value = torch.stack([cut.value for cut in levels.cuts]).abs()
    loss = torch.stack([cut.loss for cut in levels.cuts])
    rate = levels.bound.count * (value / loss.clamp_min(1e-12)).amax(dim=0)
    high = 4 * rate.reshape(levels.batch, -1).amax(dim=1) + torch.finfo(rate.dtype).tiny
    low = 1e-15 * high
    for _ in range(MULTIPLIER_HALVINGS):
        middle = (low * high).sqrt()
        spent = levels.sum(selected(levels.cuts, choice_at(levels, middle), "loss"))
        fits = spent <= levels.budget
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    return high
