"""A suite that runs methods, also your own, on standard problems and checks the answers independently.

    from solvers.conformance import run_conformance
    report = run_conformance(["my_method"])
    assert report.passed, "\\n".join(map(str, report.failures))

Feasibility, dual sign, complementary slackness, stationarity and the duality gap are evaluated in NumPy from the sets'
definitions, without :func:`solvers.certify`. So the mathematics is stated twice in this package, on purpose.
:func:`known_optimum` makes problems of any size whose optimal pair is known.
"""

from solvers.conformance.checks import Outcome, check_result
from solvers.conformance.problems.known_optimum import KnownOptimum, known_optimum
from solvers.conformance.problems.photos import Photo, photo, photo_names
from solvers.conformance.problems.standard import Posed, StandardProblem, standard_problems
from solvers.conformance.report import ConformanceReport, ConformanceRow, Verdict
from solvers.conformance.suite import default_settings, run_conformance

__all__ = [
    "ConformanceReport",
    "ConformanceRow",
    "KnownOptimum",
    "Outcome",
    "Photo",
    "Posed",
    "StandardProblem",
    "Verdict",
    "check_result",
    "default_settings",
    "known_optimum",
    "photo",
    "photo_names",
    "run_conformance",
    "standard_problems",
]
