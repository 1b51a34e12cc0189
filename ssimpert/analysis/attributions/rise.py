"""RISE: the mean of random masks, each weighted by the class's probability on the masked image.

Petsiuk, Das, Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018. By equation 6
the importance is sum_n p(class | x * M_n) M_n / (N E[M]), for N random masks M_n with E[M] = ``keep``.
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
from ssimpert.models.entry_points import takes_model
from ssimpert.models.forward_copy import forward_copy
from ssimpert.models.forward_passes import Model, batch_size_for, keep_freed_memory
from ssimpert.validation import check_count, check_images, check_seed, check_share

RISE_MASKS = 4000
RISE_CELLS = 7
RISE_KEEP = 0.5


@dataclass(frozen=True, eq=False)
class MaskDraws:
    """The random part of N masks. It is small, so it is drawn at once, whatever the batch size.

    Attributes:
        grids: (N, s, s) bool, True where a cell is kept.
        rows, columns: (N,) int64, the shift of each mask's crop in pixels.
    """

    grids: Tensor
    rows: Tensor
    columns: Tensor


@takes_model
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

    All images of a batch get the same masks. The masks are made once, ``batch_size`` at a time, which bounds the
    memory.

    Args:
        model: images (B, C, H, W) -> logits (B, K), or its :func:`~ssimpert.onnx_classifier`, which takes little more
            than half the time on the CPU.
        images: (B, C, H, W), float32 or float64, in the range that the model takes.
        target: the class that the map explains, one for all images or (B,) integers.
        masks: N, 1 or more; default 4000, as in the paper for VGG16 (8000 for ResNet50).
        cells: s, the side of the random grid, from 2 to the smaller side of the images; default 7, as in the paper.
        keep: p, the probability that a cell is kept, strictly between 0 and 1; default 0.5, as in the paper. (The
            script released with the paper has ``masks=6000, cells=8, keep=0.1``.)
        seed: an integer from 0, default 0, that decides the grids and the shifts of the masks. They are drawn on the
            CPU and are the same on every device and for every ``batch_size``, which changes the map by rounding alone.
            The global random state is not touched.
        baseline: what a mask fades to. Default ``None``: the mean colour of the model, which is zero in normalised
            pixels, as in the paper's code. Else what
            :func:`ssimpert.analysis.attributions.baseline_image.baseline_image` takes.
        batch_size: how many masked images go through the model at once. Default ``None``: the choice of
            :func:`ssimpert.models.forward_passes.batch_size_for`, 2 or 4 at 224 pixels on a CPU and 32 elsewhere.
        normalize: True (default) min-max scales each map to [0, 1], and a constant map to zeros. False leaves the mean
            probability, in [0, 1/keep].

    Raises:
        InputError: options out of range, a grid with more cells than pixels, a baseline that does not fit, or a class
            that the model does not have.
    """
    check_images("images", images)
    batch_size_for(batch_size, images)  # refuses a batch_size that is no number before the work begins
    masks, keep = check_count("masks", masks), check_share("keep", keep)
    height, width = images.shape[-2:]
    draws = draw_masks(masks, height, width, cells=cells, keep=keep, seed=seed)
    targets = class_targets(target, images)
    reference = baseline_image(model, images, baseline)
    keep_freed_memory(images)
    with torch.no_grad():
        logits_of = forward_copy(model, images[:1], masks)
        probabilities = [class_probability(logits_of, label[None]) for label in targets]
        # The sum is in float64, so that its thousands of terms add no rounding.
        total = torch.zeros(len(images), height, width, dtype=torch.float64, device=images.device)
        masks_a_pass = batch_size_for(batch_size, images, forward_only=logits_of is not model)
        for rendered in render_masks(draws, images, masks_a_pass):
            for index, probability in enumerate(probabilities):
                image, absent = images[index, None], reference[index, None]
                masked = absent + rendered[:, None] * (image - absent)
                scores = probability(masked).to(images.dtype)
                total[index] += torch.tensordot(scores, rendered, dims=1)
    maps = (total / (masks * keep)).to(images.dtype)
    return min_max(maps) if normalize else maps


def draw_masks(count: int, height: int, width: int, *, cells: int, keep: float, seed: int) -> MaskDraws:
    """Draw the random part of masks: grids, and shifts that are smaller than a cell, ceil(side / cells).

    Args:
        count: how many masks, 1 or more.
        height: H of the images, in pixels.
        width: W of the images, in pixels.
        cells: the side of each grid, from 2 to the smaller side of the images.
        keep: the probability that a cell is kept, strictly between 0 and 1.
        seed: an integer from 0.

    Raises:
        InputError: a number out of range.
    """
    count, cells, seed = check_count("masks", count), check_count("cells", cells, 2), check_seed(seed)
    if cells > min(height, width):
        raise InputError(f"cells must be from 2 to {min(height, width)} for images {height}x{width}, got {cells}")
    keep = check_share("keep", keep)
    generator = torch.Generator().manual_seed(seed)
    grids = torch.rand(count, cells, cells, generator=generator) < keep
    rows, columns = (torch.randint(_cell_size(side, cells), (count,), generator=generator) for side in (height, width))
    return MaskDraws(grids, rows, columns)


def render_masks(draws: MaskDraws, images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """The masks for images (B, C, H, W), at most ``batch_size`` at a time: (n, H, W) in [0, 1].

    The masks have the dtype of ``images`` and are on their device. Each grid is upsampled bilinearly to (s + 1) cells
    and cropped at its shift. The released code does the same with ``skimage.transform.resize(order=1,
    mode="reflect")``, which mirrors the grid beyond the centres of the outer cells.
    """
    cells = draws.grids.shape[-1]
    height, width = images.shape[-2:]
    vertical, horizontal = (_upsampling_matrix(cells, _cell_size(side, cells)).to(images) for side in (height, width))
    grids, rows, columns = (values.to(images.device) for values in (draws.grids, draws.rows, draws.columns))
    down, across = (torch.arange(side, device=images.device) for side in (height, width))
    for start in range(0, len(grids), batch_size):
        part = slice(start, start + batch_size)
        # Upsampling is separable, and the crop picks rows of the two matrices.
        cropped_vertical = vertical[rows[part, None] + down]
        cropped_horizontal = horizontal[columns[part, None] + across]
        yield cropped_vertical @ grids[part].to(images.dtype) @ cropped_horizontal.mT


def _cell_size(side: int, cells: int) -> int:
    return -(-side // cells)


@lru_cache(maxsize=8)
def _upsampling_matrix(cells: int, cell_size: int) -> Tensor:
    """The matrix of bilinear upsampling along one side, ((s + 1) cell_size, s) float64; each row sums to 1."""
    # The matrix is cached. A tensor made under inference_mode could never be used for a gradient afterwards.
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
