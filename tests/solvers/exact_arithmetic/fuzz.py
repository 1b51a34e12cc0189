"""Check the certificate on many random problems in exact arithmetic: ``python -m tests.solvers.exact_arithmetic.fuzz``.

Every seed is a batch of problems, one an image. Failures are printed in a table and kept, with their seeds, in a file
of JSON lines. ``--seed S`` checks one seed again and prints everything that fails.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

# Read when torch and NumPy are loaded; small matrices are slower with several threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from tests.solvers.exact_arithmetic.checks import (
    FAILURE_KINDS,
    INFEASIBLE_POINT,
    UNSAFE_OBJECTIVE,
    WRONG_BOUND,
    Outcome,
    check_seed,
)

FAILURES_FILE = Path("out/certify_fuzz_failures.jsonl")
SECONDS_BETWEEN_REPORTS = 20.0


@dataclass
class Row:
    """Sums over the problems with a set."""

    images: int = 0
    bounds: int = 0
    points: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    gross: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, outcome: Outcome) -> None:
        """Count one batch."""
        self.images += outcome.images
        self.bounds += outcome.bounds
        self.points += outcome.points
        for failure in outcome.failures:
            self.failed[failure.kind] += 1
            self.gross[failure.kind] += failure.is_gross
            if not math.isnan(failure.excess):
                self.largest[failure.kind] = max(self.largest[failure.kind], failure.excess)


class Table:
    """The sums of a run: a row for each set alone, one for each set among others, and the total."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = defaultdict(Row)
        self.total = Row()
        self.refusals: Counter[str] = Counter()
        self.failures: list[dict[str, object]] = []

    def add(self, outcome: Outcome) -> None:
        """Count one batch."""
        if outcome.refusal:
            self.refusals[outcome.refusal.split(",")[0]] += 1
            return
        self.total.add(outcome)
        names = set(outcome.sets)
        for name in names:
            self.rows[name if len(outcome.sets) == 1 else f"{name} and others"].add(outcome)
        self.failures += [asdict(failure) for failure in outcome.failures]

    def lines(self) -> Iterator[str]:
        """The table in Markdown; a failure is gross where its excess is more than ROUNDING."""
        yield (
            "| sets | problems | bounds | points | wrong bounds (gross) | largest | infeasible points (gross) "
            "| largest | unsafe objectives (gross) | largest | other |"
        )
        yield "|---|" + "---:|" * 10
        for name in sorted(self.rows):
            yield _line(name, self.rows[name])
        yield _line("**all**", self.total)


def _line(name: str, row: Row) -> str:
    shown = (WRONG_BOUND, INFEASIBLE_POINT, UNSAFE_OBJECTIVE)
    cells = [name, str(row.images), str(row.bounds), str(row.points)]
    for kind in shown:
        count_of_kind = f"{row.failed[kind]} ({row.gross[kind]})" if row.failed[kind] else "0"
        cells += [count_of_kind, f"{row.largest[kind]:.1e}" if row.failed[kind] else ""]
    cells.append(str(sum(row.failed[kind] for kind in FAILURE_KINDS if kind not in shown)))
    return "| " + " | ".join(cells) + " |"


def run(problems: int, first_seed: int, jobs: int, failures_file: Path) -> Table:
    """Check at least ``problems`` images, from ``first_seed`` on, in ``jobs`` processes.

    Progress is printed, and failures are added to ``failures_file`` as they are found.
    """
    table, started, reported = Table(), time.perf_counter(), time.perf_counter()
    outcomes = _outcomes(first_seed, jobs)
    for outcome in outcomes:
        table.add(outcome)
        if outcome.failures:
            failures_file.parent.mkdir(parents=True, exist_ok=True)
            with failures_file.open("a") as file:
                file.writelines(json.dumps(asdict(failure)) + "\n" for failure in outcome.failures)
        now = time.perf_counter()
        if now - reported > SECONDS_BETWEEN_REPORTS:
            reported = now
            rate = table.total.images / (now - started)
            print(
                f"{table.total.images} of {problems} problems, {rate:.0f} a second, "
                f"{len(table.failures)} failures, seed {outcome.seed}",
                flush=True,
            )
        if table.total.images >= problems:
            outcomes.close()
            break
    seconds = time.perf_counter() - started
    print(f"{table.total.images} problems in {seconds:.0f} s with {jobs} processes, seeds from {first_seed} on")
    return table


def _outcomes(first_seed: int, jobs: int) -> Iterator[Outcome]:
    """The outcomes of all seeds in order, without end."""
    if jobs == 1:
        _one_thread()
        yield from map(check_seed, count(first_seed))
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _one_thread) as pool:
        for block in count():
            seeds = range(first_seed + 64 * jobs * block, first_seed + 64 * jobs * (block + 1))
            yield from pool.imap(check_seed, seeds, chunksize=4)


def _one_thread() -> None:
    torch.set_num_threads(1)


def replay(seed: int) -> int:
    """Check one seed and print what fails; returns the number of failures."""
    _one_thread()
    outcome = check_seed(seed)
    print(f"seed {seed}: {' & '.join(outcome.sets) or outcome.refusal}; {outcome.images} problems")
    for failure in outcome.failures:
        print(f"  image {failure.image}: {failure.kind}, {failure.excess:.2e}: {failure.what}")
    print(f"{len(outcome.failures)} failures")
    return len(outcome.failures)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if anything fails."""
    parser = argparse.ArgumentParser(description="Check the certificate in exact arithmetic on random problems.")
    parser.add_argument("--problems", type=int, default=10_000, help="how many problems (images) to check")
    parser.add_argument("--first-seed", type=int, default=0, help="the first batch's seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--failures", type=Path, default=FAILURES_FILE, help="where failures are kept (JSON lines)")
    parser.add_argument("--seed", type=int, help="check this seed alone and print what fails")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return int(replay(options.seed) > 0)
    table = run(options.problems, options.first_seed, options.jobs, options.failures)
    print("\n".join(table.lines()))
    if table.refusals:
        print(f"{sum(table.refusals.values())} batches refused: {dict(table.refusals.most_common(5))}")
    if not table.failures:
        print("no failures")
        return 0
    seeds = sorted({int(str(failure["seed"])) for failure in table.failures})
    print(f"{len(table.failures)} failures in {len(seeds)} seeds, kept in {options.failures}; the first: {seeds[:10]}")
    print("replay one: python -m tests.solvers.exact_arithmetic.fuzz --seed S")
    return 1


if __name__ == "__main__":
    sys.exit(main())
