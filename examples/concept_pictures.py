"""The pictures of the pages on concepts: the SSIM ball, four sets for one gradient, a certificate, all attributions.

Run with `python -m examples.concept_pictures`; it takes two minutes. The pictures are written below out/bench/. With
`--record` the script replaces docs/images/ssim-ball.png, why-a-constraint.jpg, certificate.png and attributions.jpg.
Seeds are fixed and no time is drawn, so two runs on one machine make the same pictures.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import solvers
import ssimpert
from benchmarks.script_options import ROOT, output_path, script_parser
from ssimpert import analysis
from ssimpert.report.figure import CONTROL_COLOUR, IMAGE_COLOUR, PERTURBATION_COLOUR
from ssimpert.report.names import map_name

IMAGES = ROOT / "docs" / "images"
THRESHOLD = 0.95
# The part of the photo that is perturbed: a cup on a table, with flat and textured parts.
PHOTO, TOP, LEFT, SIDE = "coffee", 40, 70, 112
# The l2 norm to which all perturbations are scaled, and the factor by which they are drawn on the photo.
NORM, AMPLIFICATION = 1.0, 8.0
FEWER_PASSES: dict[str, dict[str, int]] = {"smooth_grad": {"samples": 20}, "rise": {"masks": 400}}
SETS: dict[str, solvers.Constraint] = {
    "l2 ball": solvers.LpBall(2, 1.0),
    "l-infinity ball": solvers.LpBall(math.inf, 2 / 255),
    "SSIM in every 7x7 window": solvers.WindowSSIM(THRESHOLD, solvers.Window.uniform(7)),
    "mean of SSIM": solvers.MeanSSIM(0.99, solvers.Window.uniform(7)),
}


def photo_and_gradient(name: str, top: int, left: int, side: int) -> tuple[Tensor, Tensor]:
    """A part of a sample photo and the gradient of the margin there, (1, 3, side, side) each, float64."""
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    image = ssimpert.load_image(name, size=model.input_size)
    gradient = ssimpert.linearize(model, image, model.predict(image), ssimpert.Untargeted()).gradient
    part = (..., slice(top, top + side), slice(left, left + side))
    return image[part].double(), gradient[part].double()


def draw_ball(figure: Figure) -> None:
    """S2 over the plane of perturbations of three pixels, with the ball; S1 over the mean, with the interval."""
    variance, mean, alpha, beta = 0.05, 0.5, 0.1, 1e-2
    ball, interval = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_structure(ball, variance, alpha)
    _draw_luminance(interval, mean, beta)


def _draw_structure(axes: Axes, variance: float, alpha: float) -> None:
    """The plane of Rd for a window of three pixels. Rx lies along the first axis."""
    c2, length = 0.03**2, variance**0.5
    ratio = alpha / (1 - alpha)
    radius = (ratio * (2 * variance + c2) + ratio**2 * variance) ** 0.5
    first, second = np.meshgrid(np.linspace(-0.2, 0.26, 400), np.linspace(-0.2, 0.2, 400))
    loss = (first**2 + second**2) / (variance + (length + first) ** 2 + second**2 + c2)
    levels = [0, 0.05, 0.1, 0.2, 0.3, 0.5]
    axes.contourf(first, second, loss, levels=levels, cmap="Greys_r", extend="max", alpha=0.3)
    lines = axes.contour(first, second, loss, levels=levels[1:], colors="grey", linewidths=0.8)
    axes.clabel(lines, fontsize=8)
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(ratio * length + radius * np.cos(angle), radius * np.sin(angle), color=PERTURBATION_COLOUR, linewidth=2.5)
    axes.plot([0], [0], "o", color="black")
    axes.annotate("d = 0", (0, 0), (-7, -4), textcoords="offset points", ha="right")
    axes.plot([ratio * length], [0], "+", color=PERTURBATION_COLOUR, markersize=11, markeredgewidth=2.5)
    axes.annotate("centre a Rx", (ratio * length, 0), (8, -14), textcoords="offset points")
    edge = np.pi / 3
    tip = (ratio * length + radius * np.cos(edge), radius * np.sin(edge))
    axes.annotate("", tip, (ratio * length, 0), arrowprops={"arrowstyle": "->", "color": PERTURBATION_COLOUR})
    axes.annotate("r", tip, (-22, -22), textcoords="offset points", color=PERTURBATION_COLOUR)
    axes.set_aspect("equal")
    axes.set_title("1 - S2 of three pixels: every level is a circle (blue: 0.1)", fontsize=10)
    axes.set_xlabel("Rd along Rx: contrast grows to the right")
    axes.set_ylabel("Rd across Rx: structure changes")


def _draw_luminance(axes: Axes, mean: float, beta: float) -> None:
    """1 - S1 over the mean of d, with the interval in which it is at most beta."""
    c1 = 0.01**2
    ratio = beta / (1 - beta)
    reach = (ratio * (2 * mean**2 + c1) + ratio**2 * mean**2) ** 0.5
    low, high = ratio * mean - reach, ratio * mean + reach
    means = np.linspace(-0.16, 0.16, 400)
    axes.plot(means, means**2 / (mean**2 + (mean + means) ** 2 + c1), color="black")
    axes.axhline(beta, color=CONTROL_COLOUR, linestyle="--")
    axes.annotate("beta", (-0.155, beta), (0, 4), textcoords="offset points")
    axes.axvspan(low, high, color=IMAGE_COLOUR, alpha=0.45)
    axes.plot([0], [0], "o", color="black")
    axes.set_ylim(0, 0.05)
    axes.set_title("1 - S1: an interval for the mean", fontsize=10)
    axes.set_xlabel("mean of d, in units of the pixels")
    axes.set_ylabel("1 - S1")


def draw_sets(figure: Figure) -> None:
    """One photo and one gradient within four sets, scaled to one l2 norm: the image above, the place below."""
    image, gradient = photo_and_gradient(PHOTO, TOP, LEFT, SIDE)
    panels = figure.subplots(2, 1 + len(SETS))
    columns = [("photo", image, gradient)]
    for name, constraint in SETS.items():
        problem = solvers.LinearProblem(gradient, image, [constraint, solvers.Box()])
        delta = torch.as_tensor(solvers.solve(problem, settings={"eps_rel": 1e-2, "max_iter": 500}).delta)
        delta = delta * NORM / delta.norm()
        columns.append((name, (image + AMPLIFICATION * delta).clamp(0, 1), delta))
    for column, (name, drawn, place) in enumerate(columns):
        panels[0, column].imshow(drawn[0].permute(1, 2, 0).numpy(), interpolation="nearest")
        panels[0, column].set_title(name if column == 0 else f"{name}\nchange x {AMPLIFICATION:.0f}", fontsize=10)
        size = place[0].square().mean(dim=0).sqrt()
        panels[1, column].imshow(size.numpy(), cmap="inferno", vmin=0, vmax=float(size.flatten().quantile(0.995)))
        panels[1, column].set_title("|gradient|" if column == 0 else "|d|", fontsize=10)
        for row in range(2):
            panels[row, column].set_axis_off()


def draw_certificate(figure: Figure) -> None:
    """Objective and bound of one solve at each check, and the strip between in which the optimum lies."""
    image, gradient = photo_and_gradient("chelsea", 80, 80, 64)
    sets = [solvers.WindowSSIM(THRESHOLD, solvers.Window.uniform(7)), solvers.Box()]
    settings = {"eps_rel": 1e-3, "check_interval": 5}
    rows = solvers.solve(solvers.LinearProblem(gradient, image, sets), method="dual", settings=settings).history.table()
    rows = [row for row in rows if row["iteration"] > 0]
    iterations = [row["iteration"] for row in rows]
    objective, bound = [row["objective"] for row in rows], [row["bound"] for row in rows]
    axes = figure.subplots()
    axes.fill_between(iterations, objective, bound, color=IMAGE_COLOUR, alpha=0.45, label="the optimum lies here")
    axes.plot(iterations, bound, color=CONTROL_COLOUR, linestyle="--", label="bound: nothing feasible does better")
    axes.plot(iterations, objective, color=PERTURBATION_COLOUR, label="objective of a feasible point")
    axes.set_ylim(0.85 * objective[-1], 1.2 * bound[-1])
    axes.set_xlabel("iterations")
    axes.set_ylabel("gain in margin, linearised (logits)")
    axes.legend(frameon=False)


def draw_attributions(figure: Figure) -> None:
    """Every attribution of one photo for the class that the model sees, over the photo in grey."""
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    image = ssimpert.load_image("chelsea", size=model.input_size)
    target = model.predict(image)
    grey = image[0].mean(dim=0).numpy()
    panels = figure.subplots(2, 7).flatten()
    panels[0].imshow(image[0].permute(1, 2, 0).numpy())
    panels[0].set_title(f"photo: {model.label_name(int(target))}", fontsize=10)
    for axes, name in zip(panels[1:], analysis.ATTRIBUTIONS, strict=True):
        maps = analysis.attribution(name, model, image, target, **FEWER_PASSES.get(name, {}))
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
        axes.imshow(maps[0].numpy(), cmap="inferno", alpha=0.65, vmin=0, vmax=float(maps.flatten().quantile(0.998)))
        axes.set_title(map_name(name), fontsize=10)
    for axes in panels:
        axes.set_axis_off()


PICTURES = {
    "ssim-ball.png": (draw_ball, (9.0, 4.2), {}),
    "why-a-constraint.jpg": (draw_sets, (12.0, 5.4), {"quality": 80}),
    "certificate.png": (draw_certificate, (6.5, 3.6), {}),
    "attributions.jpg": (draw_attributions, (13.0, 4.2), {"quality": 80}),
}


def main(*, record: bool = False) -> None:
    """Draw all pictures."""
    torch.set_num_threads(1)
    for name, (draw, size, options) in PICTURES.items():
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        path = output_path(IMAGES / name, record=record)
        figure.savefig(path, dpi=90, pil_kwargs=options)
        print(path, path.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
