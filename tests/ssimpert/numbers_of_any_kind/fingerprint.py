"""What a result holds, in a form that can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from torch import Tensor


def fingerprint(value: Any) -> Any:
    """What can be compared, with the type of every number; times and functions are left out."""
    if isinstance(value, Tensor):
        return "tensor", str(value.dtype), tuple(value.shape), value.detach().double().nan_to_num(-7.0).tolist()
    assert not isinstance(value, np.generic), f"a result holds {value!r}"
    if isinstance(value, np.ndarray):
        return "array", str(value.dtype), value.tolist()
    if isinstance(value, pd.DataFrame):
        return [str(kind) for kind in value.dtypes], value.astype(object).where(value.notna(), None).to_dict("list")
    if isinstance(value, Figure):
        return value.get_size_inches().tolist(), [_drawn(artist) for artist in value.findobj()]
    if is_dataclass(value) and not isinstance(value, type):
        names = [entry.name for entry in fields(value)]
        return type(value).__name__, {name: fingerprint(getattr(value, name)) for name in names if name != "seconds"}
    if isinstance(value, Mapping):
        return {key: fingerprint(entry) for key, entry in value.items() if key != "seconds"}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [fingerprint(entry) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return type(value).__name__, value if isinstance(value, (str, bytes, int, float, bool)) or value is None else ""


def _drawn(artist: Any) -> Any:
    """What an artist of a figure shows: a text, the places of a line, the places of a collection, or an image."""
    if isinstance(artist, Text):
        return artist.get_text()
    if isinstance(artist, Line2D):
        return artist.get_xydata().tolist()  # type: ignore[union-attr]
    if isinstance(artist, Collection):
        return [path.vertices.tolist() for path in artist.get_paths()]
    if isinstance(artist, AxesImage):
        return np.ma.getdata(artist.get_array()).tolist()  # type: ignore[arg-type]
    return type(artist).__name__
