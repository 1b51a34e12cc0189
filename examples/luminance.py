"""What the luminance bound looks like: crops of photos perturbed within 8x8 tiles under four bounds on 1 - S1.

Run with `python -m examples.luminance [PICTURE]` (default out/bench/luminance.png). Each photo has a row: a crop of the
photo, and the same crop perturbed with `luminance` "split", 1e-2, 1e-3 and "preserve". SSIM is at least 0.95 in every
tile, and there are ten steps.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import solvers
import ssimpert
from benchmarks.script_options import SCRATCH, script_parser
from ssimpert.report.figure import save_figure

# The upper left corners of crops that have both flat and textured parts.
PHOTOS = {"chelsea": (60, 60), "coffee": (30, 90), "astronaut": (10, 70)}
SIDE = 96
BOUNDS: tuple[float | str, ...] = ("split", 1e-2, 1e-3, "preserve")


def main(picture: Path) -> None:
    """Perturb the photos under each bound, and draw them into the file ``picture``."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    batch = torch.cat([ssimpert.load_image(name, size=model.input_size) for name in PHOTOS])
    columns = [("clean", batch, None)]
    for bound in BOUNDS:
        tiles = solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8), luminance=bound)  # type: ignore[arg-type]
        result = ssimpert.perturb(model, batch, tiles, steps=10, stop_at_success=False, settings={"eps_rel": 1e-3})
        columns.append((f"luminance {bound}", result.adversarial, result))
    figure = Figure(figsize=(12, 8.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(PHOTOS), len(columns))
    for row, (name, (top, left)) in enumerate(PHOTOS.items()):
        for column, (title, images, result) in enumerate(columns):
            axes = panels[row, column]
            crop = images[row, :, top : top + SIDE, left : left + SIDE].permute(1, 2, 0)
            axes.imshow(crop.numpy(), interpolation="nearest")
            axes.set_axis_off()
            detail = name
            if result is not None:
                gained = float(result.margin_after[row] - result.margin_before[row])
                mean = float(result.delta[row].abs().mean())
                detail = f"margin +{gained:.0f}, SSIM {float(result.ssim[row]):.2f}\nmean |d| {mean:.3f}"
            axes.set_title(f"{title}\n{detail}" if row == 0 else detail, fontsize=10)
    save_figure(figure, picture, dpi=90)


if __name__ == "__main__":
    parser = script_parser(__doc__)
    parser.add_argument("picture", type=Path, nargs="?", default=SCRATCH / "luminance.png", metavar="PICTURE")
    main(parser.parse_args().picture)
