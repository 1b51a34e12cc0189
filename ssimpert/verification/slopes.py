"""Slopes of the relaxations, optimised against the bound itself (alpha-CROWN, Xu et al., ICLR 2021).

A bound holds with any admissible slopes, so each row may have slopes of its own. The bound of one row is

    min over d in the set of  A(slopes) d + b(slopes),

and by the envelope theorem its derivative is that of ``A d* + b`` at the minimiser d*. So every iteration solves for
d*, from where the last solve ended, and takes a gradient step of the slopes; the best certified value is kept.

Where numbers are split (:mod:`.branching`), the sign of such a number z is known. For ``z >= 0`` the function
``f - beta z`` with ``beta >= 0`` is nowhere above f, and for ``z <= 0`` the same holds of ``f + beta z``. The
multipliers beta are optimised with the slopes (beta-CROWN, Wang et al., NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssimpert.verification.linear_bounds import linear_bound, relaxations_of, rows_at_once
from ssimpert.verification.network import Network
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.pre_activation_bounds import Limits
from ssimpert.verification.rules.base import Interval, Shares
from ssimpert.verification.rules.lines import ActivationRule

# Adam's step: of the slopes' shares, and of the multipliers as a share of the coefficients that the rows have there.
SHARE_STEP, MULTIPLIER_STEP = 0.1, 0.1
# What the step is multiplied by at every iteration.
DECAY = 0.97
# Gradient steps between two solves for d*, which changes slowly.
STEPS_A_SOLVE = 5
# Iterations of the solver at the first and the last solve, and at every other.
LONG_SOLVE, SHORT_SOLVE = 100, 25


@dataclass(frozen=True)
class RowBounds:
    """Certified bounds of rows on the logits.

    Attributes:
        value: (M,), for every perturbation of the set the row's value is at least this.
        delta: (M, C, H, W), perturbations of the set where the linear bound is low.
        at_output: the rows on the outputs of the nonlinear layers, for the bound computed last.
    """

    value: Tensor
    delta: Tensor
    at_output: dict[int, Tensor]


@dataclass
class Parameters:
    """What is optimised.

    Attributes:
        shares: of the activations' slopes, by position; (M, *shape) each.
        multipliers: of the split numbers, by position; (M, *shape) each, at least 0.
    """

    shares: dict[int, Shares] = field(default_factory=dict)
    multipliers: dict[int, Tensor] = field(default_factory=dict)

    def clamp(self) -> None:
        """Back into the admissible range."""
        for shares in self.shares.values():
            shares.lower.clamp_(0, 1)
            shares.upper.clamp_(0, 1)
        for multiplier in self.multipliers.values():
            multiplier.clamp_min_(0)


def row_bounds(
    network: Network,
    perturbations: PerturbationSet,
    rows: Tensor,
    bounds: Mapping[int, Interval],
    limits: Limits,
    *,
    signs: Mapping[int, Tensor] | None = None,
    iterations: int = 0,
    until: float = float("inf"),
) -> RowBounds:
    """Bounds of rows on the logits from below, over the set.

    Args:
        network: the network.
        perturbations: the set.
        rows: (M, K) float64.
        bounds: on the inputs of the nonlinear layers; each (1, *shape), or (M, *shape) where rows have their own.
        limits: memory and time.
        signs: of the split numbers, by position: 1 for z >= 0, -1 for z <= 0, 0 for no split; (M, *shape) each.
        iterations: gradient steps of the slopes; 0 for the usual slopes.
        until: end once every row's bound exceeds this.
    """
    optimised = iterations > 0
    chunk = rows_at_once(network, limits.memory, with_gradients=optimised)
    parts = []
    for index in torch.arange(len(rows), device=rows.device).split(chunk):
        part_bounds = {position: _part(interval, index, len(rows)) for position, interval in bounds.items()}
        part_signs = {position: sign[index] for position, sign in (signs or {}).items()}
        if optimised:
            part = _optimised(network, perturbations, rows[index], part_bounds, part_signs, iterations, until, limits)
        else:
            bound = linear_bound(
                network, perturbations.image, rows[index], network.logits, relaxations_of(network, part_bounds)
            )
            minimum = perturbations.least(bound, until=until, deadline=limits.deadline)
            part = RowBounds(minimum.value, minimum.delta, dict(bound.at_output))
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    return RowBounds(
        torch.cat([part.value for part in parts]),
        torch.cat([part.delta for part in parts]),
        {position: torch.cat([part.at_output[position] for part in parts]) for position in parts[0].at_output},
    )


def _optimised(
    network: Network,
    perturbations: PerturbationSet,
    rows: Tensor,
    bounds: Mapping[int, Interval],
    signs: Mapping[int, Tensor],
    iterations: int,
    until: float,
    limits: Limits,
) -> RowBounds:
    """See :func:`row_bounds`."""
    best = rows.new_full((len(rows),), -torch.inf)
    best_delta, warm_start = rows.new_zeros(len(rows), *network.image_shape), None
    delta = best_delta
    usual = linear_bound(network, perturbations.image, rows, network.logits, relaxations_of(network, bounds))
    at_output = dict(usual.at_output)
    parameters = _parameters(network, bounds, signs, at_output, len(rows))
    optimiser = _optimiser(parameters, at_output)
    for iteration in range(iterations + 1):
        # The linear bound with the slopes so far.
        with torch.enable_grad():
            relaxations = relaxations_of(network, bounds, parameters.shares)
            additions = _additions(parameters, signs)
            bound = linear_bound(network, perturbations.image, rows, network.logits, relaxations, additions)
        at_output = dict(bound.at_output)
        # Its least value over the set, and where.
        is_last = iteration == iterations or optimiser is None
        if is_last or iteration % STEPS_A_SOLVE == 0:
            count = LONG_SOLVE if iteration == 0 or is_last else SHORT_SOLVE
            minimum = perturbations.least(
                bound, warm_start=warm_start, max_iter=count, until=until, deadline=limits.deadline
            )
            better = minimum.value > best
            best = torch.where(better, minimum.value, best)
            best_delta[better] = minimum.delta[better]
            delta, warm_start = minimum.delta, minimum.result
        if is_last or bool((best > until).all()) or limits.is_over:
            break
        # A gradient step of slopes and multipliers.
        assert optimiser is not None
        with torch.enable_grad():
            least = bound.offset + (bound.slope * delta).flatten(1).sum(dim=1)
            optimiser.zero_grad()
            (-least.sum()).backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] *= DECAY
        with torch.no_grad():
            parameters.clamp()
    return RowBounds(best, best_delta, at_output)


def _parameters(
    network: Network,
    bounds: Mapping[int, Interval],
    signs: Mapping[int, Tensor],
    at_output: Mapping[int, Tensor],
    count: int,
) -> Parameters:
    """The parameters of ``count`` rows: the usual slopes, and no multipliers."""
    parameters = Parameters()
    for position in at_output:
        rule = network.layer(position).rule
        if isinstance(rule, ActivationRule) and bool(rule.loose(bounds[position]).any()):
            usual = rule.usual_shares(bounds[position])
            lower, upper = (
                part.expand(count, *part.shape[1:]).clone().requires_grad_(True) for part in (usual.lower, usual.upper)
            )
            parameters.shares[position] = Shares(lower, upper)
    for position, sign in signs.items():
        parameters.multipliers[position] = torch.zeros_like(sign).requires_grad_(True)
    return parameters


def _optimiser(parameters: Parameters, at_output: Mapping[int, Tensor]) -> torch.optim.Optimizer | None:
    """Adam over the parameters; ``None`` where there are none."""
    shares = [part for entry in parameters.shares.values() for part in (entry.lower, entry.upper)]
    groups: list[dict[str, object]] = [{"params": shares, "lr": SHARE_STEP}] if shares else []
    for position, multiplier in parameters.multipliers.items():
        size = float(at_output[position].abs().amax()) if position in at_output else 1.0
        groups.append({"params": [multiplier], "lr": MULTIPLIER_STEP * max(size, 1e-6)})
    return torch.optim.Adam(groups) if groups else None


def _additions(parameters: Parameters, signs: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What the multipliers add to the rows on the split numbers."""
    return {position: -multiplier * signs[position] for position, multiplier in parameters.multipliers.items()}


def _part(interval: Interval, index: Tensor, count: int) -> Interval:
    """The bounds of the rows at ``index``; bounds that all rows share stay."""
    if len(interval.lower) == 1 or count == 1:
        return interval
    return Interval(interval.lower[index], interval.upper[index])
