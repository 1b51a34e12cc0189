"""The ball in linearised features, against its matrix written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers import FeatureBall, LinearOperator, ProblemError

Draw = Callable[..., Tensor]
SHAPE = (2, 3, 4)


def operator(matrices: Tensor, dtype: torch.dtype | None = None) -> LinearOperator:
    """J of each image written out: (B, F, C*H*W)."""

    def forward(image: Tensor) -> Tensor:
        return torch.einsum("bfn,bn->bf", matrices.to(image.dtype), image.flatten(1))

    def adjoint(features: Tensor) -> Tensor:
        return torch.einsum("bfn,bf->bn", matrices.to(features.dtype), features).reshape(-1, *SHAPE)

    return LinearOperator(forward, adjoint, dtype)


def test_excess_is_feature_distance_less_radius(normal: Draw) -> None:
    matrices, delta = normal(2, 5, 24), normal(2, *SHAPE)
    bound = FeatureBall(torch.tensor([1.0, 2.0]), operator(matrices)).bind(delta)
    expected = [
        np.linalg.norm(j.numpy() @ d.numpy().reshape(-1)) - r
        for j, d, r in zip(matrices, delta, (1.0, 2.0), strict=True)
    ]
    np.testing.assert_allclose(bound.excess(delta), expected, rtol=1e-12)


def test_scale_factor_is_the_largest_admissible(normal: Draw) -> None:
    delta = normal(2, *SHAPE)
    bound = FeatureBall(0.5, operator(normal(2, 5, 24))).bind(delta)
    factor = bound.scale_factor(delta).reshape(-1, 1, 1, 1)
    assert bool((bound.excess(factor * delta) <= 1e-14).all())
    assert bool((bound.excess(1.0001 * factor * delta) > 0).all())
    assert bound.scale_factor(1e-6 * delta).tolist() == [1.0, 1.0]


def test_block_acts_by_the_transpose_and_costs_radius_times_norm(normal: Draw) -> None:
    matrices, block = normal(2, 5, 24), normal(2, 5)
    bound = FeatureBall(0.5, operator(matrices)).bind(torch.zeros(2, *SHAPE, dtype=torch.float64))
    expected = np.stack([j.numpy().T @ y.numpy() for j, y in zip(matrices, block, strict=True)])
    np.testing.assert_allclose(bound.adjoint(block).flatten(1), expected, rtol=1e-12)
    np.testing.assert_allclose(bound.dual_value(block), 0.5 * np.linalg.norm(block, axis=1), rtol=1e-12)
    assert bound.support(torch.zeros(2, *SHAPE, dtype=torch.float64)) is None


def test_matrix_is_written_out_image_by_image(normal: Draw) -> None:
    matrices = normal(2, 5, 24)
    bound = FeatureBall(1.0, operator(matrices)).bind(torch.zeros(2, *SHAPE, dtype=torch.float64))
    for image in range(2):
        np.testing.assert_array_equal(bound.matrix(image), matrices[image])


def test_selected_images_keep_their_own_matrix_and_radius(normal: Draw) -> None:
    matrices, delta, block = normal(3, 5, 24), normal(2, *SHAPE), normal(2, 5)
    ball = FeatureBall(torch.tensor([1.0, 2.0, 3.0]), operator(matrices)).select(torch.tensor([2, 0]), 3)
    bound = ball.bind(delta)
    assert bound.radius.tolist() == [3.0, 1.0]
    np.testing.assert_allclose(
        bound.jacobian.apply(delta), torch.einsum("bfn,bn->bf", matrices[[2, 0]], delta.flatten(1)), rtol=1e-12
    )
    np.testing.assert_allclose(
        bound.adjoint(block).flatten(1), torch.einsum("bfn,bf->bn", matrices[[2, 0]], block), rtol=1e-12
    )


def test_products_are_computed_in_the_dtype_asked_for(normal: Draw) -> None:
    seen: list[torch.dtype] = []

    def forward(image: Tensor) -> Tensor:
        seen.append(image.dtype)
        return image.flatten(1)

    narrow = LinearOperator(forward, lambda u: u.reshape(-1, *SHAPE), torch.float32)
    result = narrow.apply(normal(1, *SHAPE))
    assert seen == [torch.float32]
    assert result.dtype == torch.float64


@pytest.mark.parametrize(
    ("radius", "message"),
    [
        (0.0, "radius must be positive and finite, got 0.0"),
        (math.nan, "radius must be positive and finite, got nan"),
        (torch.ones(1, 1), r"one number, or one per image \(B,\), got shape \(1, 1\)"),
    ],
)
def test_bad_radii_are_named(radius: float | Tensor, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        FeatureBall(radius, operator(torch.zeros(1, 5, 24)))


def test_products_of_the_wrong_shape_are_refused(normal: Draw) -> None:
    x = torch.zeros(2, *SHAPE)
    with pytest.raises(ProblemError, match=r"must return \(B, F\) for images \(2, 2, 3, 4\), got \(2, 2, 3, 4\)"):
        FeatureBall(1.0, LinearOperator(lambda v: v, lambda u: u)).check(x)
    with pytest.raises(ProblemError, match=r"adjoint must return images \(2, 2, 3, 4\), got \(2, 24\)"):
        FeatureBall(1.0, LinearOperator(lambda v: v.flatten(1), lambda u: u)).check(x)
    with pytest.raises(ProblemError, match="radius has 3 values for a batch of 2"):
        FeatureBall(torch.ones(3), operator(normal(2, 5, 24))).check(x)
