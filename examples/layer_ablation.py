"""Does the perceptual ball gather on the object as it regularises more layers? The ablation of Elliott, Law, Russell.

Run with `python -m examples.layer_ablation`; it takes some ten minutes on one core (docs/notes/layer-ablation.md). The
script prints tables, and with `--json FILE` writes every image's figures. `--images 2 --iterations 5` is a quick trial.

The paper (CVPR 2021) adds VGG19's ReLUs from the first to relu5_1, which is the thirteenth, and the first of the last
stage. Here the layers are efficientnet-lite0's stem activation and blocks, from the first to the thirteenth, which
again is the first at the last resolution (7x7 of 224x224). Energy is the sum of a perturbation's squares over channels.
Each row gives the share of the energy that lies in a region. The regions are the pixels where Grad-CAM of the clean
image's own class is at least half of its maximum, and the box of the pasted object. For a perturbation of equal size
everywhere the share would be the region's area.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import ssimpert
from benchmarks.script_options import script_parser
from ssimpert.analysis import grad_cam
from ssimpert.perturbation.results import PerceptualBallResult

LAYERS = (
    "bn1.act",
    "blocks.0.0",
    "blocks.1.0",
    "blocks.1.1",
    "blocks.2.0",
    "blocks.2.1",
    "blocks.3.0",
    "blocks.3.1",
    "blocks.3.2",
    "blocks.4.0",
    "blocks.4.1",
    "blocks.4.2",
    "blocks.5.0",
)
COUNTS = (0, 3, 5, 7, 13)
REGIONS = ("cam", "box")
HEADINGS = ("Grad-CAM >= 0.5", "object's box")
CAM_LEVEL = 0.5
BATCH = 12
RESAMPLES, CONFIDENCE = 10_000, 0.95

Values = NDArray[np.float64]


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--images", type=int, default=12, help="the number of composites, at least 2 (default 12)")
    parser.add_argument("--iterations", type=int, default=100, help="iterations of L-BFGS for each gamma (default 100)")
    parser.add_argument(
        "--seed", type=int, default=0, help="the seed of the composites and of the bootstrap (default 0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every image's figures")
    options = parser.parse_args()
    if options.images < 2:
        parser.error("--images must be at least 2: an interval needs more than one")
    return options


def energy_share(values: Tensor, region: Tensor) -> Values:
    """The share of ``sum_c values^2`` that lies in a region: (B, C, H, W), (B, H, W) bool -> (B,)."""
    energy = values.double().square().sum(dim=1)
    return ((energy * region).sum(dim=(1, 2)) / energy.sum(dim=(1, 2))).numpy()


def bootstrap(values: Values, seed: int) -> tuple[float, float, float]:
    """The mean and the ends of its percentile interval; images are drawn with replacement."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(values.mean()), float(low), float(high)


def figures_of(results: Sequence[PerceptualBallResult], regions: dict[str, Tensor]) -> dict[str, Values]:
    """The figures of a set of layers, (B,) each. There is a result for each batch of images."""
    # efficientnet-lite0 divides all channels by the same number, so shares are the same in normalised pixels.
    delta = torch.cat([result.delta for result in results]).double()
    gamma = torch.cat([result.gamma for result in results])
    shares = {name: energy_share(delta, region) for name, region in regions.items()}
    return shares | {
        "flipped": torch.cat([result.success for result in results]).double().numpy(),
        "l2_norm": torch.linalg.vector_norm(delta.flatten(1), dim=1).numpy(),
        "steps": torch.cat([result.steps for result in results]).double().numpy(),
        "gamma": gamma.double().numpy(),
    }


def interval(values: Values, seed: int, sign: str = "") -> str:
    """The mean and its interval as text; ``sign="+"`` writes plus signs."""
    mean, low, high = bootstrap(values, seed)
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[k]) for row in (headings, *rows)) for k in range(len(headings))]
    lines = [headings, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def share_rows(sets: dict[int, dict[str, Values]], others: dict[str, dict[str, Values]], seed: int) -> list[list[str]]:
    """A row for each set of layers, then a row for each of the other maps, with which the sets are compared."""
    rows = []
    for count, figures in sets.items():
        # Without layers gamma has no meaning.
        gamma = f"{figures['gamma'].mean():.3g}" if count else "-"
        means = [
            f"{figures['flipped'].mean():.2f}",
            f"{figures['l2_norm'].mean():.2f}",
            f"{figures['steps'].mean():.0f}",
        ]
        rows.append([f"{count} layers", *(interval(figures[name], seed) for name in REGIONS), *means, gamma])
    for title, shares in others.items():
        rows.append([title, *(interval(shares[name], seed) for name in REGIONS), "", "", "", ""])
    return rows


def difference_rows(sets: dict[int, dict[str, Values]], seed: int) -> list[list[str]]:
    """The largest set of layers minus each smaller set, image by image."""
    largest = COUNTS[-1]
    return [
        [f"{largest} - {count}", *(interval(sets[largest][name] - sets[count][name], seed, "+") for name in REGIONS)]
        for count in COUNTS[:-1]
    ]


def as_lists(figures: dict[str, Values]) -> dict[str, list[float]]:
    """The figures as lists, for JSON."""
    return {name: values.tolist() for name, values in figures.items()}


def main() -> None:
    """Perturb with each set of layers, print the tables, and write the figures where this is asked for."""
    options = arguments()
    torch.set_num_threads(1)
    began = time.perf_counter()
    model = ssimpert.load_model("efficientnet-lite0")
    # The figures in docs/notes/layer-ablation.md were made with these three, as rectangles.
    data = ssimpert.composites(
        options.images, options.seed, model, objects=("chelsea", "coffee", "camera"), cut_out=False
    )
    batches = list(zip(data.images.split(BATCH), data.labels.split(BATCH), strict=True))
    cam = torch.cat([grad_cam(model, images, labels) for images, labels in batches])
    regions = {"cam": cam >= CAM_LEVEL, "box": data.masks}

    sets: dict[int, dict[str, Values]] = {}
    gradient = torch.zeros_like(data.images)
    for count in COUNTS:
        results = [
            ssimpert.perceptual_ball_lbfgs(model, images, layers=LAYERS[:count], iterations=options.iterations)
            for images, _ in batches
        ]
        gradient = torch.cat(
            [result.gradient for result in results]
        )  # at the clean images, so it is the same for all sets
        sets[count] = figures_of(results, regions)
        print(f"{count} layers: {sum(result.seconds for result in results):.0f} s", flush=True)

    others = {
        "plain gradient": {name: energy_share(gradient, region) for name, region in regions.items()},
        "area (uniform)": {name: region.double().mean(dim=(1, 2)).numpy() for name, region in regions.items()},
    }
    headings = ["", *HEADINGS, "flipped", "l2 norm", "iterations", "gamma"]
    print(f"\n{table(headings, share_rows(sets, others, options.seed))}")
    print(f"\n{table(['paired', *HEADINGS], difference_rows(sets, options.seed))}")
    print(f"\n{options.images} composites, {time.perf_counter() - began:.0f} s")
    if options.json:
        record = {
            "model": model.name,
            "torch": torch.__version__,
            "images": options.images,
            "iterations": options.iterations,
            "seed": options.seed,
            "resamples": RESAMPLES,
            "confidence": CONFIDENCE,
            "objects": data.objects,
            "textures": data.textures,
            "layers": LAYERS,
            "sets": {count: as_lists(figures) for count, figures in sets.items()},
            "controls": {title: as_lists(shares) for title, shares in others.items()},
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
