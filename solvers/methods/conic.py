"""``cvxpy:NAME``: any conic solver that CVXPY finds, one image after the other.

The reference for every other method, and the way to problems that no method of ours takes. Duals are mapped back to
ours, so the certificate judges these solvers like any other; a failure is a status with the solver's own word.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

from solvers.constraints.base import BoundConstraint, ConicForm
from solvers.errors import MethodError
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import MethodInfo, register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Settings

# Non-zeros handed to the solver beyond which a problem is refused without ``force``. Interior-point methods fill
# in: 7x7 at stride 1 took Clarabel 66-122 s at 3x64x64 (1.8 million), and SCS 9.6 GB at 3x224x224 (22 million).
LIMITS = {"clarabel": 2_500_000, "scs": 12_000_000}
DEFAULT_LIMIT = 2_500_000
SETS = ("Box", "LpBall", "GlobalSSIM", "WindowSSIM", "FeatureBall", "Support")
# Nothing is gained from asking an interior-point method for less; a first-order one pays for every digit.
TIGHTEST = {"clarabel": 1e-9, "scs": 1e-9}


def solve_conic(
    problem: Problem, settings: Settings, warm_start: SolveResult | None = None, *, solver: str
) -> MethodOutput:
    """Conic form through CVXPY, image by image."""
    import cvxpy as cp

    started = time.perf_counter()
    exact = problem.to(dtype=torch.float64, device=torch.device("cpu"))
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    size = estimate_size(exact, sets)
    limit = LIMITS.get(solver, DEFAULT_LIMIT)
    if size > limit and not settings.force:
        raise MethodError(
            f"method 'cvxpy:{solver}' would get about {size:,} non-zeros an image (some {size * 400 / 2**30:.1f} GB), "
            f"more than {limit:,}; use settings force=True to try all the same, or another method"
        )
    deltas: list[Tensor] = []
    blocks: list[list[Tensor | None]] = []
    status: list[Status] = []
    iterations: list[int] = []
    messages: list[str] = []
    setup_time = 0.0
    deadline = started + settings.time_limit
    for image in range(exact.batch):
        built = time.perf_counter()
        delta = cp.Variable(exact.reference[0].numel())
        forms = [bound.conic_form(delta, image) for bound in sets]
        statement = cp.Problem(_objective(exact, delta, image), [c for form in forms for c in form.constraints])
        setup_time += time.perf_counter() - built
        remaining = deadline - time.perf_counter()
        outcome = _run(statement, solver, settings, remaining)
        deltas.append(_point(delta, exact.reference[image]))
        blocks.append([_dual(form, _scale(exact, image)) for form in forms])
        status.append(outcome[0])
        messages.append(outcome[1])
        iterations.append(outcome[2])
    return MethodOutput(
        delta=torch.stack(deltas).to(problem.reference.device),
        dual=tuple(_stack([row[k] for row in blocks]) for k in range(len(sets))),
        status=tuple(status),
        iterations=tuple(iterations),
        setup_time=setup_time,
        messages=tuple(messages),
    )


def estimate_size(problem: Problem, sets: list[BoundConstraint]) -> int:
    """About how many non-zeros one image hands to the solver."""
    return problem.reference[0].numel() + sum(bound.conic_size() for bound in sets)


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


def _run(statement: Any, solver: str, settings: Settings, seconds: float) -> tuple[Status, str, int]:
    """Solve; status, the solver's own word, iterations. Never raises for what a solver does."""
    import cvxpy as cp

    if seconds <= 0:
        return Status.TIME_LIMIT, "time limit reached before this image's turn", 0
    options = _options(solver, settings, seconds)
    quiet = contextlib.nullcontext() if settings.verbose else contextlib.redirect_stdout(io.StringIO())
    try:
        with quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statement.solve(solver=solver.upper(), verbose=settings.verbose, **options)
    except (cp.error.SolverError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        return Status.NUMERICAL_ERROR, f"{solver}: {str(error).splitlines()[0]}", 0
    stats = statement.solver_stats
    steps = int(stats.num_iters) if stats is not None and stats.num_iters is not None else 0
    word = statement.status
    if word in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return Status.OPTIMAL, "" if word == cp.OPTIMAL else f"{solver}: {word}", steps
    if word in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        return Status.INFEASIBLE, f"{solver}: {word}", steps
    if word == cp.USER_LIMIT:
        timed = stats is not None and stats.solve_time is not None and stats.solve_time >= 0.9 * seconds
        return (Status.TIME_LIMIT if timed else Status.MAX_ITER), f"{solver}: {word}", steps
    return Status.NUMERICAL_ERROR, f"{solver}: {word}", steps


def _options(solver: str, settings: Settings, seconds: float) -> dict[str, Any]:
    """The solver's own options: a tenth of the wanted gap, since its criterion is not the certificate."""
    tolerance = max(0.1 * settings.eps_rel, TIGHTEST.get(solver, 1e-9))
    finite = seconds != float("inf")
    if solver == "clarabel":
        options: dict[str, Any] = {
            "tol_gap_abs": tolerance,
            "tol_gap_rel": tolerance,
            "tol_feas": min(tolerance, 1e-8),
            "max_iter": min(settings.max_iter, 500),
        }
        return options | ({"time_limit": seconds} if finite else {})
    if solver == "scs":
        options = {"eps_abs": tolerance, "eps_rel": tolerance, "max_iters": max(settings.max_iter, 1)}
        return options | ({"time_limit_secs": seconds} if finite else {})
    return {}


def _point(delta: Any, like: Tensor) -> Tensor:
    if delta.value is None:
        return torch.zeros_like(like)
    return torch.as_tensor(delta.value, dtype=torch.float64).reshape(like.shape)


def _dual(form: ConicForm, scale: float) -> Tensor | None:
    if form.dual is None or any(constraint.dual_value is None for constraint in form.constraints):
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


def cvxpy_method(name: str) -> MethodInfo | None:
    """The method for ``cvxpy:NAME`` with any solver name, or ``None`` for another kind of name."""
    prefix, _, solver = name.partition(":")
    if prefix != "cvxpy" or not solver:
        return None
    return MethodInfo(
        name=name,
        run=partial(solve_conic, solver=solver.lower()),
        problems=(LinearProblem, ProjectionProblem),
        any_of=frozenset(SETS),
        devices=("cpu", "cuda"),
        available=partial(_installed, solver.lower()),
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
    )(run)


_register("clarabel", "Interior point through CVXPY, one image after the other; the reference on small problems.")
_register("scs", "First-order conic solver through CVXPY, one image after the other; larger problems, few digits.")
