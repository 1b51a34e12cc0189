"""The report of the conformance suite: one row per method and problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from solvers.conformance.checks import Outcome


class Verdict(Enum):
    """How a method did on a problem."""

    PASS = "pass"
    FAIL = "fail"
    NOT_CLAIMED = "not claimed"
    NOT_INSTALLED = "not installed"

    @property
    def ran(self) -> bool:
        """Whether the method was run at all."""
        return self in (Verdict.PASS, Verdict.FAIL)


@dataclass(frozen=True)
class ConformanceRow:
    """One method on one problem.

    Attributes:
        outcomes: the checks' outcomes; empty where the method did not run or raised.
        seconds: the time of the solve, without the checks.
        note: why the method was not run, or what it raised, or its own messages where it failed.
    """

    method: str
    problem: str
    verdict: Verdict
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0
    note: str = ""

    @property
    def worst(self) -> Outcome | None:
        """The outcome nearest to its limit, or furthest beyond it."""
        return max(self.outcomes, key=lambda outcome: outcome.ratio, default=None)

    @property
    def failing(self) -> tuple[Outcome, ...]:
        """The outcomes beyond their limits."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    def __str__(self) -> str:
        what = "; ".join(str(outcome) for outcome in self.failing)
        return f"{self.method} on {self.problem}: {'; '.join(part for part in (what, self.note) if part)}"


@dataclass(frozen=True)
class ConformanceReport:
    """All rows, in the order in which they were run."""

    rows: tuple[ConformanceRow, ...] = field(default_factory=tuple)

    @property
    def failures(self) -> tuple[ConformanceRow, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.verdict is Verdict.FAIL)

    @property
    def passed(self) -> bool:
        """Whether something ran and nothing failed."""
        return not self.failures and any(row.verdict.ran for row in self.rows)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in order."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems, in order."""
        return tuple(dict.fromkeys(row.problem for row in self.rows))

    def find(self, method: str, problem: str) -> ConformanceRow:
        """One row. Raises KeyError where there is none."""
        for row in self.rows:
            if (row.method, row.problem) == (method, problem):
                return row
        raise KeyError(f"no row for {method} on {problem}")

    def table(self) -> list[dict[str, str | float | None]]:
        """One dictionary a row, ready for a data frame or JSON; figures and limits are None where nothing ran."""
        return [
            {
                "method": row.method,
                "problem": row.problem,
                "outcome": row.verdict.value,
                "seconds": row.seconds,
                "worst_check": row.worst.name if row.worst else None,
                "worst_figure": row.worst.figure if row.worst else None,
                "worst_limit": row.worst.limit if row.worst else None,
                "failing": "; ".join(str(outcome) for outcome in row.failing),
                "note": row.note,
            }
            for row in self.rows
        ]
