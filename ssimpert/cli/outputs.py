"""What a command writes: pictures, arrays and a JSON record of what holds for the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssimpert.data import load_image, save_array, save_image
from ssimpert.errors import InputError
from ssimpert.metrics import contrast_distance, ssim
from ssimpert.models.forward_passes import forward
from ssimpert.perturbation import PerturbResult
from ssimpert.perturbation.evaluation import least_window_ssim
from ssimpert.records import json_text


def prepare_folder(folder: Path) -> None:
    """Make ``folder`` and check that files can be written there, before any work starts.

    Raises:
        InputError: files can't be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"can't write to folder {str(folder)!r}: {error.strerror or error}") from error


def folders_for(names: list[str], out: Path) -> list[Path]:
    """A folder for each image: ``out`` for a single image, else ``out/NAME``, with a number where a name repeats."""
    if len(names) == 1:
        return [out]
    used_labels: list[str] = []
    for name in names:
        stem, number = Path(name).stem, 1
        while (label := stem if number == 1 else f"{stem}-{number}") in used_labels:
            number += 1
        used_labels.append(label)
    return [out / label for label in used_labels]


def write_images(model: nn.Module, image: Tensor, result: PerturbResult, index: int, folder: Path) -> dict[str, Any]:
    """Write ``adversarial.png`` and ``adversarial.npy``; return what holds for the PNG, read again from disk.

    Rounding to 8 bits moves every pixel by up to 1/510 and may undo a tight perturbation. The array is exact. A
    quantized result has 8-bit pixels already, so its PNG equals it.

    Args:
        model: the classifier, images (B, C, H, W) -> logits (B, K).
        image: the clean images, (B, C, H, W) in [0, 1].
        result: the perturbation of ``image``.
        index: which image, from 0.
        folder: an existing folder for the files.

    Returns:
        For the PNG: whether it reaches the goal, its label and margin, and its distances from the clean image.
    """
    adversarial = result.adversarial[index : index + 1]
    save_array(adversarial, folder / "adversarial.npy")
    saved = load_image(save_image(adversarial, folder / "adversarial.png"), dtype=image.dtype).to(image.device)
    original = image[index : index + 1]
    logits = forward(model, saved)
    margin = result.margin(logits, result.label[index : index + 1])
    return {
        "success": bool(margin > 0),
        "label": int(logits.argmax(dim=1)),
        "margin": float(margin),
        "ssim": float(ssim(original, saved, data_range=1.0)),
        "min_window_ssim": float(least_window_ssim(original, saved, result.constraint)),
        "contrast_distance": float(contrast_distance(original, saved)),
    }


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write ``record`` to ``path`` as strict JSON; NaN and infinity become null.

    Raises:
        InputError: the file can't be written.
    """
    try:
        path.write_text(json_text(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error
