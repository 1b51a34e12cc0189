"""What the perceptual ball shows of four photos, beside Grad-CAM and the plain gradient.

Run with `python -m examples.perceptual_ball`; it takes about a minute on one core. The script prints
a line for each photo. With `--record` it replaces docs/images/perceptual-ball.jpg.
"""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import ssimpert
from benchmarks.script_options import ROOT, output_path, script_parser
from ssimpert.analysis import grad_cam, gradient_magnitude, perceptual_ball_saliency

PHOTOS = ("chelsea", "coffee", "camera", "rocket")
PICTURE = ROOT / "docs" / "images" / "perceptual-ball.jpg"


def short(label: str) -> str:
    """The first of the names of a class."""
    return label.split(",")[0]


def show(axes: Axes, values: torch.Tensor, title: str) -> None:
    """Draw a photo (3, H, W), or a map (H, W) from 0 to its largest value."""
    if values.ndim == 3:
        axes.imshow(values.permute(1, 2, 0))
    else:
        axes.imshow(values, cmap="inferno", vmin=0)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def main(*, record: bool = False) -> None:
    """Perturb the photos, print the lines, and draw the maps."""
    torch.set_num_threads(1)
    model = ssimpert.load_model("efficientnet-lite0")
    images = torch.cat([ssimpert.load_image(name, size=model.input_size) for name in PHOTOS])
    result = ssimpert.perceptual_ball_lbfgs(model, images)
    maps = {
        "perceptual ball, saliency": perceptual_ball_saliency(model, images, result.adversarial),
        "Grad-CAM": grad_cam(model, images, result.label_before),
        "gradient magnitude": gradient_magnitude(result.gradient),
    }
    figure = Figure(figsize=(11, 9.4), layout="constrained")
    axes = figure.subplots(len(PHOTOS), 2 + len(maps))
    for k, (name, row) in enumerate(zip(PHOTOS, result.rows(), strict=True)):
        before, after = (short(model.label_name(row[key])) for key in ("label_before", "label_after"))
        distance = f"l2 {row['l2_norm']:.2f}, SSIM {row['ssim']:.4f}"
        print(f"{name:8s} {before} -> {after}, {distance}, gamma {row['gamma']:.2g}, margin {row['margin_after']:.2f}")
        show(axes[k, 0], images[k], before)
        show(axes[k, 1], result.adversarial[k], f"{after}\n{distance}")
        for column, (kind, values) in enumerate(maps.items(), start=2):
            show(axes[k, column], values[k], kind)
    figure.savefig(output_path(PICTURE, record=record), dpi=90, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
