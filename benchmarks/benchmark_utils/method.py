"""One benchopt solver for every method of ``solvers``."""

from __future__ import annotations

from typing import Any

import torch
from benchopt import BaseSolver

import solvers
from solvers.registry import methods


class MethodSolver(BaseSolver):
    """A method by its name. Each tolerance is solved from scratch, on one thread, in at most ``seconds``."""

    sampling_strategy = "run_once"
    parameters = {"tolerance": [1e-2, 1e-3]}  # noqa: RUF012 (benchopt's own form)
    method: str
    seconds = 60.0

    def skip(self, problem: solvers.LinearProblem) -> tuple[bool, str | None]:
        """Whether the method can't take the problem, and the reason."""
        info = next(info for info in methods() if info.name == self.method)
        reason = info.hindrance(problem)
        return reason is not None, reason

    def set_objective(self, problem: solvers.LinearProblem) -> None:
        """Remember the problem, and use one thread."""
        torch.set_num_threads(1)
        self.problem = problem

    def warm_up(self) -> None:
        """Compile, and import what the method needs; benchopt does not count this time."""
        solvers.solve(self.problem, self.method, solvers.Settings(max_iter=2, time_limit=self.seconds))

    def run(self, _: Any) -> None:
        """Solve once, with set-up."""
        settings = solvers.Settings(eps_rel=self.tolerance, max_iter=100_000, time_limit=self.seconds)
        self.result = solvers.solve(self.problem, self.method, settings)

    def get_result(self) -> dict[str, Any]:
        """The point and the dual, which the objective certifies."""
        return {"delta": self.result.delta, "dual": self.result.dual}
