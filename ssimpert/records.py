"""Records of how a result was made: objects as plain values, and plain values as strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

import solvers
from solvers.validation import plain


def describe(value: Any) -> Any:
    """``value`` as plain values for JSON.

    A dataclass becomes a dictionary: the name of its class under ``kind``, then its fields. An operator has products
    and not numbers: of these only the layers and the normalization of its features are kept. A tensor with at most one
    axis becomes a list, and a larger tensor a text that gives its shape. Any other object becomes its name.
    """
    if isinstance(value, solvers.LinearOperator):
        names = [name for name in ("layers", "normalization") if hasattr(value, name)]
        return {"kind": type(value).__name__} | {name: describe(getattr(value, name)) for name in names}
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {
            entry.name: describe(getattr(value, entry.name)) for entry in fields(value)
        }
    value = plain(value)
    if isinstance(value, (Tensor, np.ndarray)):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return value.tolist() if value.ndim < 2 else f"{kind} of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return [describe(entry) for entry in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return getattr(value, "__name__", type(value).__name__)


def describe_settings(settings: solvers.Settings) -> dict[str, Any]:
    """The settings that decide how far a solve goes, as plain values for JSON."""
    return {"eps_rel": settings.eps_rel, "eps_abs": settings.eps_abs, "max_iter": settings.max_iter}


def json_values(value: Any) -> Any:
    """``value`` with JSON's types.

    Tuples, arrays and tensors become lists, keys become strings, and NaN and infinity become ``None``.
    """
    if isinstance(value, Mapping):
        return {str(key): json_values(entry) for key, entry in value.items()}
    value = plain(value)
    if isinstance(value, (Tensor, np.ndarray)):
        return json_values(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_values(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(record: Any) -> str:
    """``record`` as strict JSON, indented; NaN and infinity become null."""
    return json.dumps(json_values(record), indent=2, allow_nan=False)
