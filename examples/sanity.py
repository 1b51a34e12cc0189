"""Are the benchmarks of maps sound? Maps of known quality go through all of them, on composites with exact boxes.

Run with `python -m examples.sanity`; the script prints a table. `--images 6` is a quick trial. At the end it is checked
that the object's mask is perfect in the pointing game and in MaxBoxAcc, that the centre and random points hit at the
rates that geometry gives, and that it is better to insert the object's pixels first than in a random order. A failure
ends the script with an error.
"""

from __future__ import annotations

import argparse
import math

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ssimpert
from benchmarks.script_options import script_parser
from ssimpert.analysis import (
    centred_gaussian,
    chance_of_hit,
    cross_validated,
    grad_cam,
    gradient_magnitude,
    insertion_deletion,
    local_std,
    max_box_acc,
    pointing_game,
    sign_flip_test,
    thresholded_boxes,
)
from ssimpert.analysis.localization.thresholded_boxes import THRESHOLDINGS
from ssimpert.data.composites import CompositeSet

COLUMNS = "pointing game, error by three thresholdings, MaxBoxAcc v1 and v2, areas of insertion and deletion"


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--images", type=int, default=40, help="the number of composites (default 40)")
    parser.add_argument(
        "--rows", type=int, default=8, help="the number of rows of pixels in a step of insertion (default 8)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of composites, random maps and folds (default 0)")
    parser.add_argument(
        "--forward", choices=("torch", "onnx"), default="torch", help="what insertion and deletion pass images through"
    )
    return parser.parse_args()


def saliency(model: ssimpert.Classifier, composites: CompositeSet, seed: int) -> dict[str, Tensor]:
    """Maps by name, (B, S, S) each: first those of known quality, then those of methods."""
    noise = torch.rand(composites.masks.shape, generator=torch.Generator().manual_seed(seed))
    gradients = [
        ssimpert.linearize(model, image[None], label[None], ssimpert.Untargeted()).gradient
        for image, label in zip(composites.images, composites.labels, strict=True)
    ]
    return {
        "object first": composites.masks.float() + 0.5 * noise,
        "random": noise,
        "centre": centred_gaussian(*composites.masks.shape[1:]).float().expand(composites.masks.shape).contiguous(),
        "local std": local_std(composites.images),
        "gradient": gradient_magnitude(torch.cat(gradients)),
        "Grad-CAM": grad_cam(model, composites.images, composites.labels),
    }


def centre_rate(composites: CompositeSet) -> float:
    """The share of images whose mask has a pixel within 15 pixels of the middle, computed from coordinates alone."""
    middle = (composites.masks.shape[-1] - 1) // 2  # the first of the four pixels in the middle
    nearest = [(mask.nonzero() - middle).square().sum(dim=1).min() for mask in composites.masks]
    return float((torch.stack(nearest) < 15**2).double().mean())


def check(holds: bool, statement: str) -> None:
    """Print whether ``statement`` holds; end the script where it does not."""
    print("holds:" if holds else "FAILS:", statement)
    if not holds:
        raise SystemExit(1)


def main() -> None:
    """Print the table, then check what must hold."""
    options = arguments()
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    composites = ssimpert.composites(options.images, seed=options.seed, model=model)
    forward = model if options.forward == "torch" else ssimpert.onnx_classifier(model, composites.images[:1])
    # All images get one class: with few kinds of object, a mean over classes would give single images much weight.
    trials = torch.zeros(options.images, dtype=torch.int64)
    step = options.rows * composites.images.shape[-1]

    table = Table("map", "point", "value", "energy", "mean", "box v1", "box v2", "ins.", "del.", title=COLUMNS)
    scores: dict[str, dict[str, float]] = {}
    areas: dict[str, Tensor] = {}
    for name, maps in saliency(model, composites, options.seed).items():
        errors = [
            cross_validated(thresholded_boxes(maps, composites.boxes, kind), folds=5, seed=options.seed).error
            for kind in THRESHOLDINGS
        ]
        boxes = max_box_acc(maps, composites.boxes)
        curves_of_both = insertion_deletion(forward, composites.images, maps, target=composites.labels, step=step)
        areas_of_both = [curves_of_both["insertion"].auc, curves_of_both["deletion"].auc]
        areas[name], mean_areas = areas_of_both[0], [area.nanmean() for area in areas_of_both]
        hits = pointing_game(maps, composites.masks, trials).accuracy
        scores[name] = {"hits": hits, "box": boxes.v1, "insertion": float(mean_areas[0])}
        shares = [f"{100 * share:.1f}%" for share in (hits, *errors, boxes.v1, boxes.v2)]
        table.add_row(name, *shares, *(f"{float(area):.3f}" for area in mean_areas))
    Console().print(table)

    chance = chance_of_hit(composites.masks)
    mean, deviation = float(chance.mean()), math.sqrt(float((chance * (1 - chance)).sum())) / options.images
    print(f"chance of a hit {100 * mean:.1f}% (standard deviation of the mean {100 * deviation:.1f}%)")
    perfect = scores["object first"]
    check(perfect["hits"] == 1, "the object's pixels hit in every image")
    check(
        max_box_acc(composites.masks.float(), composites.boxes).v2 == 1,
        "the object's mask has MaxBoxAcc and V2 of 100%",
    )
    check(scores["centre"]["hits"] == centre_rate(composites), "the centre hits as often as the masks say")
    check(abs(scores["random"]["hits"] - mean) < 4 * deviation, "random maps hit near the chance of a hit")
    test = sign_flip_test((areas["object first"] - areas["random"]).numpy(), seed=options.seed)
    better = perfect["insertion"] > scores["random"]["insertion"]
    certain = options.images < 10 or test.p_value < 0.01
    check(better and certain, f"inserting the object first beats a random order (p = {test.p_value:.2g})")


if __name__ == "__main__":
    main()
