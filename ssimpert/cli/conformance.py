"""``ssimpert methods --conformance``: tries methods on standard problems and shows a table or JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ssimpert.cli.terminal import cell, table
from ssimpert.errors import InputError

if TYPE_CHECKING:
    from solvers.conformance import ConformanceReport, ConformanceRow

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def run_suite(methods: Sequence[str], problems: Sequence[str], device: str, progress: Progress) -> ConformanceReport:
    """Run the conformance suite.

    Args:
        methods: names of methods; empty for all methods.
        problems: patterns of problems' names, with ``*`` and ``?`` as in a shell; empty for all problems.
        device: where the problems are solved; see :func:`ssimpert.device.resolve_device`.
        progress: makes a progress bar; see :func:`ssimpert.cli.progress.progress_bar`.

    Raises:
        InputError: no problem matches a pattern, or the device is not available.
        MethodError: a method is unknown.
    """
    import solvers
    from solvers.conformance import run_conformance, standard_problems
    from ssimpert.device import resolve_device

    resolved_device = resolve_device(device)
    all_problems = standard_problems()
    for pattern in problems:
        if not any(fnmatchcase(entry.name, pattern) for entry in all_problems):
            near = get_close_matches(pattern, [entry.name for entry in all_problems], n=3, cutoff=0.3)
            hint = f"did you mean {', '.join(near)}?" if near else "try '*'"
            raise InputError(f"no standard problem matches {pattern!r}; {hint}")
    chosen_problems = [
        entry for entry in all_problems if not problems or any(fnmatchcase(entry.name, pattern) for pattern in problems)
    ]
    count = len(methods) or len(solvers.methods())
    with progress("checking", count * len(chosen_problems)) as advance:
        return run_conformance(methods or None, chosen_problems, device=resolved_device, on_row=lambda row: advance())


def report_table(report: ConformanceReport) -> Table:
    """A row for each problem, a column for each method: seconds where the method passed, else the failing checks."""
    from solvers.conformance import Verdict

    count = {verdict: sum(row.verdict is verdict for row in report.rows) for verdict in Verdict}
    caption = ", ".join(f"{number} {verdict.value}" for verdict, number in count.items() if number)
    shown = table("Conformance", caption)
    shown.add_column("problem")
    for method in report.methods:
        shown.add_column(cell(method), justify="right")
    for problem in report.problems:
        shown.add_row(cell(problem), *(_verdict(report.find(method, problem)) for method in report.methods))
    return shown


def report_document(report: ConformanceReport) -> dict[str, Any]:
    """The report as plain values, for ``--json``."""
    return {"passed": report.passed, "failures": len(report.failures), "rows": report.table()}


def _verdict(row: ConformanceRow) -> Text:
    from solvers.conformance import Verdict

    if row.verdict is Verdict.PASS:
        return cell((f"{row.seconds:.2f} s", "green"))
    if row.verdict is Verdict.FAIL:
        failing_checks = ", ".join(outcome.name for outcome in row.failing) or "raised"
        return cell((failing_checks, "bold red"))
    return cell(("not here" if row.verdict is Verdict.NOT_INSTALLED else "-", "dim"))
