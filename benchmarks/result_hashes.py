"""Record what the library computes, bit by bit, and compare two records.

A change that only moves or renames code must leave every bit as it was. Record before it and after it, on the same
machine with the same packages (another processor may round differently):

    python -m benchmarks.result_hashes before.json
    python -m benchmarks.result_hashes after.json --compare before.json

Everything runs in float64 on one thread and uses public names only. Times are left out of the hashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

import solvers
import ssimpert
from benchmarks.script_options import script_parser
from solvers.conformance import standard_problems
from ssimpert import analysis

TIMES = {"seconds", "setup_time", "solve_time", "time", "history_time"}

# Every method on a standard problem that it takes; methods of sets that no standard problem has follow below.
STANDARD = [
    ("closed_form", "l2-box"),
    ("closed_form", "l1-box"),
    ("closed_form", "linf-box"),
    ("closed_form", "global-box"),
    ("closed_form", "project:l1"),
    ("tiles", "tiles-batch"),
    ("tiles", "tiles-split"),
    ("tiles", "tiles-preserve"),
    ("tiles", "tiles-gaussian"),
    ("tiles", "project:tiles-dark"),
    ("dual", "stride-4-batch"),
    ("dual", "stride-1-valid"),
    ("dual", "gaussian"),
    ("dual", "project:stride-4"),
    ("admm", "window-l2"),
    ("admm", "stride-4-preserve"),
    ("pdhg", "window-linf"),
    ("pdhg", "feature-box"),
    ("frank_wolfe", "project:l2"),
    ("ellipsoid", "feature-l2-batch"),
    ("ellipsoid", "project:feature-l2"),
    ("cvxpy:clarabel", "tiles"),
    ("cvxpy:scs", "l2-box"),
]
MAX_ITERATIONS = 200


class SmallClassifier(nn.Module):
    """Two convolutions with fixed random weights in float64, for results that need a differentiable classifier."""

    cam_layer = "features.3"

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(8, 5)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))
        generator = torch.Generator().manual_seed(8)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double().eval().requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def photos(size: int) -> Tensor:
    """Two sample photos (2, 3, size, size), float64."""
    return torch.cat([ssimpert.load_image(name, size=size) for name in ("chelsea", "coffee")]).double()


def solver_results() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each method of ``solvers`` on its standard problem, and what else ``solvers`` computes."""
    standard = {entry.name: entry for entry in standard_problems()}
    settings = solvers.Settings(eps_rel=1e-4, max_iter=MAX_ITERATIONS, force=True)
    for method, name in STANDARD:
        yield (
            f"solve {method} {name}",
            lambda method=method, name=name: solvers.solve(standard[name].build().problem, method, settings),
        )
    image = photos(32)
    gradient = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tiles, dense = solvers.Window.uniform(8, stride=8), solvers.Window.uniform(7)
    sets_by_method = {
        "mean_tiles": solvers.MeanSSIM(0.95, tiles),
        "mean_windows": solvers.MeanSSIM(0.95, dense),
        "product_tiles": solvers.ProductSSIM(0.95, tiles),
        "dual": solvers.ProductSSIM(0.95, dense),
    }
    for method, constraint in sets_by_method.items():
        problem = solvers.LinearProblem(gradient, image, [constraint, solvers.Box(0, 1)])
        yield (
            f"solve {method} {type(constraint).__name__}",
            lambda method=method, problem=problem: solvers.solve(problem, method, settings),
        )

    def certified() -> solvers.Certificate:
        problem = solvers.LinearProblem(gradient, image, [solvers.WindowSSIM(0.95, dense), solvers.Box(0, 1)])
        result = solvers.solve(problem, settings=solvers.Settings(max_iter=50))
        return solvers.certify(problem, result.delta, result.dual)

    yield "certify", certified


def perturbation_results() -> Iterator[tuple[str, Callable[[], Any]]]:
    """``perturb`` with every engine, least budgets, both perceptual balls, quantisation, baselines."""
    model, image = SmallClassifier(), photos(32)
    windows = solvers.WindowSSIM(0.95, solvers.Window.uniform(7))
    for engine in ("projected_gradient", "frank_wolfe", "sequential_convex"):
        yield (
            f"perturb {engine}",
            lambda engine=engine: ssimpert.perturb(
                model, image, windows, engine=engine, steps=4, stop_at_success=False
            ),
        )
    yield (
        "perturb recentred",
        lambda: ssimpert.perturb(model, image, solvers.GlobalSSIM(0.01), recentred=True, steps=4),
    )
    yield (
        "perturb faithful",
        lambda: ssimpert.perturb(model, image, solvers.GlobalSSIM(0.01), recentred=True, faithful=True, steps=4),
    )
    mean = solvers.MeanSSIM(0.95, solvers.Window.uniform(7), luminance=None)
    yield "perturb mean_ssim", lambda: ssimpert.perturb(model, image, mean, steps=3, stop_at_success=False)
    yield "minimal_budget l2", lambda: ssimpert.minimal_budget(model, image, solvers.LpBall(2, 1.0), steps=5)
    yield "minimal_budget windows", lambda: ssimpert.minimal_budget(model, image, windows, steps=3, rounds=2)
    yield (
        "margin_curve",
        lambda: ssimpert.margin_curve(model, image, solvers.LpBall(2, 1.0), [0.1, 0.5, 1.0], steps=4),
    )
    layers = ["features.1", "features.3"]
    yield (
        "perceptual_ball_lbfgs",
        lambda: ssimpert.perceptual_ball_lbfgs(model, image, layers=layers, iterations=8),
    )
    yield (
        "perceptual_ball_lbfgs faithful",
        lambda: ssimpert.perceptual_ball_lbfgs(
            model, image, layers=layers, iterations=8, label=torch.tensor([1, 2]), faithful=True
        ),
    )
    yield (
        "perceptual_ball_constrained",
        lambda: ssimpert.perceptual_ball_constrained(model, image, 0.5, layers=layers, steps=4),
    )

    def result() -> Any:
        return ssimpert.perturb(model, image, windows, steps=3, stop_at_success=False)

    yield "quantize", lambda: ssimpert.quantize(model, image, result())
    yield "l2_control", lambda: ssimpert.l2_control(model, image, result())
    yield (
        "foolbox_baseline",
        lambda: ssimpert.foolbox_baseline(
            SmallClassifier().float(), image.float(), "l2-pgd", steps=3, radius=0.5, label=None
        ),
    )


def analysis_results() -> Iterator[tuple[str, Callable[[], Any]]]:
    """``compare``, attributions, insertion and deletion, the pointing game, localisation, agreement, statistics."""
    model, image = SmallClassifier(), photos(32)
    target = model(image).argmax(dim=1)
    maps = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[:, 8:20, 4:28] = True
    boxes = [torch.tensor([[4, 8, 28, 20]]), torch.tensor([[0, 0, 10, 10], [16, 16, 32, 32]])]

    def compared() -> Any:
        result = ssimpert.perturb(model, image, solvers.GlobalSSIM(0.01), recentred=True, steps=3)
        view = ssimpert.compare(
            model, image, result, masks=masks, attributions=["rise", "occlusion"], sanity=True, insertion_deletion=64
        )
        return [view.cam, view.maps, view.records]

    yield "compare", compared
    for name in analysis.ATTRIBUTIONS:
        yield f"attribution {name}", lambda name=name: analysis.attribution(name, model, image, target)
    yield "insertion_deletion", lambda: analysis.insertion_deletion(model, image, maps, step=64)
    yield "pointing_game", lambda: analysis.pointing_game(maps, masks, torch.tensor([0, 1]))
    yield "max_box_acc", lambda: analysis.max_box_acc(maps, boxes)
    for thresholding in ("value", "energy", "mean"):
        yield (
            f"thresholded_boxes {thresholding}",
            lambda thresholding=thresholding: analysis.thresholded_boxes(maps, boxes, thresholding),
        )
    yield "shift_null", lambda: analysis.shift_null(maps, maps.flip(0), shifts=200)
    yield "agreement", lambda: analysis.agreement(maps, maps.flip(0))
    yield "bootstrap_interval", lambda: analysis.bootstrap_interval(maps[0, 0].numpy())
    yield "sign_flip_test", lambda: analysis.sign_flip_test(maps[0, 0].numpy() - 0.4)


def parts(value: Any, path: str = "") -> Iterator[tuple[str, bytes, float]]:
    """Every number, text and array within ``value`` as bytes, with its path and the sum of its magnitudes."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        size = float(np.nansum(np.abs(array.astype(np.float64)))) if array.dtype.kind in "biuf" else math.nan
        yield path, f"{array.dtype} {array.shape}".encode() + array.tobytes(), size
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name not in TIMES:
                yield from parts(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            if key not in TIMES:
                yield from parts(entry, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from parts(entry, f"{path}.{index}")
    elif isinstance(value, bool | int | float | str | None):
        yield path, repr(value).encode(), abs(float(value)) if isinstance(value, int | float) else math.nan
    elif hasattr(value, "rows") and not callable(value.rows):
        yield from parts(list(value.rows), f"{path}.rows")
    # Other objects (models, margins, sets, rules) say how a result was asked for, not what was computed.


def record() -> dict[str, dict[str, Any]]:
    """A hash for each result, and the sum of the magnitudes of all its numbers (to see how far two are apart)."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    hashes_by_name = {}
    for results in (solver_results, perturbation_results, analysis_results):
        for name, compute in results():
            listed = list(parts(compute()))
            part_hashes = {path: hashlib.sha256(data).hexdigest()[:16] for path, data, _ in listed}
            hashes_by_name[name] = {
                "hash": hashlib.sha256(b"".join(data for _, data, _ in listed)).hexdigest()[:16],
                "size": math.fsum(size for *_, size in listed if math.isfinite(size)),
                "parts": part_hashes,
            }
            print(f"{hashes_by_name[name]['hash']}  {len(part_hashes):5d} parts  {name}", flush=True)
    return hashes_by_name


def main() -> int:
    """Record, and with ``--compare`` say which results differ; the exit status is 1 where one does."""
    parser = script_parser(__doc__)
    parser.add_argument("file", type=Path, help="where to write the record (JSON)")
    parser.add_argument("--compare", type=Path, help="an earlier record to compare with")
    arguments = parser.parse_args()
    recorded = record()
    arguments.file.write_text(json.dumps(recorded, indent=1))
    if arguments.compare is None:
        return 0
    earlier = json.loads(arguments.compare.read_text())
    names = earlier.keys() | recorded.keys()
    differing = sorted(
        name for name in names if earlier.get(name, {}).get("hash") != recorded.get(name, {}).get("hash")
    )
    for name in differing:
        before, after = earlier.get(name, {}), recorded.get(name, {})
        old, new = before.get("parts", {}), after.get("parts", {})
        changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        print(f"DIFFERS {name}: size {before.get('size')} -> {after.get('size')}; {', '.join(changed[:6])}")
    print(f"{len(recorded) - len(differing)} of {len(recorded)} results are equal bit by bit")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
