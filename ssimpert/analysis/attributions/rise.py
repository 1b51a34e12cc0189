"""RISE: the mean of random masks, each weighted by the class's probability on the masked image.

Petsiuk, Das, Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018:
importance = sum_n p(class | x * M_n) M_n / (N E[M]), equation 6, with E[M] = ``keep``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ssimpert.analysis.attributions.baseline_image import Baseline, baseline_image
from ssimpert.analysis.attributions.class_targets import class_probability, class_targets
from ssimpert.analysis.attributions.postprocessing import min_max
from ssimpert.errors import InputError
from ssimpert.models.forward_copy import forward_copy
from ssimpert.models.forward_passes import Model, batch_size_for, keep_freed_memory
from ssimpert.validation import check_count, check_images, check_seed

RISE_MASKS = 4000
RISE_CELLS = 7
RISE_KEEP = 0.5


@dataclass(frozen=True, eq=False)
class MaskDraws:
    """What is random about N masks; small, so it is drawn at once, whatever the batch size.

    Attributes:
        grids: (N, s, s) bool, True where a cell is kept.
        rows, columns: (N,) int64, the shift of each mask's crop in pixels.
    """

    grids: Tensor
    rows: Tensor
    columns: Tensor


def rise(
    model: Model,
    images: Tensor,
    target: int | Tensor,
    *,
    masks: int = RISE_MASKS,
    cells: int = RISE_CELLS,
    keep: float = RISE_KEEP,
    seed: int = 0,
    baseline: Baseline = None,
    batch_size: int | None = None,
    normalize: bool = True,
) -> Tensor:
    """RISE of the target's softmax probability: images (B, C, H, W) -> (B, H, W), detached.

    All images of a batch see the same masks, which are made once, ``batch_size`` at a time; that bounds the memory.

    Args:
        model: images -> logits (B, K), or its :func:`~ssimpert.onnx_classifier`, which takes little more than half the
            time on the CPU.
        target: the class explained, one for all images or a (B,) tensor of integers.
        masks: N; default 4000, the paper's for VGG16 (8000 for ResNet50).
        cells: s, the side of the random grid; default 7, the paper's.
        keep: p, the probability that a cell is kept; default 0.5, the paper's. (The script released with the paper has
            ``masks=6000, cells=8, keep=0.1``.)
        seed: of the masks, whose grids and shifts are drawn on the CPU: the same on every device and for every
            ``batch_size``, which changes the map by rounding alone. The global random state is not touched.
        baseline: what a mask fades to: ``None`` (default) for the model's mean colour, zero in normalised space, as in
            the paper's code; or as :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes it.
        batch_size: masked images a forward pass; ``None`` (default) for
            :func:`ssimpert.models.forward_passes.batch_size_for`'s choice: 2 or 4 at 224 pixels on a CPU, 32 elsewhere.
        normalize: min-max each map to [0, 1]; ``False`` leaves the mean probability, in [0, 1/keep].

    Raises:
        InputError: options out of range, a grid of more cells than pixels, a class that the model doesn't have.
    """
    check_images("images", images)
    batch_size_for(batch_size, images)  # refuses what is no number before the work begins
    height, width = images.shape[-2:]
    draws = draw_masks(masks, height, width, cells=cells, keep=keep, seed=seed)
    targets = class_targets(target, images)
    reference = baseline_image(model, images, baseline)
    keep_freed_memory(images)
    with torch.inference_mode():
        logits_of = forward_copy(model, images[:1], masks)
        probabilities = [class_probability(logits_of, label[None]) for label in targets]
        # In float64, so that thousands of terms add no rounding of their own.
        total = torch.zeros(len(images), height, width, dtype=torch.float64, device=images.device)
        for shared in render_masks(
            draws, images, batch_size_for(batch_size, images, forward_only=logits_of is not model)
        ):
            for index, probability in enumerate(probabilities):
                image, absent = images[index, None], reference[index, None]
                masked = absent + shared[:, None] * (image - absent)
                scores = probability(masked).to(images.dtype)
                total[index] += torch.tensordot(scores, shared, dims=1)
        maps = (total / (masks * keep)).to(images.dtype)
        maps = min_max(maps) if normalize else maps
    return maps.clone()  # a normal tensor, which may enter a graph


def draw_masks(count: int, height: int, width: int, *, cells: int, keep: float, seed: int) -> MaskDraws:
    """The random part of ``count`` masks for images of ``height`` x ``width``: grids of ``cells`` x ``cells``, each
    cell kept with probability ``keep``, and shifts below the size of a cell, ceil(side / cells)."""
    check_count("masks", count)
    check_count("cells", cells, minimum=2)
    check_seed(seed)
    if cells > min(height, width):
        raise InputError(f"cells must be from 2 to {min(height, width)} for images {height}x{width}, got {cells}")
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep < 1:
        raise InputError(f"keep must be a probability strictly between 0 and 1, got {keep!r}")
    generator = torch.Generator().manual_seed(seed)
    grids = torch.rand(count, cells, cells, generator=generator) < keep
    rows, columns = (torch.randint(_cell_size(side, cells), (count,), generator=generator) for side in (height, width))
    return MaskDraws(grids, rows, columns)


def render_masks(draws: MaskDraws, images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The masks for images (B, C, H, W), ``batch_size`` at a time: (n, H, W) in [0, 1], on the images' device and in
    their dtype.

    Each grid is upsampled bilinearly by (s + 1) cells and cropped at its shift, as the released code does with
    ``skimage.transform.resize(order=1, mode="reflect")``: beyond the centres of the outer cells it mirrors the grid.
    """
    cells = draws.grids.shape[-1]
    height, width = images.shape[-2:]
    vertical, horizontal = (_upsampling_matrix(cells, _cell_size(side, cells)).to(images) for side in (height, width))
    grids, rows, columns = (values.to(images.device) for values in (draws.grids, draws.rows, draws.columns))
    down, across = (torch.arange(side, device=images.device) for side in (height, width))
    for start in range(0, len(grids), batch_size):
        part = slice(start, start + batch_size)
        # Upsampling is separable, and the crop picks rows of the two matrices.
        left = vertical[rows[part, None] + down]
        right = horizontal[columns[part, None] + across]
        yield left @ grids[part].to(images.dtype) @ right.mT


def _cell_size(side: int, cells: int) -> int:
    return -(-side // cells)


@lru_cache(maxsize=8)
def _upsampling_matrix(cells: int, cell_size: int) -> Tensor:
    """((s + 1) cell_size, s) float64: bilinear upsampling in one direction, rows summing to 1."""
    # A tensor made under inference_mode could never be used for a gradient afterwards, and this one is kept.
    with torch.inference_mode(False):
        length = (cells + 1) * cell_size
        positions = (torch.arange(length).double() + 0.5) * cells / length - 0.5
        below = positions.floor()
        share = positions - below
        matrix = torch.zeros(length, cells, dtype=torch.float64)
        for index, weight in ((below, 1 - share), (below + 1, share)):
            mirrored = (cells - 1) - ((cells - 1) - index.abs()).abs()
            matrix.scatter_add_(1, mirrored.long()[:, None], weight[:, None])
        return matrix
