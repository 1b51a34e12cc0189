"""The step of the code that Pochimireddy et al. released, faults included (methods B), for comparison with ours."""

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
from ssimpert.perturbation.engines.step_solver import PIXEL_BOX

# The released objective is -ReLU(f_y - max f_j + 50): flat once the margin exceeds 50 logits.
RELU_OFFSET = 50.0


@dataclass(frozen=True)
class ReleasedMargin:
    """The released objective: ``50 - ReLU(50 - margin)``.

    Up to 50 logits it equals the margin. Beyond that its gradient is zero.
    """

    margin: Margin

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        return RELU_OFFSET - torch.relu(RELU_OFFSET - self.margin(logits, label))

    def check(self, classes: int) -> None:
        self.margin.check(classes)


def released_step_rule(constraint: solvers.GlobalSSIM, method: str, settings: solvers.Settings) -> StepRule:
    """The released step ``x = m + x~/(1 - e^2) + k1 G/|G|``, clipped to the pixel range afterwards.

    Here m is the image's mean, ``x~`` the image less its mean, e the distance and G the gradient. The faults of the
    released code are kept:

    - G is not centred, so the mean drifts, and the bound is missed by a little;
    - clipping after the step is not jointly optimal;
    - with a conic method, a failure of the solver gives the image minus its mean.
    """

    if method not in ("auto", "closed_form") and not method.startswith("cvxpy:"):
        raise solvers.MethodError(f"the released behaviour takes method 'closed_form' or 'cvxpy:NAME', got {method!r}")

    def step(gradient: Tensor, reference: Tensor, image_indices: Tensor) -> solvers.SolveResult:
        problem = solvers.LinearProblem(gradient, reference, [constraint, PIXEL_BOX])
        if method.startswith("cvxpy:"):
            return _released_conic_step(problem, method, settings)
        began = time.perf_counter()
        bound = constraint.bind(reference)
        direction = gradient / per_image(norm(gradient))
        image = reference + bound.center + per_image(bound.radius) * direction
        delta = image.clamp(0, 1) - reference
        return _uncertified(problem, delta, "closed_form (released)", time.perf_counter() - began)

    return step


def _released_conic_step(
    problem: solvers.LinearProblem, method: str, settings: solvers.Settings
) -> solvers.SolveResult:
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
    """A result that reports the violation of a step instead of repairing it."""
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
