"""The mismatch between a CPU-only torch and the published torchvision wheel, built for CUDA, in one place."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# A library's declarations live as long as the object does, so it stays referenced here.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its compiled operators can't be loaded.

    A torchvision wheel built for CUDA can't load its compiled part beside a CPU-only torch. Its Python part then stops
    with "operator torchvision::nms does not exist", and so does every package that imports torchvision (timm,
    torchmetrics, piq). Exactly this error is mended: the two operator schemas that torchvision's Python code refers to
    (``nms`` and ``qnms``) are declared, without kernels, and the import is repeated. Models, transforms v2, datasets
    and feature extraction then work; ``torchvision.ops.nms`` and ``torchvision.io`` remain unusable. Any other error
    passes through. A torchvision that imports without this error is not changed.

    Call this function before importing any package that imports torchvision.

    Returns:
        The ``torchvision`` package.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    _purge_half_imported()
    if not _declared:
        library = torch.library.Library("torchvision", "DEF")
        library.define(f"nms{_SCHEMA}")
        library.define(f"qnms{_SCHEMA}")
        _declared.append(library)
    return importlib.import_module("torchvision")


def _purge_half_imported() -> None:
    """Forget the submodules that a failed import leaves behind; the second import would reuse them."""
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
