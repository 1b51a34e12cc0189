"""Maps, measures and tables of one model. A spawned process imports this module."""

from __future__ import annotations

from pathlib import Path

import torch

import ssimpert
from examples.results.maps import composites_of, make_maps
from examples.results.measures import measure
from examples.results.methods import ALL, BENCHED, FULL
from examples.results.report import tables


def tables_of(name: str, *, images: int, forward: str, folder: Path) -> dict[str, str]:
    """All tables of one model by title, on one thread."""
    torch.set_num_threads(1)
    model = ssimpert.load_model(name, device="cpu")
    composites = composites_of(model, images)
    passes = model if forward == "torch" else ssimpert.onnx_classifier(model, composites.images[:1])
    make_maps(model, passes, composites.images, folder / name, list(ALL))
    table = measure(model, passes, composites, folder / name, list(ALL), benched=[*FULL, *BENCHED])
    return {f"{name}: {title}": text for title, text in tables(table, folder / name).items()}
