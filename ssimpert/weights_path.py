"""Whether a file of weights is there. Asked before torch or any network is loaded, so this file imports neither."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ssimpert.errors import InputError

RANDOM = "random"
"""What stands for random weights in place of a file."""


def check_weights_path(weights: str | PathLike[str] | None) -> None:
    """Raise :class:`InputError` unless ``weights`` is ``None``, "random", or the path of a file."""
    if weights is None or weights == RANDOM:
        return
    path = Path(weights)
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "is no plain file" if path.exists() else "does not exist"
        raise InputError(
            f"weights file {str(path)!r} {fault}; give a .pth, .pt or .safetensors state dict, or 'random'"
        )
