"""``import torchvision`` beside a CPU-only torch, mended in one place, as soon as ``ssimpert`` is imported.

A torchvision wheel built for CUDA can't load its compiled part beside a CPU-only torch. Its Python part then stops with
"operator torchvision::nms does not exist", and so does every package that imports torchvision (timm, torchmetrics,
piq). Exactly this error is mended: the two operator schemas that torchvision's Python code refers to (``nms`` and
``qnms``) are declared, without kernels, and torchvision is run again. Models, transforms v2, datasets and feature
extraction then work; ``torchvision.ops.nms`` and ``torchvision.io`` remain unusable. Any other error passes through. A
torchvision that imports without this error is not changed.

How: ``import ssimpert`` puts a finder in front of ``sys.meta_path`` that knows the name "torchvision" alone. The finder
costs nothing until torchvision is imported, by whomever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_NAME = "torchvision"
_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# A library's declarations live as long as the object does, so it stays referenced here.
_declared: list[Any] = []


def mend_torchvision() -> None:
    """Let every later ``import torchvision`` succeed, also where its compiled operators can't be loaded.

    Calling this function again changes nothing, and neither does calling it after torchvision was imported.
    """
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


def is_mended() -> bool:
    """Whether torchvision was imported and needed mending; its compiled operators are then missing."""
    return bool(_declared)


class _TorchvisionFinder:
    """Finds torchvision where Python finds it, and loads it by :class:`_MendingLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _MendingLoader(fullname, spec.loader.path)
        return spec


class _MendingLoader(SourceFileLoader):
    """Runs torchvision; where an operator is missing, declares the operators and runs torchvision again."""

    def exec_module(self, module: ModuleType) -> None:
        at_first = dict(vars(module))
        try:
            super().exec_module(module)
        except RuntimeError as error:
            if _declared or _MISSING_OPERATOR not in str(error):
                raise
            _declare_operators()
            _forget_half_imported(module, at_first)
            super().exec_module(module)


def _declare_operators() -> None:
    import torch

    library = torch.library.Library(_NAME, "DEF")
    library.define(f"nms{_SCHEMA}")
    library.define(f"qnms{_SCHEMA}")
    _declared.append(library)


def _forget_half_imported(module: ModuleType, at_first: dict[str, Any]) -> None:
    """Forget the submodules and the attributes that a failed import leaves behind; the second would reuse them."""
    vars(module).clear()
    vars(module).update(at_first)
    for name in [name for name in sys.modules if name.startswith(f"{_NAME}.")]:
        del sys.modules[name]
