"""The least level of a ball of features is the length of J d, and takes one product where bisection took thirty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from ssimpert.perturbation.budget_search.levels import family_of, least_level

MATRIX = torch.randn(7, 3 * 4 * 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
REFERENCE = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
DELTA = 0.01 * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LENGTH = float(np.linalg.norm(MATRIX.numpy() @ DELTA.numpy().ravel()))


@pytest.mark.parametrize("within_l2", [False, True])
def test_the_least_level_of_a_feature_ball_takes_one_product(within_l2: bool) -> None:
    products = 0

    def forward(image: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return image.flatten(1) @ MATRIX.T

    ball = solvers.FeatureBall(
        1.0, solvers.LinearOperator(forward, lambda features: (features @ MATRIX).view(-1, 3, 4, 4))
    )
    family = family_of(solvers.Intersection([ball, solvers.LpBall(2, 1.0)]) if within_l2 else ball)
    assert least_level(family, REFERENCE, DELTA, 1.0) == pytest.approx(LENGTH, rel=1e-12)
    assert products == 1
    # What rounding moved out of the level's own set counts as inside.
    assert least_level(family, REFERENCE, DELTA, 0.999 * LENGTH) == 0.999 * LENGTH
    assert least_level(family, REFERENCE, 0 * DELTA, 1.0) > 0


def test_other_levels_are_found_by_bisection() -> None:
    family = family_of(solvers.LpBall(2, 1.0))
    assert least_level(family, REFERENCE, DELTA, 1.0) == pytest.approx(float(np.linalg.norm(DELTA.numpy())), rel=1e-8)
