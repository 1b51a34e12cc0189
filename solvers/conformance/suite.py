"""Run methods on the standard problems and check every answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from solvers.conformance.checks import check_result
from solvers.conformance.problems.standard import Posed, StandardProblem, standard_problems
from solvers.conformance.report import ConformanceReport, ConformanceRow, Verdict
from solvers.registry import MethodInfo, named_method
from solvers.registry import methods as registered_methods
from solvers.settings import Settings
from solvers.solve import solve

# The tolerances that are asked of a method: by its kind, or by its name where a solver can do more or less.
EXACT = Settings(eps_rel=1e-9)
ITERATIVE = Settings(eps_rel=1e-3, max_iter=20_000)
BY_NAME = {
    # A projection from nearby has an objective of 1e-4: there an absolute gap of 1e-9 is enough.
    "cvxpy:clarabel": Settings(eps_rel=1e-6, eps_abs=1e-9),
    # On the black photo SCS takes more than 50,000 iterations to a gap of 1e-3.
    "cvxpy:scs": Settings(eps_rel=1e-2, max_iter=20_000),
    # It converges sublinearly: points near the set, with an objective of 1e-4, take tens of thousands of iterations.
    "frank_wolfe": Settings(eps_rel=1e-2, eps_abs=1e-4, max_iter=5_000),
}
# The tolerances by method and problem. A constant black photo at stride 1 is a packing problem with ties, and rounding
# decides how near `dual` comes to its optimum: 1e-3 after 825 iterations on one processor, 1.2e-3 and 3.0e-3 after all
# iterations on another.
BY_PROBLEM = {("dual", "stride-1-plain"): Settings(eps_rel=5e-3, max_iter=20_000)}


def run_conformance(
    methods: Sequence[str] | None = None,
    problems: Sequence[StandardProblem] | None = None,
    settings: Settings | Mapping[str, Settings] | None = None,
    *,
    device: str | torch.device = "cpu",
    on_row: Callable[[ConformanceRow], None] | None = None,
) -> ConformanceReport:
    """Run methods on problems and check every answer without ``solvers.certify`` (:mod:`.checks`).

    To check a method of your own, register it and call ``run_conformance(["my_method"])``. A method is run on the
    problems that it claims to take. It fails where it raises or where any check fails, among them an optimal status.

    Args:
        methods: the methods' names. Default: all registered methods.
        problems: the problems. Default: :func:`standard_problems`.
        settings: one for all methods, or one for each name. Default: :func:`default_settings` of each, but a gap of
            5e-3 for ``dual`` on the constant photos at stride 1 (``stride-1-plain``).
        device: where the problems are solved, "cpu" (default), "cuda" or "cuda:N"; they are judged on the CPU.
        on_row: called after each row, for instance to show progress.

    Raises:
        MethodError: an unknown method.
    """
    infos = [named_method(name) for name in methods] if methods is not None else list(registered_methods())
    rows: list[ConformanceRow] = []
    for standard in standard_problems() if problems is None else problems:
        posed = standard.build()
        posed = Posed(posed.problem.to(device=torch.device(device)), posed.optimum)
        for info in infos:
            row = _try(info, standard.name, posed, _settings_for(info, standard.name, settings))
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return ConformanceReport(tuple(rows))


def default_settings(info: MethodInfo) -> Settings:
    """The tolerance that the suite asks of a method.

    A relative gap of 1e-9 from an exact method, of 1e-3 within 20,000 iterations from an iterative one, of 1e-6 from
    Clarabel, and of 1e-2 from SCS and frank_wolfe.
    """
    return BY_NAME.get(info.name, EXACT if info.exact else ITERATIVE)


def _settings_for(info: MethodInfo, problem: str, settings: Settings | Mapping[str, Settings] | None) -> Settings:
    if isinstance(settings, Settings):
        return settings
    return (settings or {}).get(info.name) or BY_PROBLEM.get((info.name, problem)) or default_settings(info)


def _try(info: MethodInfo, name: str, posed: Posed, settings: Settings) -> ConformanceRow:
    reason = info.unavailable()
    if reason is not None:
        return ConformanceRow(info.name, name, Verdict.NOT_INSTALLED, note=reason)
    reason = info.refusal(posed.problem)
    if reason is not None:
        return ConformanceRow(info.name, name, Verdict.NOT_CLAIMED, note=reason)
    started = time.perf_counter()
    try:
        result = solve(posed.problem, info.name, settings)
    except Exception as error:  # a user's method may raise anything, and the other rows must still be run
        note = f"raised {type(error).__name__}: {error}"
        return ConformanceRow(info.name, name, Verdict.FAIL, seconds=time.perf_counter() - started, note=note)
    seconds = time.perf_counter() - started
    outcomes = check_result(posed.problem, result, settings, optimum=posed.optimum)
    passed = all(outcome.passed for outcome in outcomes)
    note = "" if passed else "; ".join(dict.fromkeys(message for message in result.messages if message))
    return ConformanceRow(info.name, name, Verdict.PASS if passed else Verdict.FAIL, outcomes, seconds, note)
