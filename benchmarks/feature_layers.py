"""At which layers a feature distance confines a perturbation to the object: docs/notes/feature-layers.md.

Run with `python -m benchmarks.feature_layers [MODEL ...]`; ten to fifteen minutes. The script prints a Markdown table
for each model. With `--record` it replaces benchmarks/results/feature_layers.json.

Each image and set of layers gets one linear step: max g'd subject to |J d| <= 20% of the l2 step's feature distance and
|d| <= 1, without a box. One Krylov space gives d(theta) = (I + theta J'J)^-1 g for all theta. The certificate is the
weak-duality bound |g - J'y| + radius |y|. The images are four photos and composites with known boxes.
"""

from __future__ import annotations

import statistics
import time
import timeit
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import solvers
import ssimpert
from benchmarks.machine import machine
from benchmarks.real_problems import pin_threads
from benchmarks.script_options import script_parser, write_record
from ssimpert.analysis import grad_cam
from ssimpert.models import Classifier

PHOTOS = ("chelsea", "coffee", "camera", "rocket")
SHARE = 0.2
LANCZOS_STEPS = 32


def block_sets(*ranges: tuple[int, int]) -> dict[str, tuple[str, ...]]:
    """Sets of consecutive blocks, by name; each range has its first and its last block."""
    named = {f"{a}-{b}" if a < b else f"{a}": tuple(f"blocks.{k}" for k in range(a, b + 1)) for a, b in ranges}
    return {f"blocks.{name}": layers for name, layers in named.items()}


# For each model the number of composites and the sets of layers.
PLANS: dict[str, tuple[int, dict[str, tuple[str, ...]]]] = {
    "efficientnet-lite0": (
        8,
        block_sets(*((k, k) for k in range(7)), (1, 3), (2, 4), (3, 5), (4, 6), (0, 6))
        | {"stem, blocks.0-6, bn2": ("bn1", *(f"blocks.{k}" for k in range(7)), "bn2")},
    ),
    "efficientnet-lite1": (4, block_sets((2, 2), (1, 3), (2, 4), (3, 5), (4, 6))),
    "efficientnet-lite2": (4, block_sets((2, 2), (1, 3), (2, 4), (3, 5), (4, 6))),
}


@dataclass(frozen=True)
class Case:
    """An image (1, 3, S, S), the gradient of its margin scaled to |g| = 1, and the regions where energy is measured."""

    name: str
    image: Tensor
    gradient: Tensor
    inside_cam: Tensor
    inside_box: Tensor | None


def cases(model: Classifier, composite_count: int) -> list[Case]:
    """The photos, then the composites that ``model`` recognises."""
    # The figures in docs/notes/feature-layers.md were made with these three, as rectangles.
    pasted = ssimpert.composites(composite_count, 0, model, objects=("chelsea", "coffee", "camera"), cut_out=False)
    images = [ssimpert.load_image(name, size=model.input_size) for name in PHOTOS]
    boxes: list[Tensor | None] = [None] * len(images)
    images += [image[None] for image in pasted.images]
    boxes += [mask[None] for mask in pasted.masks]
    names = [
        *PHOTOS,
        *(f"{thing} on {texture}" for thing, texture in zip(pasted.objects, pasted.textures, strict=True)),
    ]
    all_cases = []
    for name, image, box in zip(names, images, boxes, strict=True):
        label = model.predict(image)
        gradient = ssimpert.linearize(model, image, label, ssimpert.Untargeted()).gradient
        cam = grad_cam(model, image, label)
        all_cases.append(Case(name, image, gradient / gradient.norm(), cam >= 0.5, box))
    return all_cases


def energy_inside(delta: Tensor, mask: Tensor) -> float:
    """The share of the sum of squares of ``delta`` (1, C, H, W) that lies inside ``mask`` (1, H, W)."""
    energy = delta.square().sum(dim=1)
    return float((energy * mask).sum() / energy.sum())


def krylov(jacobian: solvers.LinearOperator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Orthonormal V (steps, pixels) and the tridiagonal T = V J'J V', by Lanczos with reorthogonalisation."""
    basis, diagonal, off_diagonal = start.new_zeros(steps + 1, start.numel()), [], []
    basis[0] = start.flatten()
    for k in range(steps):
        vector = jacobian.apply_adjoint(jacobian.apply(basis[k].view_as(start))).flatten()
        diagonal.append(float(vector @ basis[k]))
        for _ in range(2):
            vector = vector - basis[: k + 1].T @ (basis[: k + 1] @ vector)
        off_diagonal.append(float(vector.norm()))
        basis[k + 1] = vector / off_diagonal[-1]
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    neighbours = torch.tensor(off_diagonal[:-1], dtype=torch.float64)
    tridiagonal = tridiagonal + torch.diag(neighbours, 1) + torch.diag(neighbours, -1)
    return basis[:-1], tridiagonal


def step(jacobian: solvers.LinearOperator, gradient: Tensor, steps: int = LANCZOS_STEPS) -> dict[str, Any]:
    """The step d and its gain: |d| = 1 and, up to the Krylov space's accuracy, |J d| = SHARE |J g|."""
    basis, tridiagonal = krylov(jacobian, gradient, steps)
    values, vectors = torch.linalg.eigh(tridiagonal)
    values, weights = values.clamp_min(0), vectors[0]
    radius = SHARE * float(jacobian.apply(gradient).norm())

    def distance(theta: float) -> float:
        shrunk = weights / (1 + theta * values)
        return float((values * shrunk.square()).sum().sqrt() / shrunk.norm())

    low, high = 1e-8 / float(values.max()), 1e12 / float(values.max())
    for _ in range(200):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if distance(middle) > radius else (low, middle)
    raw = ((vectors @ (weights / (1 + high * values))).float() @ basis).view_as(gradient)
    value = jacobian.apply(raw)
    # Scaled down where the exact |J d| is larger than its value in the Krylov space.
    delta = raw / max(float(raw.norm()), float(value.norm()) / radius)
    dual = high * value
    bound = float((gradient - jacobian.apply_adjoint(dual)).norm() + radius * dual.norm())
    gain = float((gradient * delta).sum())
    return {
        "delta": delta,
        "gain": gain,
        "gap": (bound - gain) / bound,
        "features": value.numel(),
    }


def measure(model: Classifier, case: Case, layers: tuple[str, ...]) -> dict[str, Any]:
    """The figures of one case and set of layers, with the energies of the l2 step for comparison."""
    features = ssimpert.deep_features(model, layers)
    # Nothing is kept: the tracing takes seconds for each image, and some 35 products do not earn this back.
    jacobian = ssimpert.feature_jacobian(features, case.image, memory_limit=0)
    step_figures = step(jacobian, case.gradient)
    delta = step_figures.pop("delta")
    row = {"image": case.name} | step_figures
    for region, mask in (("cam", case.inside_cam), ("box", case.inside_box)):
        if mask is not None:
            row |= {region: energy_inside(delta, mask), f"{region}_l2": energy_inside(case.gradient, mask)}
            row[f"{region}_area"] = float(mask.float().mean())
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def product_seconds(model: Classifier, case: Case, layers: tuple[str, ...]) -> dict[str, float]:
    """Seconds to trace an image for kept products, of one kept J v, and of one J v by a new forward pass."""
    features = ssimpert.deep_features(model, layers)
    began = time.perf_counter()
    kept = ssimpert.feature_jacobian(features, case.image)
    seconds = {"trace": time.perf_counter() - began}
    recomputed = ssimpert.feature_jacobian(features, case.image, memory_limit=0)
    for name, jacobian in (("kept", kept), ("anew", recomputed)):
        jacobian.apply(case.gradient)  # the first one warms up
        seconds[name] = statistics.median(timeit.repeat(lambda j=jacobian: j.apply(case.gradient), repeat=9, number=1))
    return {name: round(value, 4) for name, value in seconds.items()}


def mean_and_error(rows: list[dict[str, Any]], key: str) -> tuple[float, float]:
    """The mean of a figure over the rows that have it, and the standard error of this mean."""
    values = [row[key] for row in rows if key in row]
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def table(results: dict[str, list[dict[str, Any]]], seconds: dict[str, dict[str, float]]) -> str:
    """A row for each set of layers, in Markdown."""
    any_set = next(iter(results.values()))
    lines = [
        "| layers | features | J v, ms | gain kept | energy in CAM | energy in box | gap |",
        "|---|---|---|---|---|---|---|",
        "| none: the l2 step | 0 | | 1 "
        f"| {mean_and_error(any_set, 'cam_l2')[0]:.3f} | {mean_and_error(any_set, 'box_l2')[0]:.3f} | |",
    ]
    for name, rows in results.items():
        cells = [name, f"{rows[0]['features']:,}", f"{1e3 * seconds[name]['kept']:.0f}"]
        cells += ["{:.2f} ± {:.2f}".format(*mean_and_error(rows, "gain"))]
        cells += ["{:.3f} ± {:.3f}".format(*mean_and_error(rows, key)) for key in ("cam", "box")]
        cells += [f"{statistics.median(row['gap'] for row in rows):.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    area = mean_and_error(any_set, "cam_area")[0], mean_and_error(any_set, "box_area")[0]
    return "\n".join(lines) + f"\n\nArea: CAM {area[0]:.3f}, box {area[1]:.3f}."


def main(names: list[str], *, record: bool = False) -> None:
    """Measure, print and write the models ``names``, or all models."""
    pin_threads()
    document: dict[str, Any] = {"machine": machine(), "share": SHARE, "lanczos_steps": LANCZOS_STEPS}
    document |= {"models": {}, "seconds": {}}
    for name in names or list(PLANS):
        composite_count, sets = PLANS[name]
        model = ssimpert.load_model(name, device="cpu")
        images = cases(model, composite_count)
        results: dict[str, list[dict[str, Any]]] = {}
        for label, layers in sets.items():
            results[label] = [measure(model, case, layers) for case in images]
            print(name, label, f"{mean_and_error(results[label], 'box')[0]:.3f}", flush=True)
        document["models"][name] = results
        seconds = {label: product_seconds(model, images[0], layers) for label, layers in sets.items()}
        document["seconds"][name] = seconds
        print(f"\n{name}\n\n{table(results, seconds)}\n", flush=True)
        write_record("feature_layers", document, record=False, indent=1)
    if record:
        write_record("feature_layers", document, record=True, indent=1)


if __name__ == "__main__":
    parser = script_parser(__doc__, records=True)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(PLANS)}; default all")
    options = parser.parse_args()
    if unknown := [name for name in options.models if name not in PLANS]:
        parser.error(f"no plan for {unknown[0]!r}; there are {', '.join(PLANS)}")
    main(options.models, record=options.record)
