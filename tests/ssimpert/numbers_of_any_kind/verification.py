"""Calls that verify images."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

import solvers
import ssimpert
from tests.ssimpert.numbers_of_any_kind.inputs import SIDE, Calls, image


@cache
def rectified() -> nn.Module:
    """A network whose layers all have propagation rules."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 2, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(2 * (SIDE // 4) ** 2, 3)
    return nn.Sequential(*layers).eval()


BALL = solvers.LpBall(2, 1e-3)

CALLS: Calls = {
    "ssimpert.verify": (
        lambda **o: ssimpert.verify(rectified(), image(), BALL, effort="cheap", **o),
        {"time_limit": 1000.0, "memory_limit": 2**24},
    ),
    "ssimpert.certified_level": (
        lambda **o: ssimpert.certified_level(
            rectified(), image(), BALL, effort="cheap", **({"rounds": 1, "tolerance": 0.5} | o)
        ),
        {"time_limit": 1000.0, "memory_limit": 2**24, "rounds": 2, "tolerance": 0.25},
    ),
}
