"""How many composites are recognised, and how badly a guess at the centre does on them.

    python -m examples.composites
    python -m examples.composites --count 20 --picture composites.jpg

For each object, cut out and as a rectangle, the script prints the share of composites whose top class is a right class
of the object. For the composites that the first model recognises, it then prints the areas, and the pointing game's
accuracy of the image's centre and of a random point.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

import ssimpert
from benchmarks.script_options import script_parser
from ssimpert.data.cut_outs import OBJECTS, CompositeObject, object_mask, photo, tightest_box

MODELS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
TOLERANCE = 15
"""The pointing game's tolerance in pixels, at 224 pixels (protocols of TorchRay)."""

TILE = 160
"""The side of a picture in the overview, in pixels."""


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--count", type=int, default=60, help="the number of composites of each object (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the composites (default 0)")
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated names (default the embedded ones)")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write a row for each object, with outlines in green"
    )
    return parser.parse_args()


def recognised(model: ssimpert.Classifier, item: CompositeObject, images: torch.Tensor) -> NDArray[np.bool_]:
    """(n,): whether the top class of each image is a right class of the object."""
    with torch.inference_mode():
        labels = torch.cat([model.predict(batch) for batch in images.split(20)]).numpy()
    return np.isin(labels, item.classes)


def pointing(masks: NDArray[np.bool_]) -> tuple[float, float]:
    """The pointing game's accuracy of the centre pixel, and the expected accuracy of a random pixel."""
    hits = np.stack([distance_transform_edt(~mask) < TOLERANCE for mask in masks])
    middle = masks.shape[1] // 2
    return float(hits[:, middle, middle].mean()), float(hits.mean())


def outlined(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``pixels`` with a green line just outside ``mask``."""
    from skimage.segmentation import find_boundaries

    marked = pixels.copy()
    marked[find_boundaries(mask, mode="outer")] = (0, 255, 0)
    return marked


def row(item: CompositeObject, seed: int) -> NDArray[np.uint8]:
    """The object in its photo, then three composites, side by side."""
    mask = object_mask(item)
    x0, y0, x1, y1 = tightest_box(mask)
    window = (slice(max(y0 - 12, 0), y1 + 12), slice(max(x0 - 12, 0), x1 + 12))
    tiles = [tile(photo(item.photo)[window], mask[window])]
    data = ssimpert.composites(3, seed, objects=(item.name,))
    for image, inside in zip(data.images, data.masks, strict=True):
        tiles.append(tile((image * 255).round().byte().permute(1, 2, 0).numpy(), inside.numpy()))
    return np.concatenate(tiles, axis=1)


def tile(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``pixels`` with the outline of ``mask``, resized to fit into a white square."""
    picture = Image.fromarray(outlined(pixels, mask))
    scale = TILE / max(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (TILE, TILE), "white")
    square.paste(picture, ((TILE - picture.width) // 2, (TILE - picture.height) // 2))
    return np.asarray(square)


def line(cells: Iterable[object]) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def main() -> None:
    """Print both tables, and draw the overview where one is asked for."""
    options = arguments()
    torch.set_num_threads(1)
    models = [ssimpert.load_model(name) for name in options.models.split(",")]
    areas: list[list[str]] = []
    line(["", *(f"{model.name}, {kind}" for kind in ("cut out", "rectangle") for model in models)])
    line(["---"] * (1 + 2 * len(models)))
    for item in OBJECTS:
        shares = []
        for cut_out in (True, False):
            for index, model in enumerate(models):
                data = ssimpert.composites(
                    options.count, options.seed, size=model.input_size, objects=(item.name,), cut_out=cut_out
                )
                right = recognised(model, item, data.images)
                shares.append(f"{right.mean():.2f}")
                if index == 0 and right.any():
                    centre, chance = pointing(data.masks.numpy()[right])
                    areas.append(
                        [
                            f"{item.name}, {'cut out' if cut_out else 'rectangle'}",
                            *(f"{value:.3f}" for value in areas_of(data, right)),
                            f"{centre:.2f}",
                            f"{chance:.2f}",
                        ]
                    )
        line([item.name, *shares])
    print()
    line(["", "mask's area", "box's area", "centre", "chance"])
    line(["---"] * 5)
    for cells in areas:
        line(cells)
    if options.picture:
        rows = np.concatenate([row(item, options.seed + index) for index, item in enumerate(OBJECTS)])
        Image.fromarray(rows).save(options.picture, quality=80)


def areas_of(data: ssimpert.data.CompositeSet, chosen: NDArray[np.bool_]) -> tuple[float, float]:
    """The mean share of the image that the masks, and the boxes, of the chosen composites cover."""
    x0, y0, x1, y1 = data.boxes[torch.from_numpy(chosen)].double().unbind(dim=1)
    masks = data.masks[torch.from_numpy(chosen)]
    return float(masks.double().mean()), float(((x1 - x0) * (y1 - y0)).mean()) / data.masks[0].numel()


if __name__ == "__main__":
    main()
