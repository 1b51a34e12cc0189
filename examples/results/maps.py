"""The maps of all methods for one model's composites, kept in a folder so that a second run goes on from there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from methods import ALL, Setting
from torch import Tensor

import ssimpert


def composites_of(model: ssimpert.Classifier, count: int) -> ssimpert.data.CompositeSet:
    return ssimpert.composites(count, seed=0, model=model)


def make_maps(
    model: ssimpert.Classifier,
    forward: ssimpert.Classifier | ssimpert.OnnxClassifier,
    images: Tensor,
    folder: Path,
    names: list[str],
) -> None:
    """Write NAME.pt for each method: ``maps`` by kind, ``rows`` and CPU ``seconds``.

    Args:
        forward: the model or its ONNX copy, for methods without gradients.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        label = torch.cat([model(part).argmax(dim=1) for part in images.split(8)])

    def norms(name: str) -> Tensor:
        return torch.tensor([row["l2_norm"] for row in load(folder, name)["rows"]], dtype=torch.float64)

    setting = Setting(model, forward, images, label, norms)
    for name in names:
        target = path_of(folder, name)
        if target.exists():
            continue
        began = time.process_time()
        maps, rows = ALL[name](setting)
        seconds = time.process_time() - began
        part = target.with_suffix(".part")
        torch.save({"maps": {k: v.float() for k, v in maps.items()}, "rows": rows, "seconds": seconds}, part)
        part.rename(target)
        print(f"{model.name}: {name}, {seconds / len(images):.1f} s an image", flush=True)


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '-').replace(',', '')}.pt"


def load(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(path_of(folder, name), weights_only=True)
