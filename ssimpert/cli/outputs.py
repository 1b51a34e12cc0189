"""What a command writes: pictures, arrays and a JSON record of what holds for the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssimpert.atomic_files import write_atomically
from ssimpert.data import load_image, save_array, save_image
from ssimpert.errors import InputError
from ssimpert.metrics import contrast_distance, ssim
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation import PerturbResult, QuantizedResult, quantize
from ssimpert.perturbation.evaluation import least_window_ssim
from ssimpert.perturbation.quantization.pixel_grid import nearest_grey_values, pixels_of
from ssimpert.records import json_text


def write_images(
    model: nn.Module, image: Tensor, result: PerturbResult, folder: Path, *, png_keeps_goal: bool = False
) -> dict[str, Any]:
    """Write ``adversarial.png`` and ``adversarial.npy``; return what holds for the PNG, read again from disk.

    Rounding to 8 bits moves every pixel by up to 1/510 and may undo a tight perturbation. The array is exact. A
    quantized result has 8-bit pixels already, so its PNG equals it.

    Args:
        model: the classifier, images (B, C, H, W) -> logits (B, K).
        image: the clean image, (1, C, H, W) in [0, 1].
        result: the perturbation of ``image``.
        folder: an existing folder for the files.
        png_keeps_goal: whether the PNG is quantized (:func:`ssimpert.quantize`) where rounding would undo a result that
            reached its goal; where quantisation can't regain the goal either, the PNG is the rounded result.

    Returns:
        For the PNG: whether its ``pixels`` are "rounded" or "quantized", whether it reaches the goal, its label and
        margin, and its distances from the clean image.
    """
    save_array(result.adversarial, folder / "adversarial.npy")
    picture, pixels = result.adversarial, "quantized" if isinstance(result, QuantizedResult) else "rounded"
    if png_keeps_goal and pixels == "rounded" and bool(result.success):
        rounded = pixels_of(nearest_grey_values(picture), image.dtype)
        if not bool(result.margin(forward(model, rounded), result.label) > 0):
            quantized = quantize(model, image, result)
            if bool(quantized.success):
                picture, pixels = quantized.adversarial, "quantized"
    saved = write_png(picture, folder)
    logits = forward(model, saved)
    margin = result.margin(logits, result.label)
    return {
        "pixels": pixels,
        "success": bool(margin > 0),
        "label": int(logits.argmax(dim=1)),
        "margin": float(margin),
        "ssim": float(ssim(image, saved, data_range=1.0)),
        "min_window_ssim": float(least_window_ssim(image, saved, result.constraint)),
        "contrast_distance": float(contrast_distance(image, saved)),
    }


def write_png(picture: Tensor, folder: Path) -> Tensor:
    """Write ``adversarial.png`` of a picture (1, C, H, W) in [0, 1], and return the picture that the file has."""
    return load_image(save_image(picture, folder / "adversarial.png"), dtype=picture.dtype).to(picture.device)


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write ``record`` to ``path`` as strict JSON, whole or not at all; NaN and infinity become null.

    Raises:
        InputError: the file can't be written.
    """
    try:
        write_atomically(path, f"{json_text(record)}\n".encode())
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error
