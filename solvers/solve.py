"""``solve``: choose a method, run it on the images without defects, and certify what it returns."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers import clock
from solvers.certificate import Certificate, Certifier
from solvers.choose_method import choose_method
from solvers.constraints.dual_blocks import map_dual_block
from solvers.errors import MethodError, ProblemError
from solvers.problem import LinearProblem, Problem
from solvers.registry import find_method
from solvers.rehearsal import rehearse
from solvers.result import History, HistoryRow, MethodOutput, SolveResult, Status
from solvers.rounding import times_power_of_two, unscaled_value
from solvers.running_solve import RunningSolve, running
from solvers.scaling import scaled_dual, scaled_problem
from solvers.settings import Progress, Settings
from solvers.threads import torch_on_one_thread


def solve(
    problem: Problem,
    method: str = "auto",
    settings: Settings | dict[str, Any] | None = None,
    warm_start: SolveResult | None = None,
) -> SolveResult:
    """Solve a batch of problems. Every answer is certified in float64.

    Args:
        problem: a LinearProblem or ProjectionProblem. A problem of numpy arrays gives a result of numpy arrays.
        method: a name of :func:`solvers.methods`, or ``"auto"`` (default), which chooses by the problem's sets.
        settings: :class:`Settings`, a dictionary of their names and values, or ``None`` for the defaults.
        warm_start: an earlier result on a problem of the same shape. Methods without warm starts ignore it.

    Returns:
        One entry per image. ``delta`` is feasible whatever the status. An image with a defect (a NaN gradient, a
        reference outside the box) gets its own status and ``delta`` 0, and does not change the others' results.

    Raises:
        ProblemError, MethodError: the arguments are not valid, or the method can't solve the problem. Both are raised
            before any work starts.
    """
    started = clock.now()
    _check_arguments(problem, method, warm_start)
    settings = Settings.of(settings)
    # Choose a method for the images without a defect.
    sound_images = torch.tensor([image for image in range(problem.batch) if image not in problem.defects])
    part = problem if not problem.defects else problem.select(sound_images.to(problem.reference.device))
    choose = choose_method if method == "auto" else partial(find_method, method)
    info = choose(part, force=settings.force)
    # Run the method, and judge what it returns.
    scaled, exponent = scaled_problem(part)
    scaled_settings = _scaled_settings(settings, exponent)
    scaled_start = _scaled_warm_start(warm_start if not problem.defects else None, exponent)
    with torch_on_one_thread() if _needs_no_network(scaled) else nullcontext():
        rehearse(info, scaled, settings)
        binding_began = clock.now()
        certifier = Certifier(scaled)
        bound_at = clock.now()
        with running(RunningSolve(scaled, certifier, started, bound_at - binding_began), settings.time_limit):
            setup_time = bound_at - started
            output = info.run(scaled, scaled_settings, warm_start=scaled_start)
            _check_output(output, info.name, part)
            certificate = certifier.certify(output.delta, output.dual)
            delta = certifier.moved_inside(certificate.delta, problem.reference.dtype)
            objective = certifier.objective(delta)
    # Back to the problem's own scale.
    is_linear = isinstance(problem, LinearProblem)
    objective = unscaled_value(objective, exponent, up=not is_linear)
    certificate = replace(
        certificate,
        objective=unscaled_value(certificate.objective, exponent, up=not is_linear),
        bound=unscaled_value(certificate.bound, exponent, up=is_linear),
    )
    status, messages = judge(output, certificate, settings)
    setup_time += output.setup_time
    if output.history:
        history = _unscaled_history(output.history, exponent)
    else:
        history = History([_row(output, certificate, clock.now() - started)])
    result = SolveResult(
        delta=delta.to(problem.reference.dtype),
        status=status,
        objective=objective,
        bound=certificate.bound,
        rel_gap=certificate.rel_gap,
        max_violation=certifier.violation(delta),
        iterations=output.iterations,
        setup_time=setup_time,
        solve_time=clock.now() - started - setup_time,
        history=history,
        dual=tuple(scaled_dual(output.dual, -exponent)),
        method=info.name,
        messages=messages,
    )
    if problem.defects:
        result = _with_defective_images(result, problem, sound_images)
    return _to_numpy(result) if problem.from_numpy else result


def _check_arguments(problem: Problem, method: str, warm_start: SolveResult | None) -> None:
    if not isinstance(problem, Problem):
        raise ProblemError(f"solve takes a LinearProblem or ProjectionProblem, got {type(problem).__name__}")
    if not isinstance(method, str):
        raise MethodError(f"method must be 'auto' or a method's name, got {method!r}")
    if warm_start is not None and not isinstance(warm_start, SolveResult):
        raise ProblemError(f"warm_start must be an earlier SolveResult, got {type(warm_start).__name__}")
    if warm_start is not None and warm_start.delta.shape != problem.reference.shape:
        raise ProblemError(
            f"warm_start is for images {tuple(warm_start.delta.shape)}, "
            f"the problem has {tuple(problem.reference.shape)}"
        )


def _check_output(output: MethodOutput, method: str, problem: Problem) -> None:
    if not isinstance(output, MethodOutput):
        raise MethodError(f"method {method!r} must return a solvers.MethodOutput, got {type(output).__name__}")
    if output.delta.shape != problem.reference.shape:
        raise MethodError(
            f"method {method!r} returned delta of shape {tuple(output.delta.shape)}, "
            f"expected {tuple(problem.reference.shape)}"
        )
    if len(output.dual) != len(problem.constraints):
        raise MethodError(
            f"method {method!r} returned {len(output.dual)} dual blocks for {len(problem.constraints)} constraints; "
            "give one each, or None"
        )
    if not all(isinstance(status, Status) for status in output.status):
        raise MethodError(f"method {method!r} returned a status that is no solvers.Status: {output.status!r}")
    for name in ("status", "iterations"):
        if len(getattr(output, name)) != problem.batch:
            raise MethodError(
                f"method {method!r} returned {len(getattr(output, name))} entries of {name} "
                f"for a batch of {problem.batch}"
            )


def _needs_no_network(problem: Problem) -> bool:
    """Whether all work is the solver's own: products with a user's Jacobian pass a network, which wants its threads."""
    return problem.reference.device.type == "cpu" and "FeatureBall" not in problem.kinds()


def judge(
    output: MethodOutput, certificate: Certificate, settings: Settings
) -> tuple[tuple[Status, ...], tuple[str, ...]]:
    """The status that the certificate supports, per image, and the message to go with it.

    A gap within tolerance makes an image OPTIMAL, unless the method failed. A method that claims OPTIMAL where the gap
    is not within tolerance gets NUMERICAL_ERROR, and so does an objective that lies beyond its bound: then one of the
    two is wrong.
    """
    closed = certificate.closes(settings.eps_abs, settings.eps_rel).tolist()
    gaps, contradictory = certificate.rel_gap.tolist(), certificate.contradicts.tolist()
    statuses, messages = list(output.status), list(output.messages or ("",) * len(output.status))
    for image, (claimed, message) in enumerate(zip(output.status, messages, strict=True)):
        if claimed.is_failure:
            continue
        if contradictory[image]:
            statuses[image] = Status.NUMERICAL_ERROR
            messages[image] = f"the objective lies beyond its bound by the share {-gaps[image]:.1e}, which can't be"
            continue
        if closed[image]:
            statuses[image] = Status.OPTIMAL
        elif claimed.is_optimal:
            statuses[image] = Status.NUMERICAL_ERROR
            prefix = f"{message}; " if message else ""
            messages[image] = f"{prefix}method ended, but the certified gap is {gaps[image]:.1e}"
    return tuple(statuses), tuple(messages)


def _scaled_settings(settings: Settings, exponent: Tensor) -> Settings:
    """The settings for a problem whose gradients were multiplied by ``2^-exponent``, (B,)."""
    if not bool(exponent.any()):
        return settings
    callback = settings.callback

    def unscaled_callback(progress: Progress) -> bool | None:
        assert callback is not None
        objective = times_power_of_two(progress.objective, exponent)
        return callback(replace(progress, objective=objective, bound=times_power_of_two(progress.bound, exponent)))

    # One tolerance serves the whole batch: the smallest. The final judgement is by the problem's own tolerance.
    eps_abs = torch.full(exponent.shape, settings.eps_abs, dtype=torch.float64, device=exponent.device)
    smallest = float(times_power_of_two(eps_abs, -exponent).amin().clamp(0, 1e300))
    if settings.eps_rel == 0:
        smallest = max(smallest, torch.finfo(torch.float64).tiny)
    return replace(settings, eps_abs=smallest, callback=unscaled_callback if callback else None)


def _scaled_warm_start(warm_start: SolveResult | None, exponent: Tensor) -> SolveResult | None:
    if warm_start is None or not bool(exponent.any()):
        return warm_start
    blocks = [
        block if block is None else map_dual_block(lambda part: torch.as_tensor(part).to(exponent.device), block)
        for block in warm_start.dual
    ]
    return replace(warm_start, dual=tuple(scaled_dual(blocks, exponent)))


def _unscaled_history(history: History, exponent: Tensor) -> History:
    """The rows in the problem's own scale."""
    if not bool(exponent.any()):
        return history

    def unscaled(values: tuple[float, ...]) -> tuple[float, ...]:
        value = torch.tensor(values, dtype=torch.float64)
        return tuple(times_power_of_two(value, exponent.cpu()).tolist())

    return History(replace(row, objective=unscaled(row.objective), bound=unscaled(row.bound)) for row in history)


def _row(output: MethodOutput, certificate: Certificate, seconds: float) -> HistoryRow:
    """The history's only row, for a method that made no checks."""
    return HistoryRow(
        iteration=max(output.iterations, default=0),
        time=seconds,
        objective=tuple(certificate.objective.tolist()),
        bound=tuple(certificate.bound.tolist()),
        rel_gap=tuple(certificate.rel_gap.tolist()),
    )


def _with_defective_images(result: SolveResult, problem: Problem, sound_images: Tensor) -> SolveResult:
    """The whole batch's result, from that of the images without a defect; the history stays theirs."""
    defective = sorted(problem.defects)
    count = len(defective)
    delta, objective = torch.as_tensor(result.delta), torch.as_tensor(result.objective)
    unknown = objective.new_full((count,), math.nan)
    rejected = SolveResult(
        delta=delta.new_zeros(count, *delta.shape[1:]),
        status=tuple(problem.defects[image].status for image in defective),
        objective=unknown,
        bound=unknown,
        rel_gap=unknown,
        max_violation=unknown,
        iterations=(0,) * count,
        setup_time=0.0,
        solve_time=0.0,
        history=History(),
        dual=(None,) * len(result.dual),
        method=result.method,
        messages=tuple(problem.defects[image].reason for image in defective),
    )
    order = torch.cat([sound_images, torch.tensor(defective)]).argsort()
    return replace(SolveResult.concatenate([result, rejected]).select(order), history=result.history)


def _to_numpy(result: SolveResult) -> SolveResult:
    arrays: dict[str, np.ndarray] = {
        name: torch.as_tensor(getattr(result, name)).cpu().numpy()
        for name in ("delta", "objective", "bound", "rel_gap", "max_violation")
    }
    return replace(result, **arrays)  # type: ignore[arg-type]
