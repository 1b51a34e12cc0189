"""Records of what was done: objects as plain values, and plain values as strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

import solvers


def describe(value: Any) -> Any:
    """A frozen dataclass as plain values for JSON: its class's name under ``kind``, then its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {
            entry.name: describe(getattr(value, entry.name)) for entry in fields(value)
        }
    if isinstance(value, Tensor):
        return value.tolist() if value.ndim < 2 else f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple):
        return [describe(entry) for entry in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return getattr(value, "__name__", type(value).__name__)


def describe_settings(settings: solvers.Settings) -> dict[str, Any]:
    """What decides how far solves go, as plain values for JSON."""
    return {"eps_rel": settings.eps_rel, "eps_abs": settings.eps_abs, "max_iter": settings.max_iter}


def json_values(value: Any) -> Any:
    """``value`` as JSON has it: tuples as lists, keys as strings, ``None`` for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): json_values(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(record: Any) -> str:
    """Strict JSON, indented."""
    return json.dumps(json_values(record), indent=2, allow_nan=False)
