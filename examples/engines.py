"""Which engine for which set? Success, margin gained and SSIM for every engine on photos and composites.

Run with `python examples/engines.py`; prints the table, and writes every image's figures to `--json FILE` after each
cell, from where a second run goes on. `--sets l2,linf --images 3 --steps 2` shows that it runs.

All engines keep every iterate in the set around the original image. A step is one linearisation and one solve. Seconds
are those of the CPU, so that other work on the machine counts little; with `--device cuda` they are those of the wall,
and `--batch 30` fills the device better.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import solvers
import ssimpert
from solvers.constraints import Constraint

FEATURES = "FeatureBall in l2"
# A feature ball alone in the pixel box has flat directions without end, and linear optima that no iteration reaches.
FEATURE_RADIUS, AROUND_FEATURES = 0.3, solvers.LpBall(2, 0.5)
SETS: dict[str, Constraint | None] = {
    "l2": solvers.LpBall(2, 1.0),
    "linf": solvers.LpBall(torch.inf, 2 / 255),
    "GlobalSSIM": solvers.GlobalSSIM(0.02),
    "tiles 8": solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8)),
    "tiles 8 split": solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8), luminance="split"),
    "tiles 8 1e-2": solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8), luminance=1e-2),
    "tiles 8 preserve": solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8), luminance="preserve"),
    "uniform 7": solvers.WindowSSIM(0.95, solvers.Window.uniform(7)),
    "Gaussian 11": solvers.WindowSSIM(0.95, solvers.Window.gaussian(1.5, 11)),
    "MeanSSIM": solvers.MeanSSIM(0.98, solvers.Window.gaussian(1.5, 11, border="valid")),
    FEATURES: None,  # made of the images themselves
}
Record = dict[str, Any]
ENGINES = ("sequential_convex", "frank_wolfe", "projected_gradient")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated names (default all)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated names (default all)")
    parser.add_argument("--images", type=int, default=30, help="the samples' photos, then composites (default 30)")
    parser.add_argument("--steps", type=int, default=20, help="most linearisations an image (default 20)")
    parser.add_argument("--eps", type=float, default=1e-2, help="certified gap of the last solves (default 1e-2)")
    parser.add_argument("--device", default="cpu", help="cpu (default, one thread), cuda or cuda:N")
    parser.add_argument("--batch", type=int, default=6, help="images that go together (default 6)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every image's figures, and go on from there")
    return parser.parse_args()


def images(count: int, model: ssimpert.Classifier) -> Tensor:
    """The photos among the samples, then composites."""
    photos = [sample.name for sample in ssimpert.samples() if sample.kind == "photo"][:count]
    batch = [ssimpert.load_image(name, size=model.input_size) for name in photos]
    if count > len(photos):
        # The figures in docs/notes/engines.md were made with these three, as rectangles.
        batch.append(
            ssimpert.composites(
                count - len(photos), 0, model, objects=("chelsea", "coffee", "camera"), cut_out=False
            ).images
        )
    return torch.cat(batch).to(next(model.parameters()).device)


def set_of(name: str, model: ssimpert.Classifier, images: Tensor) -> Constraint:
    known = SETS[name]
    if known is not None:
        return known
    jacobian = ssimpert.feature_jacobian(ssimpert.deep_features(model), images)
    return solvers.Intersection([solvers.FeatureBall(FEATURE_RADIUS, jacobian), AROUND_FEATURES])


def cell(model: ssimpert.Classifier, parts: Sequence[Tensor], name: str, engine: Any, steps: int, eps: float) -> Record:
    """One set by one engine over all images, part by part."""
    # A bound on what a step within feature balls may cost; the steps of the tables end before it.
    settings = {"eps_rel": eps} | ({"max_iter": 100} if name == FEATURES else {})
    clock = time.perf_counter if parts[0].is_cuda else time.process_time
    began = clock()
    rows: list[dict[str, Any]] = []
    for part in parts:
        result = ssimpert.perturb(
            model, part, set_of(name, model, part), engine=engine, steps=steps, stop_at_success=False, settings=settings
        )
        rows += [row | {"image": len(rows) + int(row["image"])} for row in result.rows()]
    return {
        "set": name, "engine": engine, "steps": steps, "eps": eps, "seconds": clock() - began, "rows": rows,
        "device": torch.cuda.get_device_name() if parts[0].is_cuda else "cpu",
    }  # fmt: skip


def summary(record: Record) -> list[str]:
    """A line of the table."""
    rows = record["rows"]
    gained = [row["margin_after"] - row["margin_before"] for row in rows]
    return [
        record["set"],
        record["engine"],
        f"{sum(row['success'] for row in rows)}/{len(rows)}",
        f"{median(gained):.1f}",
        f"{sum(row['ssim'] for row in rows) / len(rows):.4f}",
        f"{min(row['min_window_ssim'] for row in rows):.3f}",
        f"{max(row['violation'] for row in rows):.0e}",
        f"{record['seconds'] / len(rows):.1f}",
    ]


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0", device=options.device)
    batch = images(options.images, model)
    records: list[Record] = []
    if options.json is not None and options.json.exists():
        records = json.loads(options.json.read_text(encoding="utf-8"))
    for name in options.sets.split(","):
        for engine in options.engines.split(","):
            wanted = {"set": name, "engine": engine, "steps": options.steps, "eps": options.eps}
            known = [r for r in records if wanted.items() <= r.items() and len(r["rows"]) == len(batch)]
            if not known:
                records.append(cell(model, batch.split(options.batch), name, engine, options.steps, options.eps))
                if options.json is not None:
                    options.json.write_text(json.dumps(records), encoding="utf-8")
            print(" | ".join(summary((known or records)[-1])), flush=True)
    columns = ("set", "engine", "success", "margin gained", "mean SSIM", "least window", "violation", "s an image")
    table = Table(*columns, title=f"{len(batch)} images, {options.steps} steps, {options.device}")
    for record in records:
        table.add_row(*summary(record))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
