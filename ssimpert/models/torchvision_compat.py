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

    A torchvision wheel built for CUDA beside a CPU-only torch can't load its compiled part, and its Python
    part then stops with "operator torchvision::nms does not exist" (as does whatever imports it: timm,
    torchmetrics, piq). Exactly that error is mended: the two operator schemas that torchvision's Python code
    refers to (``nms`` and ``qnms``) are declared, without kernels, and the import is done again. Models,
    transforms v2, datasets and feature extraction then work; ``torchvision.ops.nms`` and ``torchvision.io``
    stay unusable. Any other error passes through, and a torchvision that imports by itself is left alone.

    Call it before importing anything that imports torchvision.

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
    """Forget the submodules that a failed import leaves behind; the retry would believe them."""
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
