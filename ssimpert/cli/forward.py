"""The names of what may pass images where no gradient is needed; apart, since ``--help`` loads no torch."""

from __future__ import annotations

from enum import StrEnum


class ForwardName(StrEnum):
    TORCH = "torch"
    ONNX = "onnx"
