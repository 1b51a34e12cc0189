"""Anderson mixing against a plain version with lists, and what it is for."""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.methods.dual.anderson import RIDGE, AndersonAcceleration


def naive(points: list[Tensor], residuals: list[Tensor], weight: Tensor, memory: int) -> Tensor:
    """The mixed step of one image (n,) from all iterates so far, the last of them the present one."""
    pairs = list(zip(points[:-1], points[1:], residuals[:-1], residuals[1:], strict=True))[-memory:]
    if len(pairs) < 2:
        return residuals[-1]
    changes = torch.stack([after - before for _, _, before, after in pairs], dim=1)
    moves = torch.stack([q - p + after - before for p, q, before, after in pairs], dim=1)
    gram = changes.T @ (weight[:, None] * changes)
    size = gram.diagonal()
    gram = gram + torch.diag(RIDGE * (size + 1e-3 * size.sum()))
    return residuals[-1] - moves @ torch.linalg.solve(gram, changes.T @ (weight * residuals[-1]))


def test_steps_equal_the_plain_version_image_by_image() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = AndersonAcceleration(3)
    points: list[list[Tensor]] = [[], []]
    residuals: list[list[Tensor]] = [[], []]
    for _ in range(9):
        point, residual, weight = torch.randn(3, 2, 40, generator=generator, dtype=torch.float64)
        step = mixing.step(point, residual, weight.abs())
        for image in range(2):
            points[image].append(point[image])
            residuals[image].append(residual[image])
            expected = naive(points[image], residuals[image], weight[image].abs(), 3)
            torch.testing.assert_close(step[image], expected, rtol=1e-6, atol=1e-9)


def test_images_that_stay_keep_their_memory() -> None:
    generator = torch.Generator().manual_seed(1)
    both, one = AndersonAcceleration(3), AndersonAcceleration(3)
    for k in range(8):
        values = torch.randn(3, 2, 40, generator=generator, dtype=torch.float64)
        values[2].abs_()
        if k == 5:
            both.select(torch.tensor([1]))
        step = both.step(*(values if k < 5 else values[:, 1:]))
        torch.testing.assert_close(step[-1:], one.step(*values[:, 1:]), rtol=1e-9, atol=1e-12)


def test_a_linear_iteration_ends_in_a_few_steps() -> None:
    generator = torch.Generator().manual_seed(2)
    factor = torch.linspace(0.5, 0.99, 5, dtype=torch.float64)
    target, point = torch.randn(2, 1, 5, generator=generator, dtype=torch.float64)
    mixing = AndersonAcceleration(5)
    for _ in range(20):
        point = point + mixing.step(point, (1 - factor) * (target - point), torch.ones_like(point))
    # Plainly, the slowest part would still be at 0.99^20 = 0.82 of its distance.
    assert float((point - target).abs().max()) < 1e-3
