"""What it is worth that each window chooses its own split: the exact product against fixed splits, on real photos.

The six shipped photos with the gradients of the shipped classifier. After the lines of single solves come tables of
what WindowSSIM, a set inside that of ProductSSIM, gives away.

OMP_NUM_THREADS=1 python -m benchmarks.product_ssim --size 64            # tiles and overlapping windows
OMP_NUM_THREADS=1 python -m benchmarks.product_ssim --size 224 --gap 1e-2
OMP_NUM_THREADS=1 python -m benchmarks.product_ssim --margins            # margins of ten steps of perturb on tiles
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

import solvers
import ssimpert
from benchmarks.real_problems import PHOTOS, classifier, linear_problem, pin_threads
from benchmarks.script_options import script_parser
from solvers.constraints import Constraint

FIXED_LUMINANCES: tuple[Any, ...] = (1e-3, 1e-2, "split")


def sets_of(threshold: float, window: solvers.Window) -> dict[str, Constraint]:
    """ProductSSIM, and WindowSSIM at each fixed split, by name."""
    fixed = {f"luminance {entry}": solvers.WindowSSIM(threshold, window, luminance=entry) for entry in FIXED_LUMINANCES}
    return {"product": solvers.ProductSSIM(threshold, window), **fixed}


def linear(photo: str, size: int, threshold: float, window: solvers.Window, gap: float) -> dict[str, float]:
    """The optima of one photo's linear problem by name of the set. Each is printed with its certified gap, seconds and
    mean |d|.

    Args:
        photo: a sample's name.
        size: side of the central crop in pixels.
        threshold: the SSIM that the windows must have.
        window: the windows.
        gap: the certified relative gap that is asked for.
    """
    objectives: dict[str, float] = {}
    for name, constraint in sets_of(threshold, window).items():
        problem = linear_problem(photo, [constraint, solvers.Box()], size)
        began = time.perf_counter()
        result = solvers.solve(problem, settings=solvers.Settings(eps_rel=gap, max_iter=1000))
        seconds = time.perf_counter() - began
        objectives[name] = float(result.objective)
        gain = objectives["product"] / objectives[name] - 1
        mean = float(torch.as_tensor(result.delta).abs().mean())
        print(
            f"{photo:10s} {size} t={threshold} {window.size}/{window.stride} {name:16s} "
            f"{objectives[name]:10.4f} "
            f"gap {float(result.rel_gap):.1e}  {seconds:6.2f} s  product +{100 * gain:5.2f}%  "
            f"mean |d| {mean:.4f}",
            flush=True,
        )
    return objectives


def print_shares(title: str, objectives: dict[str, dict[str, float]]) -> None:
    """Print the share of the product's objective that each fixed split reaches.

    Args:
        title: what stands over the table.
        objectives: of each photo, by name of the set.
    """
    fixed = [f"luminance {entry}" for entry in FIXED_LUMINANCES]
    shares = {photo: [row[name] / row["product"] for name in fixed] for photo, row in objectives.items()}
    medians = [statistics.median(column) for column in zip(*shares.values(), strict=True)]
    print(f"\n{title}\n\n| photo | product | {' | '.join(fixed)} |\n|{'---|' * (len(fixed) + 2)}")
    for photo, row in shares.items():
        print(f"| {photo} | {objectives[photo]['product']:.2f} | {' | '.join(f'{share:.1%}' for share in row)} |")
    print(f"| median | | {' | '.join(f'{share:.1%}' for share in medians)} |\n", flush=True)


def margins(photo: str, threshold: float, window: solvers.Window) -> None:
    """Print, for each set, the margin in logits that ten steps of the default engine gain."""
    model = classifier()
    image = ssimpert.load_image(photo, size=model.input_size)
    for name, constraint in sets_of(threshold, window).items():
        result = ssimpert.perturb(model, image, constraint, steps=10, stop_at_success=False)
        print(
            f"{photo:10s} t={threshold} {window.size}/{window.stride} {name:16s} "
            f"gained {float(result.margin_after - result.margin_before):6.2f}  mean SSIM {float(result.ssim):.4f}  "
            f"{result.seconds:6.1f} s",
            flush=True,
        )


def main() -> None:
    """Print the lines of all photos, thresholds and windows."""
    parser = script_parser(__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--photos", nargs="+", default=PHOTOS)
    parser.add_argument("--thresholds", nargs="+", type=float, default=[0.95])
    parser.add_argument("--windows", choices=("tiles", "overlapping", "both"), default="both")
    parser.add_argument(
        "--gap", type=float, default=1e-3, help="the gap asked for on overlapping windows; on tiles it is 1e-6"
    )
    parser.add_argument("--margins", action="store_true")
    options = parser.parse_args()
    pin_threads()
    tiles, overlapping = solvers.Window.uniform(8, stride=8), solvers.Window.uniform(7)
    windows = {"tiles": [(tiles, 1e-6)], "overlapping": [(overlapping, options.gap)]}
    windows["both"] = windows["tiles"] + windows["overlapping"]
    for threshold in options.thresholds:
        if options.margins:
            for photo in options.photos:
                margins(photo, threshold, tiles)
            continue
        for window, gap in windows[options.windows]:
            objectives = {photo: linear(photo, options.size, threshold, window, gap) for photo in options.photos}
            title = f"{options.size}x{options.size}, threshold {threshold}, windows {window.size}/{window.stride}"
            print_shares(title, objectives)


if __name__ == "__main__":
    main()
