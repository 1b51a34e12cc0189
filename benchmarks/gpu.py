"""Images in a second by ``dual`` on a GPU: photos and composites at 3x224x224, windows at stride 1, to a certified gap.

Run with ``python -m benchmarks.gpu`` where there is a CUDA device; ``--profile`` prints the kernels that take longest.
Times are medians of five runs after one run that compiles. Set-up and certificates in float64 are part of every run.
With ``--record`` the script replaces benchmarks/results/gpu.json.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from rich.console import Console

import solvers
import ssimpert
from benchmarks.machine import machine
from benchmarks.real_problems import PHOTOS, pin_threads
from benchmarks.script_options import script_parser, write_record

TITLE = "dual at 3x224x224, stride 1, threshold 0.95, box"
BATCHES = (64, 16, 1)
WINDOWS = {"7x7": solvers.Window.uniform(7), "Gaussian 11x11": solvers.Window.gaussian()}
GAPS = (1e-2, 1e-3)


def images_and_gradients(count: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The photos, then composites, (count, 3, S, S), and the gradients of their untargeted margins, in float32."""
    model = ssimpert.load_model("efficientnet-lite0", device=device)
    photos = [ssimpert.load_image(name, size=model.input_size) for name in PHOTOS]
    images = torch.cat([*photos, ssimpert.composites(count - len(photos), 0, model).images.cpu()])[:count].to(device)
    gradient = ssimpert.linearize(model, images, model.predict(images), ssimpert.Untargeted()).gradient
    return images, gradient


def solved(problem: solvers.LinearProblem, eps: float, limit: float) -> tuple[float, solvers.SolveResult]:
    """Seconds until the result is available, and the result."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    result = solvers.solve(problem, "dual", solvers.Settings(eps_rel=eps, time_limit=limit))
    torch.cuda.synchronize()
    return time.perf_counter() - began, result


def measure(problem: solvers.LinearProblem, eps: float, limit: float, repeats: int) -> dict[str, Any]:
    """Median seconds, images in a second, and the certified gaps and iterations of the images."""
    torch.cuda.reset_peak_memory_stats()
    runs = [solved(problem, eps, limit) for _ in range(repeats)]
    seconds = statistics.median(run[0] for run in runs)
    result = runs[-1][1]
    return {
        "batch": problem.batch,
        "gap": eps,
        "seconds": seconds,
        "spread": [min(run[0] for run in runs), max(run[0] for run in runs)],
        "images_a_second": problem.batch / seconds,
        "optimal": sum(status.is_optimal for status in result.status),
        "iterations": [statistics.median(result.iterations), max(result.iterations)],
        "largest_gap": float(torch.as_tensor(result.rel_gap).max()),
        "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
    }


def profile(problem: solvers.LinearProblem, limit: float) -> None:
    """Print the kernels of one run, ordered by their time on the device."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recording

    with recording(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as run:
        seconds, _ = solved(problem, 1e-2, limit)
    print(f"{seconds:.2f} s with the profiler")
    print(run.key_averages().table(sort_by="cuda_time_total", row_limit=25, max_name_column_width=60))


def main() -> None:
    """Measure, print and write."""
    parser = script_parser(__doc__, records=True)
    parser.add_argument("--device", default="cuda", help="cuda (default) or cuda:N")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds after which a run ends (default 30)")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median counts (default 5)")
    parser.add_argument("--profile", action="store_true", help="print the kernels of one run instead")
    options = parser.parse_args()
    pin_threads()
    images, gradient = images_and_gradients(max(BATCHES), options.device)
    rows: list[dict[str, Any]] = []
    for name, window in WINDOWS.items():
        sets = [solvers.WindowSSIM(0.95, window), solvers.Box(0.0, 1.0)]
        solved(solvers.LinearProblem(gradient[:4], images[:4], sets), 1e-2, options.limit)  # loads and compiles
        for batch in BATCHES:
            problem = solvers.LinearProblem(gradient[:batch], images[:batch], sets)
            if options.profile:
                if batch == max(BATCHES):
                    profile(problem, options.limit)
                continue
            for eps in GAPS if batch != 16 else GAPS[:1]:
                rows.append({"window": name, **measure(problem, eps, options.limit, options.repeats)})
                Console(width=160).print(rows[-1])
                document = {"benchmark": TITLE, "machine": machine(), "rows": rows}
                write_record("gpu", document, record=False)
    if options.record and rows:
        write_record("gpu", document, record=True)


if __name__ == "__main__":
    main()
