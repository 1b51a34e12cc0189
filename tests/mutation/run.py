"""How many small faults the tests find: ``python -m tests.mutation.run``.

Each mutation is made in a copy of the repository, and the tests that run the changed line are run there, the shortest
first, until one fails. A mutation that no test notices is a survivor. Results are kept in a file of JSON lines as they
come; a second run with the same file goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.covering_tests import CoveringTests, measure
from tests.mutation.mutations import Mutation, all_mutations, parses, sample

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("solvers/constraints", "solvers/windows")
FILES = ("solvers/certificate.py", "solvers/result.py", "solvers/rounding.py")
# Kernels that need a GPU, or an interpreter that takes minutes.
LEFT_OUT = "_triton.py"
TESTS = [
    "tests/solvers/constraints",
    "tests/solvers/windows",
    "tests/solvers/exact_arithmetic",
    *(f"tests/solvers/{name}.py" for name in ("test_certificate", "test_problem", "test_properties", "test_result")),
    *(f"tests/solvers/{name}.py" for name in ("test_solve", "test_data_range", "test_numbers_of_any_kind")),
    "tests/solvers/test_against_scikit_image.py",
    *(f"tests/solvers/methods/{name}" for name in ("test_closed_form.py", "test_tiles.py", "test_product_tiles.py")),
    *(f"tests/solvers/methods/{name}" for name in ("dual", "ellipsoid", "mean_ssim")),
]
COPIED = ("solvers", "ssimpert", "tests", "benchmarks", "pyproject.toml")
KILLED, SURVIVED, TIMED_OUT, NOT_RUN = "killed", "survived", "timed out", "no test"


def mutated_files(root: Path) -> list[str]:
    """The files whose mutations are tried, relative to the repository."""
    found = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    found += [root / file for file in FILES]
    return [str(path.relative_to(root)) for path in found if not path.name.endswith(LEFT_OUT)]


def load_libraries() -> None:
    """Import what every test needs, once: the processes forked for the mutations have it."""
    import cvxpy  # noqa: F401
    import hypothesis  # noqa: F401
    import numba  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import skimage.metrics  # noqa: F401
    import torch

    torch.set_num_threads(1)


def exit_code_of_tests(folder: Path, tests: Sequence[str], seconds: float) -> int | None:
    """pytest's exit code for the tests in a copy of the repository, from a forked process; ``None`` out of time."""
    child = os.fork()
    if child == 0:
        os.setsid()
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = 3
        try:
            os.chdir(folder)
            sys.path[:] = [str(folder), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
            for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "solvers", "ssimpert")]:
                del sys.modules[name]
            import pytest

            options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
            code = int(pytest.main([*options, *tests]))
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def chosen_tests(covering: CoveringTests, mutation: Mutation, budget: float) -> list[str]:
    """The tests that run the mutated line, the shortest first, up to ``budget`` seconds, at least one."""
    chosen: list[str] = []
    total = 0.0
    for test in covering.of(mutation.path, mutation.line):
        total += covering.seconds.get(test, 0.0)
        if chosen and total > budget:
            break
        chosen.append(test)
    return chosen


def try_mutation(folder: Path, mutation: Mutation, covering: CoveringTests, budget: float) -> dict[str, object]:
    """Make the mutation in the copy, run its tests, and undo it."""
    file = folder / mutation.path
    source = file.read_text()
    mutated = mutation.apply(source)
    tests = chosen_tests(covering, mutation, budget)
    started = time.monotonic()
    if not tests:
        outcome = NOT_RUN
    elif not parses(mutated):
        outcome = KILLED
    else:
        try:
            file.write_text(mutated)
            expected = sum(covering.seconds.get(test, 0.0) for test in tests)
            code = exit_code_of_tests(folder, tests, 60 + 5 * expected)
        finally:
            file.write_text(source)
        outcome = {None: TIMED_OUT, 0: SURVIVED}.get(code, KILLED)
    return {
        "path": mutation.path,
        "line": mutation.line,
        "operator": mutation.operator,
        "occurrence": mutation.occurrence,
        "change": mutation.describe(source),
        "outcome": outcome,
        "tests": len(tests),
        "seconds": round(time.monotonic() - started, 1),
    }


def copy_of_repository(parent: Path, number: int) -> Path:
    """A copy without caches, for one process."""
    folder = parent / f"copy{number}"
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


def work(
    number: int, parent: Path, mutations: Sequence[Mutation], covering: CoveringTests, budget: float, file: Path
) -> None:
    """Try the mutations one after another, and add a line to ``file`` for each."""
    load_libraries()
    folder = copy_of_repository(parent, number)
    for mutation in mutations:
        record = json.dumps(try_mutation(folder, mutation, covering, budget))
        with file.open("a") as results:
            results.write(record + "\n")


def table(records: Sequence[dict[str, object]]) -> str:
    """Mutations and survivors of each file, and the score: timed out counts as killed."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        counts.setdefault(str(record["path"]), Counter())[str(record["outcome"])] += 1
    rows = ["| file | mutations | killed | survived | not run |", "|---|--:|--:|--:|--:|"]
    for path in sorted(counts):
        count = counts[path]
        killed = count[KILLED] + count[TIMED_OUT]
        rows.append(f"| `{path}` | {count.total()} | {killed} | {count[SURVIVED]} | {count[NOT_RUN]} |")
    overall = sum(counts.values(), Counter())
    killed = overall[KILLED] + overall[TIMED_OUT]
    share = killed / max(overall.total(), 1)
    total = f"| all | {overall.total()} | {killed} ({share:.1%}) | {overall[SURVIVED]} | {overall[NOT_RUN]} |"
    return "\n".join([*rows, total])


def read_records(file: Path) -> list[dict[str, object]]:
    """The results so far; none where there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=400, help="how many to draw (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests a mutation (default 60)")
    parser.add_argument("--results", type=Path, default=Path("out/mutations.jsonl"))
    parser.add_argument("--coverage", type=Path, default=Path("out/covering_tests.json"), help="made where missing")
    parser.add_argument("--again", action="store_true", help="try the survivors in the results again")
    return parser.parse_args()


def main() -> None:
    arguments = parsed_arguments()
    # One thread a process, read when torch and NumPy are loaded: in the processes started below.
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if not arguments.coverage.exists():
        measure(ROOT, "solvers", TESTS).write(arguments.coverage)
    covering = CoveringTests.read(arguments.coverage)
    everything = list(all_mutations(ROOT, mutated_files(ROOT)))
    drawn = sample(everything, arguments.mutations, arguments.seed)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    records = read_records(arguments.results)
    if arguments.again:
        records = [record for record in records if record["outcome"] != SURVIVED]
        arguments.results.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = {(record["path"], record["operator"], record["occurrence"]) for record in records}
    left = [mutation for mutation in drawn if (mutation.path, mutation.operator, mutation.occurrence) not in done]
    print(f"{len(everything)} mutations, {len(drawn)} drawn, {len(left)} to try", flush=True)
    with tempfile.TemporaryDirectory() as parent:
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(
                target=work,
                args=(k, Path(parent), left[k :: arguments.jobs], covering, arguments.budget, arguments.results),
            )
            for k in range(arguments.jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    records = read_records(arguments.results)
    print(table(records))
    for record in records:
        if record["outcome"] in (SURVIVED, NOT_RUN):
            print(f"{record['outcome']}: {record['path']}:{record['line']}: {record['change']}")


if __name__ == "__main__":
    main()
