"""Sets, windows and steps in words."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import solvers
from ssimpert.report.conditions import conditions, constraint_in_words, least_window_in_words

TILES = solvers.Window.uniform(8, stride=8)


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (
            solvers.WindowSSIM(0.95, TILES),
            "SSIM ≥ 0.95 in every window (8x8 uniform, stride 8, border full; luminance 0.001)",
        ),
        (solvers.ProductSSIM(0.9, TILES), "SSIM ≥ 0.9 in every window (8x8 uniform, stride 8, border full)"),
        (
            solvers.MeanSSIM(0.99, solvers.Window.gaussian(1.5, 11, border="valid")),
            "mean SSIM ≥ 0.99 (11x11 Gaussian (sigma 1.5), stride 1, border valid)",
        ),
        (solvers.GlobalSSIM(0.005), "d2 ≤ 0.005 (one window, the whole image)"),
        (solvers.LpBall(math.inf, 0.5), "linf norm ≤ 0.5"),
        (solvers.LpBall(2, torch.tensor([0.5, 1.0])), "l2 norm ≤ 0.5 to 1, one for each image"),
        (
            solvers.Intersection([solvers.LpBall(2, 1.0), solvers.GlobalSSIM(0.1)]),
            "l2 norm ≤ 1 and d2 ≤ 0.1 (one window",
        ),
        (lambda images: solvers.LpBall(2, 0.5), "a set that a rule makes for each image"),
        (None, "no constraint set"),
    ],
)
def test_a_set_is_named_with_its_numbers(constraint: Any, words: str) -> None:
    assert constraint_in_words(constraint).startswith(words)


def test_recentring_and_steps_are_said() -> None:
    result: Any = SimpleNamespace(
        constraint=solvers.GlobalSSIM(0.005), settings={"recentred": True, "steps": 20, "engine": "recentred"}
    )
    assert conditions(result) == (
        "d2 ≤ 0.005 (one window, the whole image) around the current image at each step, at most 20 steps by recentred"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": 1e4, "layers": ["a", "b"], "steps": 100}, "the features' change weighed (layers a, b), at most 100"),
        ({"radius": [0.25], "layers": ["a"], "steps": 5}, "true feature distance ≤ 0.25 (layers a), at most 5 steps"),
        ({"radius": [0.25, 0.5], "layers": []}, "true feature distance ≤ 0.25 to 0.5, one for each image"),
        ({"level": "x", "steps": 5}, "no constraint set, at most 5 steps"),
    ],
)
def test_perceptual_balls_are_named_with_radius_and_layers(settings: dict[str, Any], words: str) -> None:
    result: Any = SimpleNamespace(constraint=None, settings=settings)
    assert conditions(result).startswith(words)


def test_the_least_window_need_not_be_one_of_the_sets() -> None:
    words = least_window_in_words(solvers.WindowSSIM(0.95, TILES))
    assert words.startswith("the least SSIM of all whole 8x8 uniform windows at stride 1, not only of the set's")
    assert least_window_in_words(solvers.LpBall(2, 1.0)) == (
        "the least SSIM of all whole 11x11 Gaussian (sigma 1.5) windows at stride 1"
    )
