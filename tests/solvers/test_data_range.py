"""A data range that can't be that of the pixels is refused at construction, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, Constraint, GlobalSSIM, LinearProblem, MeanSSIM, ProblemError, ProductSSIM, WindowSSIM

WINDOW = solvers.Window.uniform(4, stride=4)
SetOf = Callable[[float], Constraint]
SETS: dict[str, SetOf] = {
    "WindowSSIM": lambda data_range: WindowSSIM(0.9, WINDOW, data_range=data_range),
    "ProductSSIM": lambda data_range: ProductSSIM(0.9, WINDOW, data_range=data_range),
    "MeanSSIM": lambda data_range: MeanSSIM(0.9, WINDOW, data_range=data_range),
    "GlobalSSIM": lambda data_range: GlobalSSIM(0.1, pixel_scale=2 / data_range),
}
each_set = pytest.mark.parametrize("set_of", SETS.values(), ids=list(SETS))
kinds = pytest.mark.parametrize("kind", [solvers.LinearProblem, solvers.ProjectionProblem])


def pixels(low: float, high: float, batch: int = 1) -> Tensor:
    """Images (batch, 2, 8, 8) whose every channel reaches from ``low`` to ``high``."""
    x = torch.rand(batch, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, 0, 0], x[:, :, 5, 3] = 0, 1
    return low + (high - low) * x


def pose(x: Tensor, *sets: Constraint) -> LinearProblem:
    return LinearProblem(torch.ones_like(x), x, list(sets))


@each_set
@kinds
@pytest.mark.parametrize(
    ("low", "high", "data_range"),
    [
        (0, 255, 1.0),  # 8 bits
        (0, 4095, 1.0),  # 12 bits
        (0, 65535, 1.0),  # 16 bits
        (0, 65535, 255.0),
        (0, 4095, 255.0),
        (-1024, 3071, 1.0),  # CT numbers
        (-1024, 3071, 255.0),
        (1e6, 1e6 + 30, 1.0),  # an offset hides nothing
        (-0.5, 0.5, 0.1),
    ],
)
def test_ranges_that_can_not_be_right_are_refused(
    set_of: SetOf, kind: Any, low: float, high: float, data_range: float
) -> None:
    x, constraint = pixels(low, high), set_of(data_range)
    name = "pixel_scale" if isinstance(constraint, GlobalSSIM) else "data_range"
    with pytest.raises(ProblemError, match=rf"{constraint.kind} {name} is .*{data_range:g}, .* image 0 ") as caught:
        kind(torch.ones_like(x), x, [constraint, Box(-1e9, 1e9)])
    assert f"up to {high - low:.6g} apart" in str(caught.value)
    assert "65535 for 16" in str(caught.value)
    assert "\n" not in str(caught.value)


@each_set
@pytest.mark.parametrize(
    ("low", "high", "data_range"),
    [
        (0, 1, 1.0),
        (0, 255, 255.0),
        (0, 4095, 4095.0),
        (0, 65535, 65535.0),
        (-1, 1, 1.0),  # twice the range: often done
        (-0.2, 1.2, 1.0),  # resampling overshoots
        (0, 4, 1.0),  # the largest spread that is let pass
        (-1024, 3071, 4095.0),  # CT numbers
        (-1024, -900, 400.0),
        (0.5, 0.5 + 1e-6, 1e-4),  # a tiny contrast upon an offset
        (30000, 30050, 100.0),
        (1e6, 1e6 + 2, 1.0),  # values far outside of [0, 1], but no wider
        (0.5, 0.5, 1e-4),  # flat
        (0, 1, 255.0),  # a dark image of 8 bits
    ],
)
def test_ranges_that_can_be_right_are_taken(set_of: SetOf, low: float, high: float, data_range: float) -> None:
    x = pixels(low, high)
    assert pose(x, set_of(data_range)).defects == {}
    assert pose(x.float(), set_of(data_range)).defects == {}


def test_channels_may_have_offsets_of_their_own_where_windows_lie_within_channels() -> None:
    """But the global set has one window over all channels."""
    x = pixels(0, 1) + torch.tensor([0.0, 1000.0])[:, None, None]
    pose(x, WindowSSIM(0.9, WINDOW), ProductSSIM(0.9, WINDOW), MeanSSIM(0.9, WINDOW))
    with pytest.raises(ProblemError, match="up to 1001 apart"):
        pose(x, GlobalSSIM(0.1))


def test_one_image_of_a_batch_is_enough_and_is_named() -> None:
    x = pixels(0, 1, batch=3)
    x[2, 1] *= 255
    with pytest.raises(ProblemError, match="the pixels of image 2 lie up to 255 apart in a channel"):
        pose(x, WindowSSIM(0.9, WINDOW))
    with pytest.raises(ProblemError, match="the pixels of image 2 lie up to 255 apart"):
        LinearProblem(np.ones(x.shape), x.numpy(), [GlobalSSIM(0.1)])


def test_an_image_with_a_defect_does_not_stop_the_others() -> None:
    x = pixels(0, 1, batch=4)
    x[1] *= 255
    x[2, 0, 3, 3] = torch.nan
    x[3, 0, 3, 3] = torch.inf
    problem = pose(x, WindowSSIM(0.9, WINDOW), GlobalSSIM(0.1), Box())
    assert list(problem.defects) == [1, 2, 3]
    assert "reference reaches 255, outside the box [0, 1]" in problem.defects[1].reason


def test_every_set_of_an_intersection_is_asked() -> None:
    both = solvers.Intersection([WindowSSIM(0.9, WINDOW), solvers.LpBall(2, 1.0)])
    with pytest.raises(ProblemError, match="WindowSSIM data_range is 1"):
        pose(pixels(0, 255), both)
    with pytest.raises(ProblemError, match="WindowSSIM data_range is 1"):
        both.check_pixels(pixels(0, 255), torch.ones(1, dtype=torch.bool))


def test_the_constant_of_the_global_set_may_stand_for_the_range() -> None:
    """(127.5)^2 times the paper's constant and no scale say the same as the paper's constant and a scale of 1/127.5."""
    x, g = pixels(0, 255), torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    answers = [
        solvers.solve(LinearProblem(g, x, [constraint])).objective
        for constraint in (GlobalSSIM(0.1, pixel_scale=1 / 127.5), GlobalSSIM(0.1, 9e-4 * 127.5**2, pixel_scale=1.0))
    ]
    assert float(answers[0]) == pytest.approx(float(answers[1]), rel=1e-12)
    # A constant that is made negligible says nothing of the range.
    pose(pixels(0, 1), GlobalSSIM(0.1, constant=1e-12))
    with pytest.raises(ProblemError, match="pixel_scale is 2, for pixels with a range of 1, "):
        pose(x, GlobalSSIM(0.1, constant=1e-12))
