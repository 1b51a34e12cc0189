"""Small inputs of the calls: a classifier, a transformer, images, maps, a perturbation, a comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert import analysis
from tests.ssimpert.analysis.example import SmallClassifier, example_images
from tests.ssimpert.toy_transformer import ToyTransformer

Calls = dict[str, tuple[Callable[..., Any], dict[str, Any]]]
"""For each public function how it is called, and a plain value for each option that takes a number.

Behind a colon stands what is special in a call, where a function has several. Most options have other values than their
defaults, so that an option which is ignored shows.
"""

SIDE = 16
BALL = solvers.LpBall(2, 0.5)
WINDOW = solvers.Window.uniform(7)
TOKEN_LAYER = "blocks.1.norm1"


class Model(SmallClassifier):
    """With a mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))


@cache
def model() -> Model:
    return Model()


@cache
def transformer() -> ToyTransformer:
    """One class token and 4x4 patches. Five prefix tokens are possible, too: they leave 3x4 patches."""
    return ToyTransformer(prefix=1, classes=4).float()


@cache
def image() -> Tensor:
    return example_images(2, size=SIDE)


@cache
def near() -> Tensor:
    noise = torch.randn(image().shape, generator=torch.Generator().manual_seed(3))
    return (image() + 0.02 * noise).clamp(0, 1)


@cache
def maps() -> Tensor:
    return torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@cache
def masks() -> Tensor:
    result = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    result[:, 4:9, 5:12] = True
    return result


@cache
def perturbed() -> Any:
    return ssimpert.perturb(model(), image(), BALL, steps=2)


@cache
def comparison() -> Any:
    return ssimpert.compare(model(), image(), perturbed(), insertion_deletion=64, shifts=200)


@cache
def tabled() -> pd.DataFrame:
    table = comparison().table(columns={"level": [0.5, 0.5]})
    few = table["method"].isin(["local std", "local variance"]) & table["metric"].isin(["pearson", "spearman"])
    return table[few].reset_index(drop=True)


@cache
def thresholded() -> Any:
    return analysis.thresholded_boxes(maps(), torch.tensor([[2.0, 3, 9, 8], [4, 4, 12, 11]]), "value")


@cache
def features() -> Any:
    return ssimpert.deep_features(model(), ["features.1"], "none")


@cache
def jacobian() -> Any:
    return ssimpert.feature_jacobian(features(), image())


def targets() -> Tensor:
    return torch.tensor([0, 0])
