"""benchopt objective: the certified gap of what a solver returns. Run ``benchopt run benchmarks``."""

from __future__ import annotations

from typing import Any

from benchopt import BaseObjective

import solvers


class Objective(BaseObjective):
    """``max g'd`` over SSIM windows and the box. ``solvers.certify`` alone judges the result, in float64."""

    name = "SSIM windows"
    url = "https://github.com/ssimpert/ssimpert"
    min_benchopt_version = "1.7"
    sampling_strategy = "run_once"

    def set_data(self, problem: solvers.LinearProblem) -> None:
        """Remember the data set's problem."""
        self.problem = problem

    def evaluate_result(self, delta: Any, dual: Any) -> dict[str, float]:
        """The certificate. benchopt monitors ``value``, which is ``rel_gap``."""
        certificate = solvers.certify(self.problem, delta, dual)
        gap = float(certificate.rel_gap[0])
        return {
            "value": gap,
            "rel_gap": gap,
            "certified": float(certificate.objective[0]),
            "bound": float(certificate.bound[0]),
            "max_violation": float(certificate.max_violation[0]),
        }

    def get_one_result(self) -> dict[str, Any]:
        """A valid result: no perturbation and no dual."""
        return {"delta": 0 * self.problem.reference, "dual": None}

    def get_objective(self) -> dict[str, Any]:
        """What benchopt gives to a solver."""
        return {"problem": self.problem}
