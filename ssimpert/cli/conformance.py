"""``ssimpert methods --conformance``: methods against standard problems, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from ssimpert.errors import InputError

if TYPE_CHECKING:
    from solvers.conformance import ConformanceReport, ConformanceRow

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def run(methods: Sequence[str], problems: Sequence[str], device: str, progress: Progress) -> ConformanceReport:
    """Run the suite.

    Args:
        methods: names; empty for all.
        problems: patterns of names, ``*`` and ``?`` as in a shell; empty for all.
        device: where they are solved; see :func:`ssimpert.device.resolve_device`.
        progress: a bar for so many steps; see :func:`ssimpert.cli.run.progress_bar`.

    Raises:
        InputError: a pattern that no problem matches, a device that is not here. MethodError: an unknown method.
    """
    import solvers
    from solvers.conformance import run_conformance, standard_problems
    from ssimpert.device import resolve_device

    where = resolve_device(device)
    every = standard_problems()
    for pattern in problems:
        if not any(fnmatchcase(entry.name, pattern) for entry in every):
            near = get_close_matches(pattern, [entry.name for entry in every], n=3, cutoff=0.3)
            hint = f"did you mean {', '.join(near)}?" if near else "try '*'"
            raise InputError(f"no standard problem matches {pattern!r}; {hint}")
    chosen = [e for e in every if not problems or any(fnmatchcase(e.name, pattern) for pattern in problems)]
    count = len(methods) or len(solvers.methods())
    with progress("checking", count * len(chosen)) as advance:
        return run_conformance(methods or None, chosen, device=where, on_row=lambda row: advance())


def table(report: ConformanceReport) -> Table:
    """Problem by method: seconds where it passed, the failing checks where it did not."""
    from solvers.conformance import Verdict

    count = {verdict: sum(row.verdict is verdict for row in report.rows) for verdict in Verdict}
    caption = ", ".join(f"{number} {verdict.value}" for verdict, number in count.items() if number)
    shown = Table(title="Conformance", title_justify="left", caption=caption, caption_justify="left")
    shown.add_column("problem")
    for method in report.methods:
        shown.add_column(method, justify="right")
    for problem in report.problems:
        shown.add_row(problem, *(_cell(report.find(method, problem)) for method in report.methods))
    return shown


def document(report: ConformanceReport) -> dict[str, Any]:
    """The report for ``--json``."""
    return {"passed": report.passed, "failures": len(report.failures), "rows": report.table()}


def _cell(row: ConformanceRow) -> str:
    from solvers.conformance import Verdict

    if row.verdict is Verdict.PASS:
        return f"[green]{row.seconds:.2f} s[/green]"
    if row.verdict is Verdict.FAIL:
        what = ", ".join(outcome.name for outcome in row.failing) or "raised"
        return f"[bold red]{escape(what)}[/bold red]"
    return "[dim]not here[/dim]" if row.verdict is Verdict.NOT_INSTALLED else "[dim]-[/dim]"
