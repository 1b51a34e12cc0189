"""``cvxpy:NAME``: any conic solver that CVXPY finds, one image after the other.

These solvers are the reference for every other method, and the way to problems that no method of ours takes. Their
duals are mapped back to our dual blocks, so that the certificate judges these solvers like any other method. A failure
becomes a status, with the solver's own word as message.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from solvers import clock
from solvers.certificate import Certificate, Certifier
from solvers.constraints.base import BoundConstraint, ConicForm
from solvers.methods.time_plan import TimePlan
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import MethodInfo, register_family, register_method
from solvers.result import MethodOutput, SolveResult, Status
from solvers.settings import Progress, Settings

# A problem with more non-zeros than this is refused without ``force``. The factors of interior-point methods fill in:
# 7x7 at stride 1 took Clarabel 66-122 s at 3x64x64 (1.8 million), and SCS 9.6 GB at 3x224x224 (22 million).
LIMITS = {"clarabel": 2_500_000, "scs": 12_000_000}
DEFAULT_LIMIT = 2_500_000
# SCS: 9.6 GB at 22 million (measured).
BYTES_A_NONZERO = 450
# 0.5 to 0.9 s a million, from 0.5 to 4.5 million (measured).
COMPILE_SECONDS_A_NONZERO = 0.9e-6
# What Clarabel and SCS take at least, for their set-up and the steps between two looks at the clock: 1.8 to 3.9 s a
# million non-zeros, from 0.5 to 1.8 million (measured: docs/notes/time-limits.md).
SOLVER_SECONDS_A_NONZERO = 3e-6
SETS = ("Box", "LpBall", "GlobalSSIM", "WindowSSIM", "FeatureBall", "Support")
# No solver is asked for a smaller tolerance than this.
TIGHTEST_TOLERANCE = 1e-9


def solve_conic(
    problem: Problem, settings: Settings, warm_start: SolveResult | None = None, *, solver: str
) -> MethodOutput:
    """Solve the conic form of each image through CVXPY.

    Args:
        problem: the problem.
        settings: tolerances and limits; the iterations of all tries for one image count together.
        warm_start: not used.
        solver: the solver's name in lower case.
    """
    plan = TimePlan(problem, settings)
    exact = problem.to(dtype=torch.float64, device=torch.device("cpu"))
    sets = [constraint.bind(exact.reference) for constraint in exact.constraints]
    # What CVXPY takes to compile an image, from its size at first, then from the images before.
    size = problem.reference[0].numel() + sum(bound.conic_size() for bound in sets)
    compile_time, solver_time = COMPILE_SECONDS_A_NONZERO * size, SOLVER_SECONDS_A_NONZERO * size
    solutions: list[_Solution] = []
    stopped = False
    for image in range(exact.batch):
        if stopped:
            solutions.append(_unsolved(exact, Status.STOPPED, "stopped by the callback before its turn"))
            continue
        if clock.now() + compile_time + solver_time >= plan.iterations_end:
            solutions.append(
                _unsolved(exact, Status.TIME_LIMIT, "time limit: too short to pose this image to the solver")
            )
            continue
        last_look = plan.iterations_end - solver_time
        solutions.append(_solve_image(exact, sets, image, solver, settings, last_look))
        compile_time = max(solutions[-1].setup_time, 0.5 * compile_time)
        plan.check_done(solutions[-1].certificate_time, of_iterate=True)
        if settings.callback is not None:
            stopped = bool(settings.callback(_progress(solutions, exact.batch, plan.elapsed)))
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
    """How one image ended, in the solver's own word; iterations of all tries."""

    status: Status
    message: str
    iterations: int


@dataclass(frozen=True)
class _Limits:
    """What one try of a solver may use: its tolerance, iterations and seconds."""

    tolerance: float
    iterations: int
    seconds: float


@dataclass(frozen=True)
class _Solution:
    """One image's result.

    Attributes:
        delta: the point, (C, H, W).
        dual: one block per constraint.
        outcome: how the image ended.
        certificate: of the point; ``None`` where there is no point to judge.
        setup_time: seconds to pose the problem and to compile it for the solver.
        certificate_time: seconds that a certificate took.
    """

    delta: Tensor
    dual: list[Tensor | None]
    outcome: _Outcome
    certificate: Certificate | None
    setup_time: float
    certificate_time: float = 0.0


def _solve_image(
    problem: Problem, sets: list[BoundConstraint], image: int, solver: str, settings: Settings, last_look: float
) -> _Solution:
    """Solve one image: pose it once, and solve it with falling tolerances until the certificate agrees.

    Args:
        problem: the problem of all images, float64, on the CPU.
        sets: its constraints, bound to all images.
        image: the image's number.
        solver: the solver's name in lower case.
        settings: tolerances and limits.
        last_look: the time of :func:`solvers.clock.now` until which the solver may look at the clock and go on.
    """
    import cvxpy as cp

    # Pose the problem, and compile it: CVXPY counts the latter in no solver's time limit.
    began = clock.now()
    delta = cp.Variable(problem.reference[0].numel())
    forms = [bound.conic_form(delta, image) for bound in sets]
    statement = cp.Problem(_objective(problem, delta, image), [c for form in forms for c in form.constraints])
    _compile(statement, solver)
    setup_time = clock.now() - began
    certifier = Certifier(problem.select(torch.tensor([image])))
    best: _Solution | None = None
    iterations = 0
    for tolerance in _tolerances(solver, settings):
        # Solve.
        limits = _Limits(tolerance, settings.max_iter - iterations, last_look - clock.now())
        latest = _run(statement, solver, limits, verbose=settings.verbose)
        iterations += latest.iterations

        # Certify, and keep the better solution.
        certifying = clock.now()
        point = _point(delta, problem.reference[image])
        dual = [_dual(form, _scale(problem, image)) for form in forms]
        certificate = certifier.certify(point[None], dual)
        if best is None or (best.certificate is not None and certificate.rel_gap < best.certificate.rel_gap):
            best = _Solution(point, dual, latest, certificate, setup_time, clock.now() - certifying)
        if not latest.status.is_optimal or bool(certificate.closes(settings.eps_abs, settings.eps_rel)):
            break
    assert best is not None
    # A later try that failed does not take away an earlier point, but it says how the solve ended.
    ended = latest if best.outcome.status.is_optimal else best.outcome
    return replace(best, outcome=replace(ended, iterations=iterations))


def _unsolved(problem: Problem, status: Status, message: str) -> _Solution:
    """The result of an image that was not solved: d = 0 and no dual."""
    dual: list[Tensor | None] = [None] * len(problem.constraints)
    return _Solution(torch.zeros_like(problem.reference[0]), dual, _Outcome(status, message, 0), None, 0.0)


def _progress(solutions: list[_Solution], batch: int, seconds: float) -> Progress:
    """What the callback sees after an image: certified values of the images that are done, NaN for the others."""

    def column(name: str) -> Tensor:
        done = [getattr(s.certificate, name) for s in solutions if s.certificate is not None]
        missing = torch.full((batch - len(done),), torch.nan, dtype=torch.float64)
        return torch.cat([*done, missing])

    iterations = sum(solution.outcome.iterations for solution in solutions)
    return Progress(iterations, seconds, column("objective"), column("bound"), column("rel_gap"))


def size_refusal(problem: Problem, *, solver: str) -> str | None:
    """Why the problem is too large for ``solver``, with an estimate of its size, or ``None``."""
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
    """The image's objective in CVXPY."""
    import cvxpy as cp

    vector = problem.vector[image].flatten().numpy()
    if isinstance(problem, LinearProblem):
        # The gradient is scaled to unit size: solvers' tolerances are partly absolute, and gradients may be 1e-4.
        return cp.Maximize((vector / _scale(problem, image)) @ delta)
    return cp.Minimize(0.5 * cp.sum_squares(delta - vector))


def _scale(problem: Problem, image: int) -> float:
    """The largest |gradient| of an image, by which the objective is divided; 1 for a projection."""
    if not isinstance(problem, LinearProblem):
        return 1.0
    size = float(problem.vector[image].abs().amax())
    return size if size > 0 else 1.0


def _compile(statement: Any, solver: str) -> None:
    """Let CVXPY compile the problem now; the solve takes the result over. What goes wrong here goes wrong in the solve
    again, and becomes a status there."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statement.get_problem_data(solver.upper())


def _run(statement: Any, solver: str, limits: _Limits, *, verbose: bool) -> _Outcome:
    """Solve once. Never raises for what a solver does."""
    import cvxpy as cp

    if limits.seconds <= 0:
        return _Outcome(Status.TIME_LIMIT, "time limit reached before this image was done", 0)
    if limits.iterations <= 0:
        return _Outcome(Status.MAX_ITER, f"{solver}: max_iter reached before the certificate agreed", 0)
    options = _options(solver, limits)
    quiet = contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO())
    try:
        with quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statement.solve(solver=solver.upper(), verbose=verbose, warm_start=True, **options)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Clarabel (Rust) is no Exception
        return _Outcome(Status.NUMERICAL_ERROR, f"{solver}: {(str(error) or repr(error)).splitlines()[0]}", 0)
    stats = statement.solver_stats
    steps = int(stats.num_iters) if stats is not None and stats.num_iters is not None else 0
    timed = stats is not None and stats.solve_time is not None and stats.solve_time >= 0.9 * limits.seconds
    word = statement.status
    if word == cp.OPTIMAL:
        return _Outcome(Status.OPTIMAL, "", steps)
    if word in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        # d = 0 is feasible for every image without a defect, and images with one never come here. The solver is wrong.
        return _Outcome(Status.NUMERICAL_ERROR, f"{solver}: {word}", steps)
    if timed:
        return _Outcome(Status.TIME_LIMIT, f"{solver}: {word}", steps)
    if word == cp.USER_LIMIT or (word == cp.OPTIMAL_INACCURATE and steps >= limits.iterations):
        return _Outcome(Status.MAX_ITER, f"{solver}: {word}", steps)
    if word == cp.OPTIMAL_INACCURATE:
        return _Outcome(Status.OPTIMAL, f"{solver}: {word}", steps)
    return _Outcome(Status.NUMERICAL_ERROR, f"{solver}: {word}", steps)


def _tolerances(solver: str, settings: Settings) -> list[float]:
    """The tolerances of the solver's tries, in order.

    A solver's own criterion is not the certificate: SCS stopped at 1e-3 of its own with a certified gap of 12% on
    near-black photos, and Clarabel at 1e-7 with 2e-6 there and 2e-4 for a projection from nearby, whose objective is
    small beside the constant that the solver counts in (measured).
    """
    first = max(0.1 * max(settings.eps_rel, settings.eps_abs), TIGHTEST_TOLERANCE)
    if solver not in ("clarabel", "scs"):
        return [first]  # we don't know what their tolerances are called: a second try would repeat the first
    return [max(first / 10**k, TIGHTEST_TOLERANCE) for k in range(5) if first / 10**k >= 0.5 * TIGHTEST_TOLERANCE]


def _options(solver: str, limits: _Limits) -> dict[str, Any]:
    """The limits as options of Clarabel and of SCS; none for other solvers, whose options we don't know."""
    limited = limits.seconds != float("inf")
    if solver == "clarabel":
        options: dict[str, Any] = {
            "tol_gap_abs": limits.tolerance,
            "tol_gap_rel": limits.tolerance,
            "tol_feas": min(limits.tolerance, 1e-8),
            "max_iter": limits.iterations,
            # 7x7 windows at stride 1, 3x32x32, one thread: 3.8 s against 28 s of the default (faer); tiles alike.
            "direct_solve_method": "qdldl",
        }
        return options | ({"time_limit": limits.seconds} if limited else {})
    if solver == "scs":
        options = {"eps_abs": limits.tolerance, "eps_rel": limits.tolerance, "max_iters": limits.iterations}
        return options | ({"time_limit_secs": limits.seconds} if limited else {})
    return {}


def _point(delta: Any, like: Tensor) -> Tensor:
    """The variable's value in the shape of ``like`` (C, H, W); zeros where it has none."""
    if delta.value is None:
        return torch.zeros_like(like)
    return torch.as_tensor(delta.value, dtype=torch.float64).reshape(like.shape)


def _dual(form: ConicForm, scale: float) -> Tensor | None:
    """The set's dual block, for the objective before scaling; ``None`` where the solver gave no dual."""
    values = [constraint.dual_value for constraint in form.constraints]
    # A cone's value is a list of parts.
    parts = [part for value in values for part in (value if isinstance(value, (list, tuple)) else [value])]
    if form.dual is None or any(part is None for part in parts):
        return None
    block: Tensor = form.dual() * scale
    return block


def _stack(blocks: list[Tensor | None]) -> Tensor | None:
    """The blocks of all images in one. An image without a block gets zeros, which certify the trivial bound."""
    present = [block for block in blocks if block is not None]
    if not present:
        return None
    return torch.cat([torch.zeros_like(present[0]) if block is None else block for block in blocks])


def _unavailable(solver: str) -> str | None:
    """Why the solver can't run here, or ``None``."""
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
        available=partial(_unavailable, solver.lower()),
        too_large=partial(size_refusal, solver=solver.lower()),
        description=f"Conic form through CVXPY, solver {solver}, image by image.",
    )


def _register(solver: str, description: str) -> None:
    """Register ``cvxpy:SOLVER`` with a description of its own."""

    def run(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
        return solve_conic(problem, settings, warm_start, solver=solver)

    run.__doc__ = description
    register_method(
        f"cvxpy:{solver}",
        problems=(LinearProblem, ProjectionProblem),
        any_of=SETS,
        available=partial(_unavailable, solver),
        too_large=partial(size_refusal, solver=solver),
    )(run)


register_family("cvxpy", cvxpy_method)
_register("clarabel", "Interior point through CVXPY, one image after the other; the reference on small problems.")
_register("scs", "First-order conic solver through CVXPY, one image after the other; larger problems, few digits.")
