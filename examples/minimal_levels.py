"""Is the level that `minimal_budget` finds the least one? A comparison with a fine grid of levels, and with foolbox.

Run with `python -m examples.minimal_levels` (needs the extra `baselines`). For each photo and set the script finds the
least level that changes the decision. It then tries lower levels one by one, from the clean image, with `perturb` and
twice the steps, towards any class and towards the class that was found. The least of these levels that succeeds should
be at most a hundredth below the level that was found. The grid is no proof, since it can be beaten; where the grid
fails even at the level that was found, the table says so. For l2 the table also has the norms of DDN and FMN, with at
least as many gradients. `--photos coffee --sets l2` is a quick trial. `--json FILE` keeps the results, so that a second
run can continue. `--jobs 2` uses two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import solvers
import ssimpert
from benchmarks.script_options import script_parser
from solvers.constraints import Constraint
from ssimpert.linearization import LabelWins

TILES = solvers.Window.uniform(8, stride=8)
PUBLISHED = solvers.Window.gaussian(1.5, 11, border="valid")
SETS: dict[str, tuple[Constraint, Callable[[float], Constraint]]] = {
    "l2": (solvers.LpBall(2, 0.1), lambda level: solvers.LpBall(2, level)),
    "linf": (solvers.LpBall(torch.inf, 1 / 255), lambda level: solvers.LpBall(torch.inf, level)),
    "GlobalSSIM": (solvers.GlobalSSIM(0.005), solvers.GlobalSSIM),
    "WindowSSIM tiles": (
        # A numeric luminance bound keeps its share of the level. The share is that of the default at 0.95.
        solvers.WindowSSIM(0.999, TILES, luminance=0.02 * 0.001),
        lambda level: solvers.WindowSSIM(1 - level, TILES, luminance=0.02 * level),
    ),
    "MeanSSIM": (solvers.MeanSSIM(0.999, PUBLISHED), lambda level: solvers.MeanSSIM(1 - level, PUBLISHED)),
}
# Shares of the level that was found: coarse far from 1, fine near 1.
GRID = (
    *(0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 1.0),
    *(1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0),
)
STEPS = 10
Record = dict[str, Any]


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    photos = ",".join(sample.name for sample in ssimpert.samples() if sample.kind == "photo")
    parser = script_parser(__doc__)
    parser.add_argument("--photos", default=photos, help=f"comma-separated names (default {photos})")
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated names (default all)")
    parser.add_argument("--jobs", type=int, default=1, help="the number of processes, a thread each (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row's figures, and continue from there")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    if unknown := set(options.sets.split(",")) - set(SETS):
        parser.error(f"--sets: {', '.join(sorted(unknown))} is none of {', '.join(SETS)}")
    return options


def least_on_grid(
    model: ssimpert.Classifier,
    image: Tensor,
    set_at: Callable[[float], Constraint],
    minimal: ssimpert.MinimalBudgetResult,
) -> float | None:
    """The least share of the level that was found at which the decision changes; ``None`` where the grid has none.

    Each attempt starts at the clean image, and aims at any class or at the class that was found.
    """
    clean_label = minimal.label_before
    for share in GRID:
        constraint = set_at(share * float(minimal.level))
        for margin, label in ((ssimpert.Untargeted(), clean_label), (LabelWins(), minimal.label_after)):
            result = ssimpert.perturb(
                model, image, constraint, margin=margin, label=label, steps=2 * STEPS, settings={"eps_rel": 1e-3}
            )
            if int(result.label_after) != int(clean_label):
                return share
    return None


def measure(photo_and_set: tuple[str, str]) -> Record:
    """The figures of one photo in one set, on one thread."""
    torch.set_num_threads(1)
    photo, kind = photo_and_set
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    image = ssimpert.load_image(photo, size=model.input_size)
    template, set_at = SETS[kind]
    minimal = ssimpert.minimal_budget(model, image, template, steps=STEPS)
    gradients = int(minimal.steps) + 10  # ten gradients choose the class
    record: Record = {"photo": photo, "set": kind, "level": float(minimal.level), "gradients": gradients}
    for attack in ("ddn", "fmn") if kind == "l2" else ():
        rival = ssimpert.foolbox_baseline(model, image, attack, steps=max(100, gradients))
        record[attack] = float(rival.delta.double().norm()) if bool(rival.success) else None
    return record | {"share": least_on_grid(model, image, set_at, minimal)}


def line(record: Record) -> list[str]:
    """A row of the table."""
    share = record["share"]
    norms = [
        f"{record[attack]:.4g}" if record.get(attack) else "fails" if attack in record else ""
        for attack in ("ddn", "fmn")
    ]
    least = ["none", f"< {1 / GRID[-1]}"] if share is None else [f"{share * record['level']:.4g}", f"{1 / share:.4f}"]
    return [record["photo"], record["set"], f"{record['level']:.4g}", *least, str(record["gradients"]), *norms]


def main() -> None:
    """Measure what is not on file, and print the table."""
    options = arguments()
    records: list[Record] = []
    if options.json is not None and options.json.exists():
        records = json.loads(options.json.read_text(encoding="utf-8"))
    on_file = {(record["photo"], record["set"]) for record in records}
    chosen = [(photo, kind) for kind in options.sets.split(",") for photo in options.photos.split(",")]
    # Processes are spawned, not forked, since a fork would take over torch's threads.
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for record in pool.imap_unordered(measure, [pair for pair in chosen if pair not in on_file]):
            records.append(record)
            if options.json is not None:
                options.json.write_text(json.dumps(records), encoding="utf-8")
            print(" | ".join(line(record)), flush=True)
    by_photo_and_set = {(record["photo"], record["set"]): record for record in records}
    columns = ("photo", "set", "level found", "least on the grid", "ratio", "gradients", "DDN", "FMN")
    table = Table(*columns, title="least level that changes the decision")
    for pair in chosen:
        table.add_row(*line(by_photo_and_set[pair]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
