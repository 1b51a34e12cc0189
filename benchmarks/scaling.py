"""How ``dual`` scales with size and batch, and what a warm start saves. Run with ``python -m benchmarks.scaling``.

The cost is that of a fixed number of iterations, with checks, so that it does not depend on how difficult an image is.
With ``--record`` the script replaces benchmarks/results/scaling.json and docs/images/scaling.png.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import solvers
from benchmarks.machine import machine
from benchmarks.real_problems import PHOTOS, linear_problem, photo_and_gradient, pin_threads
from benchmarks.script_options import ROOT, output_path, script_parser, write_record

SIZES = (64, 96, 128, 192, 224, 320, 448)
BATCHES = (1, 2, 4, 8, 16)
ITERATIONS = 50
REPEATS = 3
CHANGE = 0.05
SETS = [solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), solvers.Box(0.0, 1.0)]


def seconds_of(reference: torch.Tensor, gradient: torch.Tensor) -> float:
    """Median seconds of ITERATIONS iterations in float32, for images and gradients (B, C, H, W)."""
    problem = solvers.LinearProblem(gradient.float(), reference.float(), SETS)
    settings = solvers.Settings(eps_rel=1e-12, max_iter=ITERATIONS)
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        solvers.solve(problem, "dual", settings)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def mirrored(image: torch.Tensor, size: int) -> torch.Tensor:
    """The photo continued by its mirror images, cut to ``size``. Unlike a resized photo, this one keeps its detail."""
    twice = torch.cat([image, image.flip(-1)], dim=-1)
    return torch.cat([twice, twice.flip(-2)], dim=-2)[..., :size, :size].contiguous()


def by_size() -> list[float]:
    """Seconds at each of SIZES, for one image."""
    reference, gradient = photo_and_gradient("chelsea")
    return [seconds_of(mirrored(reference, size), mirrored(gradient, size)) for size in SIZES]


def by_batch(size: int = 128) -> tuple[list[float], list[float]]:
    """Seconds at each of BATCHES, for different images, and the sum of the same images' seconds one by one."""
    pairs = [photo_and_gradient(name) for name in PHOTOS]
    pairs += [(x.flip(-1), g.flip(-1)) for x, g in pairs] + [(x.flip(-2), g.flip(-2)) for x, g in pairs]
    references = torch.cat([x[..., :size, :size] for x, _ in pairs])[: max(BATCHES)]
    gradients = torch.cat([g[..., :size, :size] for _, g in pairs])[: max(BATCHES)]
    singles = [seconds_of(references[k : k + 1], gradients[k : k + 1]) for k in range(max(BATCHES))]
    batch_seconds = [seconds_of(references[:count], gradients[:count]) for count in BATCHES]
    return batch_seconds, [sum(singles[:count]) for count in BATCHES]


def affine(seconds: list[float]) -> tuple[float, float]:
    """Seconds of a call at any size, and seconds for each pixel of a channel, by least squares of relative errors."""
    pixels = torch.tensor([float(size * size) for size in SIZES], dtype=torch.float64)
    times = torch.tensor(seconds, dtype=torch.float64)
    columns = torch.stack([1 / times, pixels / times], dim=1)
    fixed, slope = torch.linalg.lstsq(columns, torch.ones(len(times), 1, dtype=torch.float64)).solution[:, 0].tolist()
    return fixed, slope


def warm_start(size: int = 128) -> list[dict[str, Any]]:
    """For each photo, iterations from scratch and from the solution at a gradient that differs by CHANGE."""
    rows = []
    settings = solvers.Settings(eps_rel=1e-2, check_interval=2)
    for k, photo in enumerate(PHOTOS):
        problem = linear_problem(photo, SETS, size=size)
        other = linear_problem(PHOTOS[k - 1], SETS, size=size).gradient
        change = CHANGE * problem.gradient.norm() / other.norm() * other
        changed_problem = solvers.LinearProblem(problem.gradient + change, problem.reference, SETS)
        before = solvers.solve(problem, "dual", settings)
        cold = solvers.solve(changed_problem, "dual", settings)
        warm = solvers.solve(changed_problem, "dual", settings, warm_start=before)
        rows.append({"photo": photo, "cold": cold.iterations[0], "warm": warm.iterations[0]})
    return rows


def plot(sizes: list[float], batches: list[float], target: Path) -> None:
    """Draw seconds against pixels and against batch, with lines of proportional cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    for axes, counts, times, label in (
        (left, [s * s for s in SIZES], sizes, "pixels a channel"),
        (right, list(BATCHES), batches, "images of 128x128"),
    ):
        slope = times[-1] / counts[-1]
        axes.loglog(counts, [slope * count for count in counts], "--", color="gray", label="proportional")
        axes.loglog(counts, times, "o-", label=f"{ITERATIONS} iterations")
        axes.set(xlabel=label, ylabel="seconds")
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=120)
    plt.close(figure)


def main(*, record: bool = False) -> dict[str, Any]:
    """Measure, print, draw and write; return the record."""
    pin_threads()
    seconds_of(*(mirrored(part, 64) for part in photo_and_gradient("chelsea")))  # compiles
    sizes, (batches, singles), warm = by_size(), by_batch(), warm_start()
    per_pixel = [1e6 * value / (ITERATIONS * 3 * size * size) for value, size in zip(sizes, SIZES, strict=True)]
    per_image = [value / count for value, count in zip(batches, BATCHES, strict=True)]
    fixed, slope = affine(sizes)
    saved = statistics.median(row["warm"] / row["cold"] for row in warm)
    document = {
        "benchmark": f"dual, 7x7 stride 1, {ITERATIONS} iterations; warm start to 1e-2 after a change of {CHANGE:g}",
        "machine": machine(),
        "sizes": dict(zip(map(str, SIZES), sizes, strict=True)),
        "microseconds_a_pixel_and_iteration": dict(zip(map(str, SIZES), per_pixel, strict=True)),
        "fit_seconds": f"{fixed:.3f} + {1e6 * slope:.2f}e-6 a pixel",
        "over_fit": {
            str(size): value / (fixed + slope * size * size) for size, value in zip(SIZES, sizes, strict=True)
        },
        "batches": dict(zip(map(str, BATCHES), batches, strict=True)),
        "batches_over_their_images_one_by_one": {
            str(count): value / single for count, value, single in zip(BATCHES, batches, singles, strict=True)
        },
        "seconds_an_image": dict(zip(map(str, BATCHES), per_image, strict=True)),
        "warm_start": warm,
        "warm_over_cold_median": saved,
    }
    console = Console(width=120)
    for key, value in document.items():
        console.print(key, value)
    plot(sizes, batches, output_path(ROOT / "docs" / "images" / "scaling.png", record=record))
    write_record("scaling", document, record=record)
    return document


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
