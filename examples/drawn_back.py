"""What drawing back to the goal does to six photos at the defaults of ``--constraint window-ssim``.

    python -m examples.drawn_back            # prints the table, and draws out/bench/drawn-back.jpg
    python -m examples.drawn_back --record   # draws the picture of docs/concepts/drawn-back.md

An engine that stops at success has often used the whole set in its first step. ``shrink`` draws the perturbation back
along its segment, to the smallest share that still changes the label.
"""

from __future__ import annotations

import argparse

import torch
from matplotlib.figure import Figure
from torch import Tensor

import ssimpert
from benchmarks.script_options import ROOT, output_path, script_parser
from ssimpert.cli.constraints import ConstraintName, build_constraint
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation.results import PerturbResult

PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "motorcycle", "rocket")
PICTURE = ROOT / "docs" / "images" / "drawn-back.jpg"


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__, records=True)
    parser.add_argument("--photos", default=",".join(PHOTOS), help="comma-separated names of samples")
    parser.add_argument("--model", default="efficientnet-lite0", help="the classifier (default efficientnet-lite0)")
    return parser.parse_args()


def table(names: list[str], whole: PerturbResult, drawn_back: PerturbResult, pictures: list[tuple[bool, bool]]) -> str:
    """A row of Markdown for each photo: mean SSIM and l2 norm before and after, the share that was kept, and whether
    the rounded and the quantised PNG still fool the model."""
    lines = [
        "| photo | mean SSIM as found | drawn back | l2 norm as found | drawn back | share | PNG rounded, quantised |",
        "|---|---|---|---|---|---|---|",
    ]
    before, after = whole.rows(), drawn_back.rows()
    for k, name in enumerate(names):
        fools = ["fools" if fooled else "does not" for fooled in pictures[k]]
        reached = "" if after[k]["success"] else " (goal not reached)"
        lines.append(
            f"| {name}{reached} | {before[k]['ssim']:.4f} | {after[k]['ssim']:.6f} | {before[k]['l2_norm']:.2f} "
            f"| {after[k]['l2_norm']:.3f} | {after[k]['shrink_share']:.4f} | {', '.join(fools)} |"
        )
    return "\n".join(lines)


def pictures_that_fool(model: ssimpert.Classifier, image: Tensor, result: PerturbResult) -> list[tuple[bool, bool]]:
    """Whether the rounded and the quantised 8-bit picture of each photo reach the goal."""
    rounded = (result.adversarial * 255).round() / 255
    margins = result.margin(forward(model, rounded), result.label)
    quantized = ssimpert.quantize(model, image, result)
    return list(zip((margins > 0).tolist(), quantized.success.tolist(), strict=True))


def picture(names: list[str], image: Tensor, whole: PerturbResult, drawn_back: PerturbResult) -> Figure:
    """Each photo clean, as found, and drawn back."""
    rows = (("clean", image), ("as found", whole.adversarial), ("drawn back", drawn_back.adversarial))
    figure = Figure(figsize=(2 * len(names), 2.15 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(names), squeeze=False)
    for line, (title, images) in enumerate(rows):
        for k, name in enumerate(names):
            panel = axes[line, k]
            panel.imshow(images[k].permute(1, 2, 0).clamp(0, 1).numpy())
            panel.set_xticks([])
            panel.set_yticks([])
            panel.set_title(name if line == 0 else "", fontsize=10)
            panel.set_ylabel(title if k == 0 else "", fontsize=10)
    return figure


def main() -> None:
    """Perturb the photos twice, print the table and draw the picture."""
    options = arguments()
    names = options.photos.split(",")
    model = ssimpert.load_model(options.model)
    image = torch.cat([ssimpert.load_image(name, size=model.input_size) for name in names])
    constraint = build_constraint(ConstraintName.WINDOW_SSIM, {})
    whole, drawn_back = (ssimpert.perturb(model, image, constraint, shrink=shrink) for shrink in (False, True))
    print(table(names, whole, drawn_back, pictures_that_fool(model, image, drawn_back)), flush=True)
    path = output_path(PICTURE, record=options.record)
    picture(names, image, whole, drawn_back).savefig(path, dpi=110, pil_kwargs={"quality": 88})
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
