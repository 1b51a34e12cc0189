"""What a command writes: pictures, arrays and a JSON record of what is true of the files."""

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
    """Make ``folder`` and see that it can be written to, before any work starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"can't write to folder {str(folder)!r}: {error.strerror or error}") from error


def folders_for(names: list[str], out: Path) -> list[Path]:
    """One folder an image: ``out`` itself for a single image, else ``out/NAME``, numbered where names repeat."""
    if len(names) == 1:
        return [out]
    taken: list[str] = []
    for name in names:
        stem, number = Path(name).stem, 1
        while (label := stem if number == 1 else f"{stem}-{number}") in taken:
            number += 1
        taken.append(label)
    return [out / label for label in taken]


def write_images(model: nn.Module, image: Tensor, result: PerturbResult, index: int, folder: Path) -> dict[str, Any]:
    """Write ``adversarial.png`` and ``adversarial.npy``; return what is true of the PNG, read back from disk.

    Rounding to 8 bits moves every pixel by up to 1/510 and may undo a tight perturbation; the array is exact. A
    quantized result is on the grid already, and its file equals it.
    """
    one = result.adversarial[index : index + 1]
    save_array(one, folder / "adversarial.npy")
    saved = load_image(save_image(one, folder / "adversarial.png"), dtype=image.dtype).to(image.device)
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
    """Write strict JSON; NaN and infinity become null."""
    try:
        path.write_text(json_text(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error
