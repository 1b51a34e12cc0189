"""Crops of real photos with real gradients, for the standard problems.

``benchmarks/make_photos.py`` writes them: crops of scikit-image's samples at 224x224, and of the gradient of
efficientnet-lite0's decision margin there. Methods that do equally well on noise differ on photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Photo:
    """A crop and the margin's gradient, both (1, 3, size, size) float64; pixels are multiples of 1/255 in [0, 1]."""

    name: str
    image: Tensor
    gradient: Tensor


@lru_cache(maxsize=1)
def photo_names() -> tuple[str, ...]:
    """The names of the crops, ``content-size`` each; "dark" is a nearly black photo."""
    return tuple(dict.fromkeys(key.split("/")[0] for key in _arrays()))


def photo(name: str) -> Photo:
    """The crop called ``name``.

    Raises:
        KeyError: there is no such crop; the message lists those there are.
    """
    arrays = _arrays()
    if f"{name}/photo" not in arrays:
        raise KeyError(f"no photo {name!r}; there are {', '.join(photo_names())}")
    image = torch.from_numpy(arrays[f"{name}/photo"].astype(np.float64) / 255)
    gradient = torch.from_numpy(arrays[f"{name}/gradient"].astype(np.float64))
    return Photo(name, image[None], gradient[None])


@lru_cache(maxsize=1)
def _arrays() -> dict[str, np.ndarray]:
    with as_file(files("solvers.conformance") / "photos.npz") as path, np.load(path) as archive:
        return {key: archive[key] for key in archive.files}
