"""The maps of all methods for one model's composites. They are kept in a folder, so that a second run can continue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ssimpert
from examples.results.methods import ALL, Setting


def composites_of(model: ssimpert.Classifier, count: int) -> ssimpert.data.CompositeSet:
    """The first ``count`` composites that ``model`` recognises."""
    return ssimpert.composites(count, seed=0, model=model)


def make_maps(
    model: ssimpert.Classifier,
    forward: ssimpert.Classifier | ssimpert.OnnxClassifier,
    images: Tensor,
    folder: Path,
    names: list[str],
) -> None:
    """Write NAME.pt for each method: ``maps`` by kind, the perturbations' ``rows``, and the ``seconds`` of CPU time.

    Args:
        model: the classifier.
        forward: the model or its ONNX copy, for methods without gradients.
        images: the composites, (N, 3, S, S).
        folder: where to write.
        names: the methods; a method whose file exists is not run again.
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
        torch.save(
            {"maps": {kind: values.float() for kind, values in maps.items()}, "rows": rows, "seconds": seconds}, part
        )
        part.rename(target)
        print(f"{model.name}: {name}, {seconds / len(images):.1f} s an image", flush=True)


def path_of(folder: Path, name: str) -> Path:
    """The file of the method called ``name``."""
    return folder / f"{name.replace(' ', '-').replace(',', '')}.pt"


def load(folder: Path, name: str) -> dict[str, Any]:
    """What :func:`make_maps` wrote for the method called ``name``."""
    return torch.load(path_of(folder, name), weights_only=True)
