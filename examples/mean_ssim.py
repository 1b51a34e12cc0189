"""How much more margin does a constraint on the mean SSIM buy than an l2 attack scaled to the same mean SSIM?

Run with `python -m examples.mean_ssim` (needs the extra `baselines`). The images are composites. Each engine raises the
margin within `MeanSSIM` with the window of the published index. The rivals are foolbox's l2-PGD (cross-entropy, 40
steps) and l2 ascent of the same margin by our own engine; their results are scaled to exactly the mean SSIM of ours,
image by image. The script prints medians of the margins gained and of the ratios. `--images 2 --steps 2` is a quick
trial.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import solvers
import ssimpert
from benchmarks.script_options import script_parser
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.baselines.matching import rescale, ssim_size

PUBLISHED = solvers.Window.gaussian(1.5, 11, border="valid")
ENGINES = ("sequential_convex", "projected_gradient", "frank_wolfe")
BATCH = 6


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--images", type=int, default=24, help="the number of composites (default 24)")
    parser.add_argument("--steps", type=int, default=10, help="the number of steps of our engines (default 10)")
    parser.add_argument("--threshold", type=float, default=0.98, help="the least mean SSIM (default 0.98)")
    return parser.parse_args()


def ascent_of_same_ssim(
    model: ssimpert.Classifier, images: Tensor, result: ssimpert.PerturbResult, steps: int
) -> list[float]:
    """Margins gained by l2 ascent of the same margin with ``steps`` steps, scaled to the mean SSIM of ``result``."""
    radius = result.delta.double().flatten(1).norm(dim=1)
    ascent = ssimpert.perturb(model, images, solvers.LpBall(2, radius), steps=steps, stop_at_success=False)
    clean = images.double()
    target = ssim_size(clean, result.adversarial.double())
    scaled, _ = rescale(clean, ascent.delta.double(), ssim_size, target, tolerance=1e-6)
    margin = result.margin(forward(model, scaled.to(images.dtype)), result.label)
    return (margin - result.margin_before).tolist()


def main() -> None:
    """Run all engines and rivals, and print the table."""
    options = arguments()
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    batch = ssimpert.composites(options.images, seed=0, model=model).images
    constraint = solvers.MeanSSIM(options.threshold, PUBLISHED)
    columns = ("engine", "mean SSIM", "margin gained", "l2-PGD", "ratio", "l2 ascent", "ratio", "flipped")
    table = Table(*columns, title=f"medians over {len(batch)} composites, MeanSSIM({options.threshold})")
    for engine in ENGINES:
        ours: list[float] = []
        rivals: dict[str, list[float]] = {"l2-PGD": [], "l2 ascent": []}
        ssim: list[float] = []
        flipped = 0
        for images in batch.split(BATCH):
            result = ssimpert.perturb(
                model, images, constraint, engine=engine, steps=options.steps,  # type: ignore[arg-type]
                stop_at_success=False, settings={"eps_rel": 1e-2},
            )  # fmt: skip
            ours += (result.margin_after - result.margin_before).tolist()
            ssim += result.ssim.tolist()
            flipped += int(result.success.sum())
            pgd = ssimpert.foolbox_baseline(model, images, "l2-pgd", match="ssim", matched_to=result)
            rivals["l2-PGD"] += (pgd.margin_after - pgd.margin_before).tolist()
            rivals["l2 ascent"] += ascent_of_same_ssim(model, images, result, options.steps)
        cells = [engine, f"{median(ssim):.4f}", f"{median(ours):.2f}"]
        for gained in rivals.values():
            ratios = [our_gain / gain for our_gain, gain in zip(ours, gained, strict=True) if gain > 0]
            cells += [f"{median(gained):.2f}", f"{median(ratios):.2f} ({len(ratios)})"]
        table.add_row(*cells, f"{flipped}/{len(batch)}")
        print(" | ".join(cells), flush=True)
    Console(width=120).print(table)
    print("Ratios are over the images (their number in brackets) where the l2 attack gained some margin.")


if __name__ == "__main__":
    main()
