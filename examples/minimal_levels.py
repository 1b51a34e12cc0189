"""Is the level that `minimal_budget` finds the least one? Against a fine grid of levels, and against foolbox.

Run with `python examples/minimal_levels.py` (needs the extra `baselines`). For each photo and set it finds the least
level that changes the decision. Then it tries levels below it one by one, from the clean image, with `perturb` and
twice the steps: the least of them that succeeds should not be more than a hundredth below. The grid is no proof, it can
be beaten: where its climbs fail even at the level found, it says so. For l2, the norms of DDN and FMN, with at least as
many gradients, stand beside. `--photos coffee --sets l2` shows that it runs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

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
# Of the level found: coarse far below it, fine near it.
GRID = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, *(0.92 + 0.005 * k for k in range(17))]
STEPS = 10


def arguments() -> argparse.Namespace:
    photos = ",".join(sample.name for sample in ssimpert.samples() if sample.kind == "photo")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", default=photos, help=f"comma-separated names (default {photos})")
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated names (default all)")
    return parser.parse_args()


def least_on_grid(
    model: ssimpert.Classifier, image: Tensor, rule: Callable[[float], Constraint], found: ssimpert.MinimalBudgetResult
) -> float:
    """The least level of the grid around the one found at which the decision changes, from the clean image, climbing
    towards any class or towards the one that was found; NaN for none."""
    own = found.label_before
    for factor in GRID:
        level = factor * float(found.level)
        for aim, label in ((ssimpert.Untargeted(), own), (LabelWins(), found.label_after)):
            result = ssimpert.perturb(
                model, image, rule(level), margin=aim, label=label, steps=2 * STEPS, settings={"eps_rel": 1e-3}
            )
            if int(result.label_after) != int(own):
                return level
    return float("nan")


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    columns = ("photo", "set", "level found", "least on the grid", "ratio", "gradients", "DDN", "FMN")
    table = Table(*columns, title="least level that changes the decision")
    for name in options.photos.split(","):
        image = ssimpert.load_image(name, size=model.input_size)
        for kind in options.sets.split(","):
            template, rule = SETS[kind]
            found = ssimpert.minimal_budget(model, image, template, steps=STEPS)
            grid = least_on_grid(model, image, rule, found)
            least = (
                ("none", "the grid found none")
                if math.isnan(grid)
                else (f"{grid:.4g}", f"{float(found.level) / grid:.4f}")
            )
            row = [name, kind, f"{float(found.level):.4g}", *least]
            row.append(f"{int(found.steps)} + 10")
            if kind == "l2":
                for attack in ("ddn", "fmn"):
                    rival = ssimpert.foolbox_baseline(model, image, attack, steps=max(100, int(found.steps) + 10))  # type: ignore[arg-type]
                    norm = float(rival.delta.double().norm())
                    row.append(f"{norm:.4g}" if bool(rival.success) else "fails")
            table.add_row(*row)
            print(" | ".join(row), flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
