"""Is the level that `minimal_budget` finds the least one? Against a fine grid of levels, and against foolbox.

Run with `python examples/minimal_levels.py` (needs the extra `baselines`). For each photo and set it finds the least
level that changes the decision. Then it tries levels below it one by one, from the clean image, with `perturb` and
twice the steps, towards any class and towards the one that was found: the least of them that succeeds should not be
more than a hundredth below. The grid is no proof, it can be beaten: where its climbs fail even at the level found, it
says so. For l2, the norms of DDN and FMN, with at least as many gradients, stand beside. `--photos coffee --sets l2`
shows that it runs; `--json FILE` keeps what is done, from where a second run goes on; `--jobs 2` fills two cores.
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
from solvers.constraints import Constraint
from ssimpert.linearization import LabelWins

TILES = solvers.Window.uniform(8, stride=8)
PUBLISHED = solvers.Window.gaussian(1.5, 11, border="valid")
SETS: dict[str, tuple[Constraint, Callable[[float], Constraint]]] = {
    "l2": (solvers.LpBall(2, 0.1), lambda level: solvers.LpBall(2, level)),
    "linf": (solvers.LpBall(torch.inf, 1 / 255), lambda level: solvers.LpBall(torch.inf, level)),
    "GlobalSSIM": (solvers.GlobalSSIM(0.005), solvers.GlobalSSIM),
    "WindowSSIM tiles": (
        # A numeric luminance bound keeps its share of the level: here that of the default at 0.95.
        solvers.WindowSSIM(0.999, TILES, luminance=0.02 * 0.001),
        lambda level: solvers.WindowSSIM(1 - level, TILES, luminance=0.02 * level),
    ),
    "MeanSSIM": (solvers.MeanSSIM(0.999, PUBLISHED), lambda level: solvers.MeanSSIM(1 - level, PUBLISHED)),
}
# Shares of the level found: coarse far from it, fine near it.
GRID = (
    *(0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 1.0),
    *(1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0),
)
STEPS = 10
Record = dict[str, Any]


def arguments() -> argparse.Namespace:
    photos = ",".join(sample.name for sample in ssimpert.samples() if sample.kind == "photo")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", default=photos, help=f"comma-separated names (default {photos})")
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated names (default all)")
    parser.add_argument("--jobs", type=int, default=1, help="lines at a time, a thread each (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every line's figures, and go on from there")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    if unknown := set(options.sets.split(",")) - set(SETS):
        parser.error(f"--sets: {', '.join(sorted(unknown))} is none of {', '.join(SETS)}")
    return options


def least_on_grid(
    model: ssimpert.Classifier, image: Tensor, rule: Callable[[float], Constraint], found: ssimpert.MinimalBudgetResult
) -> float | None:
    """The least share of the level found at which the decision changes, from the clean image, climbing towards any
    class or towards the one that was found; ``None`` where the grid has none."""
    own = found.label_before
    for share in GRID:
        limit = rule(share * float(found.level))
        for aim, label in ((ssimpert.Untargeted(), own), (LabelWins(), found.label_after)):
            result = ssimpert.perturb(
                model, image, limit, margin=aim, label=label, steps=2 * STEPS, settings={"eps_rel": 1e-3}
            )
            if int(result.label_after) != int(own):
                return share
    return None


def entry(photo_and_set: tuple[str, str]) -> Record:
    """One photo in one set, on one thread."""
    torch.set_num_threads(1)
    photo, kind = photo_and_set
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    image = ssimpert.load_image(photo, size=model.input_size)
    template, rule = SETS[kind]
    found = ssimpert.minimal_budget(model, image, template, steps=STEPS)
    gradients = int(found.steps) + 10  # ten to choose the class
    record: Record = {"photo": photo, "set": kind, "level": float(found.level), "gradients": gradients}
    for attack in ("ddn", "fmn") if kind == "l2" else ():
        rival = ssimpert.foolbox_baseline(model, image, attack, steps=max(100, gradients))
        record[attack] = float(rival.delta.double().norm()) if bool(rival.success) else None
    return record | {"share": least_on_grid(model, image, rule, found)}


def line(record: Record) -> list[str]:
    """A line of the table."""
    share = record["share"]
    norms = [f"{record[a]:.4g}" if record.get(a) else "fails" if a in record else "" for a in ("ddn", "fmn")]
    least = ["none", f"< {1 / GRID[-1]}"] if share is None else [f"{share * record['level']:.4g}", f"{1 / share:.4f}"]
    return [record["photo"], record["set"], f"{record['level']:.4g}", *least, str(record["gradients"]), *norms]


def main() -> None:
    options = arguments()
    records: list[Record] = []
    if options.json is not None and options.json.exists():
        records = json.loads(options.json.read_text(encoding="utf-8"))
    known = {(record["photo"], record["set"]) for record in records}
    chosen = [(photo, kind) for kind in options.sets.split(",") for photo in options.photos.split(",")]
    # Spawned, not forked: a fork would take over torch's threads.
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for record in pool.imap_unordered(entry, [one for one in chosen if one not in known]):
            records.append(record)
            if options.json is not None:
                options.json.write_text(json.dumps(records), encoding="utf-8")
            print(" | ".join(line(record)), flush=True)
    found = {(record["photo"], record["set"]): record for record in records}
    columns = ("photo", "set", "level found", "least on the grid", "ratio", "gradients", "DDN", "FMN")
    table = Table(*columns, title="least level that changes the decision")
    for one in chosen:
        table.add_row(*line(found[one]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
