"""Which engine for which set? Success, margin gained and SSIM for every engine on photos and composites.

Run with `python -m examples.engines`. The script prints the table. `--write docs/notes/engines.md` also puts the table
into that page. `--json FILE` keeps every image's figures, so that a second run can continue. `--jobs 2` uses two cores.
`--sets l2,linf --images 3 --steps 2` is a quick trial.

All engines keep every iterate in the set around the original image. A step is one linearisation and one solve. Seconds
are CPU time, so that other work on the machine counts little. With `--device cuda` they are wall time, and `--batch 30`
uses the device better.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import solvers
import ssimpert
from benchmarks.script_options import script_parser
from solvers.constraints import Constraint

FEATURES = "FeatureBall in l2"
# A feature ball with only the pixel box has long flat directions, and linear optima that no iteration reaches. So there
# is an l2 ball, too.
FEATURE_RADIUS, BALL_BESIDE_FEATURES = 0.3, solvers.LpBall(2, 0.5)
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
    FEATURES: None,  # depends on the images; set_of makes it
}
ENGINES = ("sequential_convex", "frank_wolfe", "projected_gradient")
COLUMNS = ("set", "engine", "success", "margin gained", "mean SSIM", "least window", "violation", "s an image")
Record = dict[str, Any]


class Task(NamedTuple):
    """A part of a cell of the table: one engine in one set, on ``size`` of the ``images``, beginning at ``first``."""

    set: str
    engine: str
    steps: int
    eps: float
    device: str
    images: int
    first: int
    size: int


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated names (default all)")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated names (default all)")
    parser.add_argument(
        "--images", type=int, default=30, help="the number of images: photos, then composites (default 30)"
    )
    parser.add_argument("--steps", type=int, default=20, help="the largest number of steps for each image (default 20)")
    parser.add_argument("--eps", type=float, default=1e-2, help="the certified gap of the last solves (default 1e-2)")
    parser.add_argument("--device", default="cpu", help="cpu (default, one thread), cuda or cuda:N")
    parser.add_argument("--batch", type=int, default=6, help="the number of images in a batch (default 6)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="the number of processes, a thread each; cpu only (default 1)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every image's figures, and continue from there"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks in this page")
    options = parser.parse_args()
    for name in ("images", "steps", "batch", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}")
    for name, valid_names in (("sets", tuple(SETS)), ("engines", ENGINES)):
        if unknown := set(getattr(options, name).split(",")) - set(valid_names):
            parser.error(f"--{name}: {', '.join(sorted(unknown))} is none of {', '.join(valid_names)}")
    if options.jobs > 1 and options.device != "cpu":
        parser.error(f"--jobs {options.jobs} is for --device cpu; on {options.device} a larger --batch does more")
    return options


def images(count: int, model: ssimpert.Classifier) -> Tensor:
    """The sample photos, then composites, (count, 3, S, S) on the model's device."""
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
    """The constraint set called ``name``, for ``images``."""
    constraint = SETS[name]
    if constraint is not None:
        return constraint
    jacobian = ssimpert.feature_jacobian(ssimpert.deep_features(model), images)
    return solvers.Intersection([solvers.FeatureBall(FEATURE_RADIUS, jacobian), BALL_BESIDE_FEATURES])


@cache
def model_and_images(device: str, count: int) -> tuple[ssimpert.Classifier, Tensor]:
    """The model and all images, loaded once in each process."""
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0", device=device)
    return model, images(count, model)


def run_task(task: Task) -> Record:
    """Run one engine in one set on one part of the images."""
    model, batch = model_and_images(task.device, task.images)
    part = batch[task.first : task.first + task.size]
    # This bounds the cost of a step within feature balls. The steps behind the table end before this bound.
    settings = {"eps_rel": task.eps} | ({"max_iter": 100} if task.set == FEATURES else {})
    clock = time.perf_counter if part.is_cuda else time.process_time
    began = clock()
    engine: Any = task.engine
    constraint = set_of(task.set, model, part)
    result = ssimpert.perturb(
        model, part, constraint, engine=engine, steps=task.steps, stop_at_success=False, settings=settings
    )
    rows = [row | {"image": task.first + int(row["image"])} for row in result.rows()]
    return task._asdict() | {"seconds": clock() - began, "rows": rows}


def tasks(options: argparse.Namespace) -> list[Task]:
    """All parts of all cells. Features are linearised image by image, since their Jacobians need much memory."""
    return [
        Task(name, engine, options.steps, options.eps, options.device, options.images, first, size)
        for name in options.sets.split(",")
        for engine in options.engines.split(",")
        for size in [1 if name == FEATURES and options.device == "cpu" else min(options.batch, options.images)]
        for first in range(0, options.images, size)
    ]


@contextmanager
def workers(jobs: int) -> Iterator[Any]:
    """``imap`` over ``jobs`` processes, or ``map`` in this process for a single job."""
    if jobs == 1:
        yield map
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield pool.imap_unordered


def summary(name: str, engine: str, records: list[Record]) -> list[str]:
    """A row of the table: medians and means over the images of all parts."""
    rows = [row for record in records for row in record["rows"]]
    gained = [row["margin_after"] - row["margin_before"] for row in rows]
    return [
        name,
        engine,
        f"{sum(row['success'] for row in rows)}/{len(rows)}",
        f"{median(gained):.1f}",
        f"{sum(row['ssim'] for row in rows) / len(rows):.4f}",
        f"{min(row['min_window_ssim'] for row in rows):.3f}",
        f"{max(row['violation'] for row in rows):.0e}",
        f"{sum(record['seconds'] for record in records) / len(rows):.2f}",
    ]


def markdown(lines: list[list[str]]) -> str:
    """The table for a page; the largest gain of each set is bold."""
    largest_gain = {name: max(float(line[3]) for line in lines if line[0] == name) for name, *_ in lines}
    text = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for line in lines:
        gain = f"**{line[3]}**" if float(line[3]) == largest_gain[line[0]] else line[3]
        text.append(f"| {' | '.join([*line[:3], gain, *line[4:]])} |")
    return "\n".join(text) + "\n"


def fill(page: Path, table: str) -> None:
    """Put the table between ``<!-- engines -->`` and ``<!-- end -->``."""
    head, mark, tail = page.read_text(encoding="utf-8").partition("<!-- engines -->\n")
    if not mark:
        raise SystemExit(f"{page} has no mark <!-- engines -->")
    page.write_text(head + mark + table + tail[tail.index("<!-- end -->") :], encoding="utf-8")


def main() -> None:
    """Run all tasks that are not on file, then print and write the table."""
    options = arguments()
    all_tasks = tasks(options)
    records: dict[Task, Record] = {}
    if options.json is not None and options.json.exists():
        for record in json.loads(options.json.read_text(encoding="utf-8")):
            records[Task(*(record[field] for field in Task._fields))] = record
    # The costly sets are last in the list. They are begun first, so that no core is idle at the end.
    missing = [task for task in reversed(all_tasks) if task not in records]
    with workers(min(options.jobs, max(1, len(missing)))) as each:
        for record in each(run_task, missing):
            task = Task(*(record[field] for field in Task._fields))
            records[task] = record
            if options.json is not None:
                options.json.write_text(json.dumps(list(records.values())), encoding="utf-8")
            last = task.first + len(record["rows"]) - 1
            print(f"{task.set}, {task.engine}, images {task.first} to {last}: {record['seconds']:.0f} s", flush=True)
    lines = [
        summary(*cell, [records[task] for task in all_tasks if (task.set, task.engine) == cell])
        for cell in dict.fromkeys((task.set, task.engine) for task in all_tasks)
    ]
    table = Table(*COLUMNS, title=f"{options.images} images, {options.steps} steps, {options.device}")
    for line in lines:
        table.add_row(*line)
    Console(width=120).print(table)
    if options.write is not None:
        fill(options.write, markdown(lines))


if __name__ == "__main__":
    main()
