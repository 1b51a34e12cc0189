"""The step of Pochimireddy et al.'s released code, faults included (methods B), for comparison with ours."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import norm, per_image
from solvers.constraints.global_ssim import remove_mean
from ssimpert.linearization import Margin
from ssimpert.perturbation.engines.loop import StepRule
from ssimpert.perturbation.engines.oracle import PIXELS

# The released objective is -ReLU(f_y - max f_j + 50): flat once the margin exceeds 50 logits.
RELU_OFFSET = 50.0


@dataclass(frozen=True)
class ReleasedMargin:
    """``-ReLU(50 - margin)`` shifted by 50: the released objective. Its gradient is the margin's, and zero where the
    margin exceeds 50 logits; its sign is the margin's below that."""

    margin: Margin

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return RELU_OFFSET - torch.relu(RELU_OFFSET - self.margin(logits, label))

    def check(self, classes: int) -> None:
        self.margin.check(classes)


def released_step_rule(constraint: solvers.GlobalSSIM, method: str, settings: solvers.Settings) -> StepRule:
    """``x = m + x~/(1 - e^2) + k1 G/|G|``, then clipped.

    Its faults, kept here: G is not centred, so the mean drifts and the bound is missed by a little; clipping after
    the step is not jointly optimal; and with a conic method a solver's failure gives the image minus its mean.
    """

    if method not in ("auto", "closed_form") and not method.startswith("cvxpy:"):
        raise solvers.MethodError(f"the released behaviour takes method 'closed_form' or 'cvxpy:NAME', got {method!r}")

    def step(gradient: Tensor, reference: Tensor, moving: Tensor) -> solvers.SolveResult:
        problem = solvers.LinearProblem(gradient, reference, [constraint, PIXELS])
        if method.startswith("cvxpy:"):
            return _conic(problem, method, settings)
        began = time.perf_counter()
        bound = constraint.bind(reference)
        direction = gradient / per_image(norm(gradient))
        moved = reference + bound.center + per_image(bound.radius) * direction
        delta = moved.clamp(0, 1) - reference
        return _uncertified(problem, delta, "closed_form (released)", time.perf_counter() - began)

    return step


def _conic(problem: solvers.LinearProblem, method: str, settings: solvers.Settings) -> solvers.SolveResult:
    result = solvers.solve(problem, method=method, settings=settings)
    failed = torch.tensor([status.is_failure for status in result.status])
    if not bool(failed.any()):
        return result
    # In the paper's pixels [-1, 1] the mean-free image is I - mean(I): a shift by half as much in [0, 1].
    shift = (2 * problem.reference - 1).mean(dim=(1, 2, 3), keepdim=True) / 2
    fallback = (problem.reference - shift).clamp(0, 1) - problem.reference
    delta = torch.where(per_image(failed.to(fallback.device)), fallback, torch.as_tensor(result.delta))
    return _uncertified(problem, delta, f"{method} (released)", result.solve_time)


def _uncertified(problem: solvers.LinearProblem, delta: Tensor, method: str, seconds: float) -> solvers.SolveResult:
    """A result around a step that is returned as it is, not repaired: its violation is reported instead."""
    certificate = solvers.certify(problem, delta, (remove_mean(problem.gradient), None))
    return solvers.SolveResult(
        delta=delta,
        status=(solvers.Status.STOPPED,) * problem.batch,
        objective=problem.objective(delta),
        bound=certificate.bound,
        rel_gap=certificate.rel_gap,
        max_violation=certificate.max_violation,
        iterations=(1,) * problem.batch,
        setup_time=0.0,
        solve_time=seconds,
        history=solvers.History(),
        dual=(None,) * len(problem.constraints),
        method=method,
        messages=("",) * problem.batch,
    )
