"""``cvxpy:NAME``: any conic solver that CVXPY finds, one image after the other.

The reference for every other method, and the way to problems that no method of ours takes. Duals are mapped back to
ours, so the certificate judges these solvers like any other; a failure is a status with the solver's own word.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from solvers.certificate import Certificate, Certifier
from solvers.constraints.base import BoundConstraint, ConicForm
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import MethodInfo, register_family, register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Progress, Settings

# Non-zeros handed to the solver beyond which a problem is refused without ``force``. Interior-point methods fill
# in: 7x7 at stride 1 took Clarabel 66-122 s at 3x64x64 (1.8 million), and SCS 9.6 GB at 3x224x224 (22 million).
LIMITS = {"clarabel": 2_500_000, "scs": 12_000_000}
DEFAULT_LIMIT = 2_500_000
# SCS: 9.6 GB at 22 million (measured).
BYTES_A_NONZERO = 450
# 0.5 to 0.9 s a million, from 0.5 to 4.5 million (measured).
COMPILE_SECONDS_A_NONZERO = 0.9e-6
SETS = ("Box", "LpBall", "GlobalSSIM", "WindowSSIM", "FeatureBall", "Support")
# No solver is asked for more than this.
TIGHTEST = 1e-9


def solve_conic(
    problem: Problem, settings: Settings, warm_start: SolveResult | None = None, *, solver: str
) -> MethodOutput:
    """Conic form through CVXPY, image by image."""

    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64, device=torch.device("cpu"))
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    solutions: list[_Solution] = []
    stopped = False
    for image in range(exact.batch):
        if stopped:
            solutions.append(_unsolved(exact, Status.STOPPED, "stopped by the callback before its turn"))
            continue
        remaining = settings.time_limit - (time.perf_counter() - started)
        solutions.append(_solve_image(exact, sets, image, solver, settings, remaining))
        if settings.callback is not None:
            stopped = bool(settings.callback(_progress(solutions, exact.batch, time.perf_counter() - started)))
    return MethodOutput(
        delta=torch.stack([solution.delta for solution in solutions]).to(problem.reference.device),
        dual=tuple(_stack([solution.dual[k] for solution in solutions]) for k in range(len(sets))),
        status=tuple(solution.outcome.status for solution in solutions),
        iterations=tuple(solution.outcome.iterations for solution in solutions),
        setup_time=sum(solution.setup_time for solution in solutions),
        messages=tuple(solution.outcome.message for solution in solutions),
    )


@dataclass(frozen=True)
class _Outcome:
    """How one image ended, in the solver's own word."""

    status: Status
    message: str
    iterations: int


@dataclass(frozen=True)
class _Solution:
    """One image's point (C, H, W), dual blocks and end; its certificate where there is a point to judge."""

    delta: Tensor
    dual: list[Tensor | None]
    outcome: _Outcome
    certificate: Certificate | None
    setup_time: float


def _solve_image(
    problem: Problem, sets: list[BoundConstraint], image: int, solver: str, settings: Settings, seconds: float
) -> _Solution:
    """One image: pose it once, and solve it with falling tolerances until the certificate agrees."""
    import cvxpy as cp

    began = time.perf_counter()
    delta = cp.Variable(problem.reference[0].numel())
    forms = [bound.conic_form(delta, image) for bound in sets]
    statement = cp.Problem(_objective(problem, delta, image), [c for form in forms for c in form.constraints])
    setup_time = time.perf_counter() - began
    judge = Certifier(problem.select(torch.tensor([image])))
    best: _Solution | None = None
    iterations = 0
    for tolerance in _tolerances(solver, settings):
        remaining = seconds - (time.perf_counter() - began)
        latest = _run(statement, solver, settings, tolerance, settings.max_iter - iterations, remaining)
        iterations += latest.iterations
        point = _point(delta, problem.reference[image])
        dual = [_dual(form, _scale(problem, image)) for form in forms]
        certificate = judge.certify(point[None], dual)
        if best is None or (best.certificate is not None and certificate.rel_gap < best.certificate.rel_gap):
            best = _Solution(point, dual, latest, certificate, setup_time)
        if not latest.status.is_optimal or bool(certificate.closes(settings.eps_abs, settings.eps_rel)):
            break
    assert best is not None
    # A later try that failed does not take away an earlier point, but it is how the solve ended.
    ended = latest if best.outcome.status.is_optimal else best.outcome
    return replace(best, outcome=replace(ended, iterations=iterations))


def _unsolved(problem: Problem, status: Status, message: str) -> _Solution:
    dual: list[Tensor | None] = [None] * len(problem.constraints)
    return _Solution(torch.zeros_like(problem.reference[0]), dual, _Outcome(status, message, 0), None, 0.0)


def _progress(solutions: list[_Solution], batch: int, seconds: float) -> Progress:
    """What the callback sees after an image: certified values of the images done, NaN for the others."""

    def column(name: str) -> Tensor:
        done = [getattr(s.certificate, name) for s in solutions if s.certificate is not None]
        missing = torch.full((batch - len(done),), torch.nan, dtype=torch.float64)
        return torch.cat([*done, missing])

    iterations = sum(solution.outcome.iterations for solution in solutions)
    return Progress(iterations, seconds, column("objective"), column("bound"), column("rel_gap"))


def size_refusal(problem: Problem, *, solver: str) -> str | None:
    """Why the problem is too large to hand to ``solver``, with the estimate, or ``None``."""
    first = problem.select(torch.zeros(1, dtype=torch.long, device=problem.reference.device))
    sets = [constraint.bind(first.reference) for constraint in first.constraints]
    size = first.reference.numel() + sum(bound.conic_size() for bound in sets)
    limit = LIMITS.get(solver, DEFAULT_LIMIT)
    if size <= limit:
        return None
    return (
        f"would get about {size:,} non-zeros an image (some {size * BYTES_A_NONZERO / 2**30:.1f} GB, "
        f"and {size * COMPILE_SECONDS_A_NONZERO:.0f} s for CVXPY to compile), more than {limit:,}; "
        "use settings force=True to try all the same"
    )


def _objective(problem: Problem, delta: Any, image: int) -> Any:
    import cvxpy as cp

    vector = problem.vector[image].flatten().numpy()
    if isinstance(problem, LinearProblem):
        # Scaled to unit size: solvers' tolerances are partly absolute, gradients may be 1e-4.
        return cp.Maximize((vector / _scale(problem, image)) @ delta)
    return cp.Minimize(0.5 * cp.sum_squares(delta - vector))


def _scale(problem: Problem, image: int) -> float:
    if not isinstance(problem, LinearProblem):
        return 1.0
    size = float(problem.vector[image].abs().amax())
    return size if size > 0 else 1.0


def _run(
    statement: Any, solver: str, settings: Settings, tolerance: float, iterations: int, seconds: float
) -> _Outcome:
    """Solve once. Never raises for what a solver does."""
    import cvxpy as cp

    if seconds <= 0:
        return _Outcome(Status.TIME_LIMIT, "time limit reached before this image was done", 0)
    if iterations <= 0:
        return _Outcome(Status.MAX_ITER, f"{solver}: max_iter reached before the certificate agreed", 0)
    options = _options(solver, tolerance, iterations, seconds)
    quiet = contextlib.nullcontext() if settings.verbose else contextlib.redirect_stdout(io.StringIO())
    try:
        with quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statement.solve(solver=solver.upper(), verbose=settings.verbose, warm_start=True, **options)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Clarabel's (Rust) is no Exception
        return _Outcome(Status.NUMERICAL_ERROR, f"{solver}: {(str(error) or repr(error)).splitlines()[0]}", 0)
    stats = statement.solver_stats
    steps = int(stats.num_iters) if stats is not None and stats.num_iters is not None else 0
    timed = stats is not None and stats.solve_time is not None and stats.solve_time >= 0.9 * seconds
    word = statement.status
    if word == cp.OPTIMAL:
        return _Outcome(Status.OPTIMAL, "", steps)
    if word in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        # d = 0 is feasible for every sound image, and unsound ones never come here: the solver is mistaken.
        return _Outcome(Status.NUMERICAL_ERROR, f"{solver}: {word}", steps)
    if timed:
        return _Outcome(Status.TIME_LIMIT, f"{solver}: {word}", steps)
    if word == cp.USER_LIMIT or (word == cp.OPTIMAL_INACCURATE and steps >= iterations):
        return _Outcome(Status.MAX_ITER, f"{solver}: {word}", steps)
    if word == cp.OPTIMAL_INACCURATE:
        return _Outcome(Status.OPTIMAL, f"{solver}: {word}", steps)
    return _Outcome(Status.NUMERICAL_ERROR, f"{solver}: {word}", steps)


def _tolerances(solver: str, settings: Settings) -> list[float]:
    """The solver's tolerances, one try after the other until the certificate agrees.

    A solver's own criterion is not the certificate: SCS stopped at 1e-3 of its own with a certified gap of 12% on
    near-black photos, and Clarabel at 1e-7 with 2e-6 there and 2e-4 for a projection from nearby, whose objective is
    small beside the constant that the solver counts in (measured).
    """
    first = max(0.1 * max(settings.eps_rel, settings.eps_abs), TIGHTEST)
    if solver not in ("clarabel", "scs"):
        return [first]  # their tolerances have names that we don't know: a second try would be the first again
    return [max(first / 10**k, TIGHTEST) for k in range(5) if first / 10**k >= 0.5 * TIGHTEST]


def _options(solver: str, tolerance: float, iterations: int, seconds: float) -> dict[str, Any]:
    """The solver's own options, for those whose names we know."""
    limited = seconds != float("inf")
    if solver == "clarabel":
        options: dict[str, Any] = {
            "tol_gap_abs": tolerance,
            "tol_gap_rel": tolerance,
            "tol_feas": min(tolerance, 1e-8),
            "max_iter": iterations,
            # 7x7 windows at stride 1, 3x32x32, one thread: 3.8 s against 28 s of the default (faer); tiles alike.
            "direct_solve_method": "qdldl",
        }
        return options | ({"time_limit": seconds} if limited else {})
    if solver == "scs":
        options = {"eps_abs": tolerance, "eps_rel": tolerance, "max_iters": iterations}
        return options | ({"time_limit_secs": seconds} if limited else {})
    return {}


def _point(delta: Any, like: Tensor) -> Tensor:
    if delta.value is None:
        return torch.zeros_like(like)
    return torch.as_tensor(delta.value, dtype=torch.float64).reshape(like.shape)


def _dual(form: ConicForm, scale: float) -> Tensor | None:
    values = [constraint.dual_value for constraint in form.constraints]
    # A cone's value is a list of parts.
    parts = [part for value in values for part in (value if isinstance(value, (list, tuple)) else [value])]
    if form.dual is None or any(part is None for part in parts):
        return None
    block: Tensor = form.dual() * scale
    return block


def _stack(blocks: list[Tensor | None]) -> Tensor | None:
    """The blocks of all images; an image without one gets zeros, which certify as the trivial bound."""
    known = [block for block in blocks if block is not None]
    if not known:
        return None
    return torch.cat([torch.zeros_like(known[0]) if block is None else block for block in blocks])


def _installed(solver: str) -> str | None:
    import cvxpy as cp

    if solver.upper() in cp.installed_solvers():
        return None
    names = ", ".join(name.lower() for name in cp.installed_solvers())
    return f"CVXPY finds no solver {solver!r}; installed: {names}"


def cvxpy_method(solver: str) -> MethodInfo:
    """The method ``cvxpy:SOLVER`` for any of CVXPY's solvers, by its name in upper or lower case."""
    return MethodInfo(
        name=f"cvxpy:{solver}",
        run=partial(solve_conic, solver=solver.lower()),
        problems=(LinearProblem, ProjectionProblem),
        any_of=frozenset(SETS),
        devices=("cpu", "cuda"),
        available=partial(_installed, solver.lower()),
        too_large=partial(size_refusal, solver=solver.lower()),
        description=f"Conic form through CVXPY, solver {solver}, image by image.",
    )


def _register(solver: str, description: str) -> None:
    def run(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
        return solve_conic(problem, settings, warm_start, solver=solver)

    run.__doc__ = description
    register_method(
        f"cvxpy:{solver}",
        problems=(LinearProblem, ProjectionProblem),
        any_of=SETS,
        available=partial(_installed, solver),
        too_large=partial(size_refusal, solver=solver),
    )(run)


register_family("cvxpy", cvxpy_method)
_register("clarabel", "Interior point through CVXPY, one image after the other; the reference on small problems.")
_register("scs", "First-order conic solver through CVXPY, one image after the other; larger problems, few digits.")
