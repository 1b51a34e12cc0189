"""How far do proofs about a network reach? Verified, attacked and open images at several levels of the SSIM index.

Run with `python -m examples.verification --json FILE` (needs scikit-learn, for its digits). Two networks are trained
twice, plainly and adversarially: one of four layers on scikit-learn's digits at 16x16 pixels, and one of 140,000
parameters on coloured shapes at 32x32 pixels, which the script draws on textures. For each level the script counts the
test images that are verified and those that are falsified, beside what cheaper bounds verify: intervals, and linear
bounds over the pixels alone. For the shapes it also brackets the least level that changes the decision, between
`certified_level` and `minimal_budget`. `--figure FILE` draws the shares against the level. A second run with the same
file continues where the first one stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import solvers
import ssimpert
from benchmarks.script_options import script_parser
from solvers.constraints import Constraint
from ssimpert.verification.checked_arguments import MEMORY_LIMIT, SOLVER_SETTINGS
from ssimpert.verification.linear_bounds import linear_bound, relaxations_of
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.pre_activation_bounds import Limits, interval_bounds, pre_activation_bounds
from ssimpert.verification.tracing import trace

WINDOW = solvers.Window.uniform(7)
SETS: dict[str, Callable[[float], Constraint]] = {
    "index": lambda threshold: solvers.ProductSSIM(threshold, WINDOW),
    "convex set inside": lambda threshold: solvers.WindowSSIM(
        threshold, WINDOW, luminance=min(1e-3, (1 - threshold) / 2)
    ),
}
TRAINING = ("plain", "adversarial")
Record = dict[str, Any]
Data = tuple[Tensor, Tensor, Tensor, Tensor]
"""Training images and classes, test images and classes."""


# -- data -------------------------------------------------------------------------------------------------------


def digits() -> Data:
    """scikit-learn's digits, (N, 1, 16, 16), grey values from .15 to .85."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images / 16.0, dtype=torch.float32)[:, None]
    images = 0.15 + 0.7 * functional.interpolate(images, size=(16, 16), mode="bilinear")
    classes = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:1400], order[1400:]
    return images[train], classes[train], images[test], classes[test]


def shapes(train: int = 3000, test: int = 200, side: int = 32) -> Data:
    """Coloured shapes of five kinds on coloured textures, (N, 3, side, side), pixels from .1 to .9."""
    generator = torch.Generator().manual_seed(0)
    count = train + test
    classes = torch.randint(5, (count,), generator=generator)
    axis = torch.arange(side) - (side - 1) / 2
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    rows, columns = rows - uniform(-4, 4), columns - uniform(-4, 4)
    radius = uniform(6.5, 10)
    distance = (rows.square() + columns.square()).sqrt()
    square = torch.maximum(rows.abs(), columns.abs())
    masks = torch.stack(
        [
            distance < radius,
            square < 0.85 * radius,
            (distance < radius) & (distance > 0.55 * radius),
            (square < radius) & (torch.minimum(rows.abs(), columns.abs()) < 0.3 * radius),
            (rows < 0.7 * radius) & (rows > -radius + 2 * columns.abs()),
        ]
    )
    mask = masks.gather(0, classes.view(1, -1, 1, 1).expand(1, -1, side, side))[0][:, None].float()
    noise = torch.rand(count, 3, side // 4, side // 4, generator=generator)
    texture = functional.interpolate(noise, size=(side, side), mode="bilinear")
    fine = torch.rand(count, 1, side, side, generator=generator)
    background = 0.1 + 0.35 * texture + 0.1 * fine
    colour = 0.6 + 0.3 * torch.rand(count, 3, 1, 1, generator=generator)
    images = (background * (1 - mask) + (colour - 0.1 * fine) * mask).clamp(0.1, 0.9)
    return images[:train], classes[:train], images[train:], classes[train:]


# -- networks ---------------------------------------------------------------------------------------------------


def digits_network() -> nn.Module:
    """Two strided convolutions and two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def shapes_network() -> nn.Module:
    """Two strided convolutions, each with a batch norm, and two linear layers: 140,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.BatchNorm2d(32),
        nn.ReLU(), nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 5),
    )  # fmt: skip


def trained(make: Callable[[], nn.Module], data: Data, *, epochs: int, radius: float) -> nn.Module:
    """A network trained on ``data``; with a ``radius``, against steps of the gradient's sign within an linf ball."""
    images, classes, _, _ = data
    torch.manual_seed(1)
    network = make()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(100):
            x, y = images[index], classes[index]
            if radius:
                network.eval()
                delta = torch.zeros_like(x).uniform_(-radius, radius)
                for _ in range(3):
                    delta.requires_grad_()
                    (gradient,) = torch.autograd.grad(functional.cross_entropy(network(x + delta), y), delta)
                    delta = (delta.detach() + radius / 2 * gradient.sign()).clamp(-radius, radius)
                x = (x + delta).clamp(0, 1).detach()
                network.train()
            optimiser.zero_grad()
            functional.cross_entropy(network(x), y).backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


EXPERIMENTS: dict[str, dict[str, Any]] = {
    "digits": {
        "data": digits,
        "network": digits_network,
        "epochs": 40,
        "radius": 0.05,
        "sets": ("index", "convex set inside"),
        "thresholds": (0.999, 0.995, 0.99),
        "brackets": 0,
    },
    "shapes": {
        "data": shapes,
        "network": shapes_network,
        "epochs": 6,
        "radius": 0.04,
        "sets": ("index",),
        "thresholds": (0.9999, 0.9995, 0.999),
        "brackets": 6,
    },
}


# -- what is measured -------------------------------------------------------------------------------------------


def pixel_bounds_verify(network: nn.Module, image: Tensor, label: int, constraint: Constraint, method: str) -> bool:
    """Whether intervals, or linear bounds, over the pixel bounds of the set verify the image."""
    traced = trace(network, image)
    perturbations = PerturbationSet(image, constraint, None, SOLVER_SETTINGS, MEMORY_LIMIT)
    limits = Limits(MEMORY_LIMIT)
    compute = interval_bounds if method == "intervals" else None
    bounds = (
        compute(traced, perturbations) if compute is not None else pre_activation_bounds(traced, perturbations, limits)
    )
    rows = torch.zeros(traced.classes, traced.classes, dtype=torch.float64)
    rows[:, label] = 1
    rows -= torch.eye(traced.classes, dtype=torch.float64)
    rows = rows[[k for k in range(traced.classes) if k != label]]
    bound = linear_bound(traced, perturbations.image, rows, traced.logits, relaxations_of(traced, bounds))
    return bool((perturbations.least_in_box(bound) > 0).all())


def measure_level(
    network: nn.Module, images: Tensor, labels: list[int], constraint: Constraint, effort: str, time_limit: float
) -> Record:
    """The counts of one level."""
    began = time.process_time()
    result = ssimpert.verify(network, images, constraint, effort=effort, time_limit=time_limit)  # type: ignore[arg-type]
    seconds = (time.process_time() - began) / len(images)
    cheap = result
    if effort != "cheap":
        cheap = ssimpert.verify(network, images, constraint, effort="cheap", attack=False)
    return {
        "images": len(images),
        "verified": [verdict.value == "verified" for verdict in result.verdict],
        "falsified": [verdict.value == "falsified" for verdict in result.verdict],
        "bound": result.bound.tolist(),
        "found": result.least_margin_found.tolist(),
        "processor_seconds_an_image": seconds,
        "wall_seconds": list(result.seconds),
        "cheap": int(cheap.verified.sum()),
        "cheap_wall_seconds": list(cheap.seconds),
        **{
            method: sum(
                pixel_bounds_verify(network, images[k : k + 1], label, constraint, method)
                for k, label in enumerate(labels)
            )
            for method in ("intervals", "linear bounds over pixels")
        },
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_bracket(network: nn.Module, image: Tensor, effort: str, time_limit: float) -> Record:
    """The bracket of one image: the certified and the found level of the exact index."""
    template = SETS["index"](0.995)
    found = ssimpert.minimal_budget(
        network, image, template, steps=6, rounds=8, tolerance=0.05, candidates=3, settings={"eps_rel": 0.03}
    )
    certified = ssimpert.certified_level(
        network,
        image,
        template,
        found=found,
        effort=effort,
        rounds=7,
        tolerance=0.1,
        time_limit=time_limit,  # type: ignore[arg-type]
    )
    return {
        "certified": float(certified.level[0]),
        "unverified": float(certified.unverified_level[0]),
        "found": float(certified.found_level[0]),
        "ratio": float(certified.ratio[0]),
        "seconds": certified.seconds[0],
    }


def run(options: argparse.Namespace) -> Record:
    """All measurements; those in the file already are kept."""
    results: Record = json.loads(options.json.read_text()) if options.json.exists() else {}

    def keep(name: str, compute: Callable[[], Record]) -> None:
        if name not in results:
            results[name] = compute()
            options.json.write_text(json.dumps(results, indent=1) + "\n")
            print(name, {key: value for key, value in results[name].items() if not isinstance(value, list)}, flush=True)

    for experiment in options.experiments.split(","):
        setup = EXPERIMENTS[experiment]
        data = setup["data"]()
        for training in options.training.split(","):
            radius = setup["radius"] if training == "adversarial" else 0.0
            weights = options.json.with_name(f"{options.json.stem}-{experiment}-{training}.pt")
            network = setup["network"]().eval().requires_grad_(False)
            if weights.exists():
                network.load_state_dict(torch.load(weights, weights_only=True))
            else:
                network = trained(setup["network"], data, epochs=setup["epochs"], radius=radius)
                torch.save(network.state_dict(), weights)
            predicted = network(data[2]).argmax(1)
            correct = (predicted == data[3]).nonzero()[:, 0][: options.images]
            images, labels = data[2][correct], data[3][correct].tolist()
            accuracy, name = float((predicted == data[3]).float().mean()), f"{experiment}, {training}"
            count = sum(parameter.numel() for parameter in network.parameters())
            keep(name, lambda accuracy=accuracy, count=count: {"accuracy": accuracy, "parameters": count})
            for kind in setup["sets"]:
                for threshold in setup["thresholds"]:
                    keep(
                        f"{name}, {kind}, {threshold}",
                        lambda kind=kind, threshold=threshold, network=network, images=images, labels=labels: (
                            measure_level(
                                network, images, labels, SETS[kind](threshold), options.effort, options.time_limit
                            )
                        ),
                    )
            for number in range(min(setup["brackets"], len(images))):
                keep(
                    f"{name}, bracket {number}",
                    lambda network=network, images=images, number=number: measure_bracket(
                        network, images[number : number + 1], options.effort, options.time_limit
                    ),
                )
    return results


def draw(results: Record, path: Path) -> None:
    """The shares verified and not falsified against the level; what is open between them is shaded."""
    import matplotlib.pyplot as plt

    panels = [f"{experiment}, {training}" for experiment in EXPERIMENTS for training in TRAINING]
    panels = [panel for panel in panels if panel in results]
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels), 3), sharey=True, layout="constrained")
    for axis, panel in zip([axes] if len(panels) == 1 else axes, panels, strict=True):
        thresholds = sorted(float(name.rsplit(", ", 1)[1]) for name in results if name.startswith(f"{panel}, index, "))
        records = [results[f"{panel}, index, {threshold}"] for threshold in thresholds]
        levels = [1 - threshold for threshold in thresholds]
        verified = [sum(record["verified"]) / record["images"] for record in records]
        possible = [1 - sum(record["falsified"]) / record["images"] for record in records]
        axis.fill_between(levels, verified, possible, color="0.85", label="open")
        axis.plot(levels, possible, "s--", color="C3", label="not falsified")
        axis.plot(levels, verified, "o-", color="C0", label="verified")
        axis.plot(levels, [r["cheap"] / r["images"] for r in records], "^:", color="C0", label="verified, cheap")
        axis.plot(
            levels,
            [r["linear bounds over pixels"] / r["images"] for r in records],
            "v:",
            color="0.4",
            label="pixels alone",
        )
        axis.set(title=panel, xlabel="1 - SSIM of the least window", xscale="log", ylim=(-0.03, 1.03))
    first = figure.axes[0]
    first.set_ylabel("share of images")
    first.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print, and draw."""
    parser = script_parser(__doc__)
    parser.add_argument("--json", type=Path, required=True, help="the file that keeps the results")
    parser.add_argument("--figure", type=Path, help="the file of the figure")
    parser.add_argument("--experiments", default=",".join(EXPERIMENTS), help="comma-separated names (default all)")
    parser.add_argument("--training", default=",".join(TRAINING), help="comma-separated names (default both)")
    parser.add_argument("--images", type=int, default=10, help="test images of each network (default 10)")
    parser.add_argument("--effort", default="standard", help="of verify (default standard)")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for each image and level (default 60)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = run(options)
    ratios = [entry["ratio"] for name, entry in results.items() if "bracket" in name and math.isfinite(entry["ratio"])]
    if ratios:
        print(f"found level / certified level: {', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}")
    if options.figure is not None:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
