"""Kill a study at random moments until its table is complete, and compare the table with that of an undisturbed run.

Run with ``make study-torture`` or ``python -m tests.study_torture`` (``--moments 20``, ``--seed 0``, ``--minutes 60``).
The study is small and real: two formulations at two levels on composites, run by the command line. Rounds with worker
processes and rounds on a Dask cluster take turns. At each moment one process gets SIGKILL: the runner, a worker, or the
scheduler with all its workers. A runner that has ended is begun again by the same command. Once a round's study is
complete, its table is compared, and the next round begins in an empty folder. ``--synthetic`` takes a study without a
model, which begins in a fraction of the time.

Ends with an error if a table differs, has a unit twice or lacks one, or if a part can't be read.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq

from tests.dask_processes import ROOT, DaskProcesses

STUDY = """
[study]
name = "torture"

[[data]]
kind = "composites"
n = {items}

[[model]]
name = "efficientnet-lite0"
input_size = 64

[[formulation]]
name = "l2 ball"
constraint = "l2"
radius = [0.5, 1.0]
steps = 2

[[formulation]]
name = "released SSIM ball"
constraint = "global-ssim"
distance = [0.005, 0.01]
engine = "recentred"
steps = 2

[analysis]
maps = ["rms"]
metrics = ["agreement"]
controls = ["gaussian"]
shifts = 0
"""
PROVENANCE = ("seconds", "writer", "worker", "device", "batch")
COMPLETE, STOPPED = 0, 1


class Torture:
    """One study's folder, the processes that fill it, and how often which of them were killed."""

    def __init__(self, scratch: Path, seed: int, deadline: float, items: int | None) -> None:
        """Nothing is begun yet.

        Args:
            scratch: a folder for everything.
            seed: of the moments and the victims.
            deadline: in the seconds of ``time.monotonic``, after which the torture has failed.
            items: photos of the study; ``None`` for the study without a model.
        """
        self.random, self.deadline, self.scratch = random.Random(seed), deadline, scratch
        self.killed: Counter[str] = Counter()
        self.study = scratch / "study.toml"
        self.is_synthetic = items is None
        self.study.write_text(STUDY.format(items=items), encoding="utf-8")

    def begin(self, folder: Path, scheduler: str | None) -> subprocess.Popen[bytes]:
        """The command, as a process."""
        if self.is_synthetic:
            arguments = ["tests.study_torture.synthetic_command", str(folder), *([scheduler] if scheduler else [])]
        else:
            where = ["--workers", "2"] if scheduler is None else ["--scheduler", scheduler]
            arguments = ["ssimpert", "study", "run", str(self.study), "--out", str(folder), *where]
        command = [sys.executable, "-m", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with open(self.scratch / "runner.log", "ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def finish(self, folder: Path, scheduler: str | None) -> None:
        """Run the command until the study is complete."""
        runner = self.begin(folder, scheduler)
        code = runner.wait(timeout=max(self.deadline - time.monotonic(), 1.0))
        if code != COMPLETE:
            raise SystemExit(f"an undisturbed run ended with exit code {code}; its words:\n{self.words()}")

    def round(self, folder: Path, cluster: DaskProcesses | None, moments: int, longest: float) -> int:
        """Kill until ``moments`` kills are done or the study is complete; then complete it undisturbed.

        Args:
            folder: empty.
            cluster: whose workers do the work; ``None`` for processes of the runner.
            moments: how many kills at most.
            longest: seconds between two kills, at most.

        Returns:
            how many kills were done.
        """
        address = None if cluster is None else cluster.address
        runner = self.begin(folder, address)
        done = 0
        while done < moments:
            wait_until = time.monotonic() + self.random.uniform(0.0, longest)
            while runner.poll() is None and time.monotonic() < wait_until:
                time.sleep(0.05)
            self.check_time()
            code = runner.poll()
            if code == COMPLETE:
                break
            if code == STOPPED:  # the scheduler was away for too long
                runner = self.begin(folder, address)
                continue
            if code is not None and code != -signal.SIGKILL:
                raise SystemExit(f"the runner ended with exit code {code}; its words:\n{self.words()}")
            victim = self.random.choice(("runner", "worker") if cluster is None else ("runner", "worker", "scheduler"))
            if victim == "runner":
                runner.kill()
                runner.wait()
                runner = self.begin(folder, address)
            elif victim == "scheduler":
                assert cluster is not None
                cluster.kill_scheduler()
                cluster.start()
            elif cluster is not None:
                cluster.kill_worker(self.random.randrange(2))
            elif (workers := workers_of(runner.pid)) and runner.poll() is None:
                os.kill(self.random.choice(workers), signal.SIGKILL)
            else:
                continue  # no worker is there yet
            self.killed[victim if cluster is None else f"{victim} on Dask"] += 1
            done += 1
        runner.wait(timeout=max(self.deadline - time.monotonic(), 1.0))
        self.finish(folder, address)
        return done

    def check_time(self) -> None:
        """Raise ``SystemExit`` after the deadline."""
        if time.monotonic() > self.deadline:
            raise SystemExit(f"the time is over; killed so far: {dict(self.killed)}; the last words:\n{self.words()}")

    def words(self) -> str:
        """The end of what runners printed."""
        return (self.scratch / "runner.log").read_text(encoding="utf-8", errors="replace")[-2000:]


def workers_of(pid: int) -> list[int]:
    """The worker processes of a runner, without multiprocessing's resource tracker."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:
        return []


def rows_of(folder: Path) -> list[dict[str, object]]:
    """The records of a complete study, by key, without provenance. Read by PyArrow alone."""
    table = pq.read_table(folder / "results.parquet")
    kept = [name for name in table.column_names if name not in PROVENANCE]
    return sorted(table.select(kept).to_pylist(), key=lambda row: str(row["key"]))


def compare(rows: list[dict[str, object]], expected: list[dict[str, object]], name: str) -> None:
    """Raise ``SystemExit`` where a table is not the expected one, bit by bit."""
    keys, expected_keys = [row["key"] for row in rows], [row["key"] for row in expected]
    if len(set(keys)) != len(keys):
        raise SystemExit(f"{name}: a unit is there twice")
    if keys != expected_keys:
        raise SystemExit(f"{name}: {len(keys)} units, expected {len(expected_keys)}")
    for row, wanted in zip(rows, expected, strict=True):
        if repr(row) != repr(wanted):  # NaN is equal to NaN
            raise SystemExit(f"{name}: unit {row['key']} has\n{row}\nexpected\n{wanted}")


def main(*, moments: int, seed: int, minutes: float, items: int | None) -> None:
    """Torture studies until ``moments`` processes were killed."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        torture = Torture(scratch, seed, time.monotonic() + 60 * minutes, items)
        began = time.monotonic()
        torture.finish(scratch / "undisturbed", None)
        longest = time.monotonic() - began
        expected = rows_of(scratch / "undisturbed")
        print(f"undisturbed: {len(expected)} units in {longest:.0f} s", flush=True)
        done, number = 0, 0
        while done < moments:
            name = f"round-{number}"
            is_dask = number % 2 == 1
            cluster = DaskProcesses(scratch) if is_dask else None
            with nullcontext() if cluster is None else cluster:
                # Half of the kills in a round at most, so that both ways get theirs.
                limit = min(moments - done, max(moments // 4, 1))
                done += torture.round(scratch / name, cluster, limit, longest)
            compare(rows_of(scratch / name), expected, name)
            print(f"{name} ({'Dask' if is_dask else 'local'}): equal; {done} of {moments} kills", flush=True)
            number += 1
        print(f"killed {dict(torture.killed)}; every table is the same, bit by bit")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which the torture has failed")
    parser.add_argument("--items", type=int, default=12, help="photos of the study, 4 units each")
    parser.add_argument("--synthetic", action="store_true", help="a study without a model")
    given = parser.parse_args()
    chosen = None if given.synthetic else given.items
    main(moments=given.moments, seed=given.seed, minutes=given.minutes, items=chosen)
