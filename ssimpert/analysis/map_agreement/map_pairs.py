"""Maps paired with class activation maps, and the reasons why a comparison of the two is undefined.

A map that is constant, empty or not finite says nothing about *where* (:mod:`ssimpert.analysis.degenerate_maps`).
Nothing can agree with such a map, so every metric is NaN for it. Single metrics have further reasons
(:mod:`ssimpert.analysis.map_agreement.metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import all_finite
from ssimpert.analysis.degenerate_maps import is_constant
from ssimpert.errors import InputError
from ssimpert.validation import check_maps

Faults = dict[str, Tensor]
"""Reason -> (B,) bool, True for the images that have this fault. An image gets the first reason that holds for it."""


@dataclass(frozen=True, eq=False)
class MapPair:
    """Maps and class activation maps, flat (B, H*W) in float64 on the maps' device.

    Attributes:
        maps: the values of the maps; zeros for every image that has a fault.
        cam: the values of the class activation maps; zeros for every image that has a fault.
        faults: what makes every metric undefined.
    """

    maps: Tensor
    cam: Tensor
    faults: Faults


def paired(maps: Tensor, cam: Tensor, names: tuple[str, str] = ("maps", "cam")) -> MapPair:
    """Check two batches of maps (B, H, W), float32 or float64, and pair them. Error messages call them by ``names``."""
    check_maps(names[0], maps)
    check_maps(names[1], cam)
    if maps.shape != cam.shape:
        raise InputError(f"the maps must have the same shape, got {tuple(maps.shape)} and {tuple(cam.shape)}")
    if maps.device != cam.device:
        raise InputError(f"{names[0]} are on {maps.device}, {names[1]} on {cam.device}; bring both to one device")
    first, second = maps.detach().double().flatten(1), cam.detach().double().flatten(1)
    faults = {**_faults("map", first), **_faults("CAM", second)}
    usable = defined(faults)[:, None]
    zero = first.new_zeros(())
    return MapPair(torch.where(usable, first, zero), torch.where(usable, second, zero), faults)


def defined(faults: Faults) -> Tensor:
    """(B,) bool: True for the images that have no fault."""
    return ~torch.stack(list(faults.values())).any(dim=0)


def first_reasons(faults: Faults) -> tuple[str, ...]:
    """For each image the first reason that holds, or ``""``. The call waits for the device."""
    columns = torch.stack(list(faults.values())).t().tolist()
    return tuple(next((reason for reason, holds in zip(faults, row, strict=True) if holds), "") for row in columns)


def _faults(name: str, flat: Tensor) -> Faults:
    if flat.shape[1] == 0:
        return {f"{name} has no pixels": torch.ones(flat.shape[0], dtype=torch.bool, device=flat.device)}
    return {
        f"{name} is not finite": ~all_finite(flat),
        f"{name} is zero everywhere": (flat == 0).all(dim=1),
        f"{name} is constant": is_constant(flat),
    }
