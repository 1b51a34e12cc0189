"""Why windows hang over the edge by default: where the certified optimum puts its perturbation, full against valid.

Run with `python -m examples.borders`; it takes some minutes, since the windows overlap and CVXPY solves. With
`--record` the script replaces docs/images/borders.png. For every sample photo it prints the mean |d| over the outer 5
pixels, divided by the mean |d| inside.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

import solvers
import ssimpert
from benchmarks.script_options import ROOT, output_path, script_parser

PHOTOS = ("chelsea", "coffee", "camera", "rocket", "astronaut", "motorcycle")
WINDOW = solvers.Window.gaussian(1.5, 11)
SIZE, EDGE = 32, 5
PICTURE = ROOT / "docs" / "images" / "borders.png"


def optimum(name: str, border: solvers.windows.window.Border) -> tuple[Tensor, float]:
    """|d| of the optimum on the photo's centre, averaged over channels (SIZE, SIZE), and its certified gap."""
    model = ssimpert.load_model("efficientnet-lite0")
    image = ssimpert.load_image(name, size=model.input_size)
    gradient = ssimpert.linearize(model, image, model.predict(image), ssimpert.Untargeted()).gradient
    start = (model.input_size - SIZE) // 2
    cut = (..., slice(start, start + SIZE), slice(start, start + SIZE))
    constraints = [solvers.WindowSSIM(0.95, replace(WINDOW, border=border)), solvers.Box()]
    problem = solvers.LinearProblem(gradient[cut].double(), image[cut].double(), constraints)
    result = solvers.solve(problem, method="cvxpy:scs", settings=solvers.Settings(eps_rel=3e-2, max_iter=5000))
    return torch.as_tensor(result.delta)[0].abs().mean(dim=0), float(result.rel_gap[0])


def edge_ratio(size: Tensor) -> float:
    """The mean over the outer EDGE pixels, divided by the mean inside."""
    inside = torch.zeros_like(size, dtype=torch.bool)
    inside[EDGE:-EDGE, EDGE:-EDGE] = True
    return float(size[~inside].mean() / size[inside].mean())


def main(*, record: bool = False) -> None:
    """Solve, print the ratios, and draw the first three photos."""
    torch.set_num_threads(1)
    optima = {(name, border): optimum(name, border) for name in PHOTOS for border in ("full", "valid")}  # type: ignore[arg-type]
    for (name, border), (size, gap) in optima.items():
        print(f"{name:12s} {border:6s} edge/inside {edge_ratio(size):5.2f}  certified gap {gap:.1e}")
    for border in ("full", "valid"):
        print(border, "median", statistics.median(edge_ratio(optima[name, border][0]) for name in PHOTOS))
    drawn = PHOTOS[:3]
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    axes = figure.subplots(2, len(drawn))
    for row, border in enumerate(("full", "valid")):
        for column, name in enumerate(drawn):
            size = optima[name, border][0]
            heat = axes[row, column].imshow(size, cmap="viridis", vmin=0)
            axes[row, column].set_title(f"{name}, border={border!r}\nedge/inside {edge_ratio(size):.2f}", fontsize=10)
            axes[row, column].set_axis_off()
            figure.colorbar(heat, ax=axes[row, column], shrink=0.8)
    figure.suptitle("|d| of the optimum, SSIM ≥ 0.95 in every Gaussian 11x11 window", fontsize=11)
    figure.savefig(output_path(PICTURE, record=record), dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
