"""Gradients against a classifier whose gradient is known, and what happens when memory runs out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssimpert.linearization import Untargeted, linearize
from ssimpert.models.forward_passes import forward


class LinearClassifier(torch.nn.Module):
    """``logits = W x``; the untargeted margin's gradient is ``w_runner_up - w_own``."""

    def __init__(self, classes: int = 4, pixels: int = 3 * 5 * 6, most: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(classes, pixels, generator=torch.Generator().manual_seed(0)))
        self.most = most
        self.batches: list[int] = []
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        if self.most is not None and len(images) > self.most:
            raise torch.OutOfMemoryError("no room")
        return images.flatten(1) @ self.weight.t()


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 5, 6, generator=torch.Generator().manual_seed(1))


def test_gradient_is_that_of_the_runner_up_less_the_own_class() -> None:
    model, batch = LinearClassifier(), images(3)
    logits = forward(model, batch)
    label = logits.argmax(dim=1)
    result = linearize(model, batch, label, Untargeted())
    runner_up = logits.scatter(1, label[:, None], -torch.inf).argmax(dim=1)
    expected = (model.weight[runner_up] - model.weight[label]).reshape(batch.shape)
    torch.testing.assert_close(result.gradient, expected)
    assert not result.gradient.requires_grad


def test_gradient_keeps_the_images_dtype_and_needs_no_grad_mode() -> None:
    model, batch = LinearClassifier(), images(2).double()
    with torch.no_grad():
        result = linearize(model, batch, torch.tensor([0, 1]), Untargeted())
    assert result.gradient.dtype == torch.float64
    assert result.value.dtype == torch.float64


def test_out_of_memory_halves_the_chunk_and_goes_on() -> None:
    model, batch = LinearClassifier(most=2), images(7)
    label = torch.zeros(7, dtype=torch.long)
    result = linearize(model, batch, label, Untargeted())
    model.most = None
    whole = linearize(model, batch, label, Untargeted())
    torch.testing.assert_close(result.gradient, whole.gradient)
    assert max(size for size in model.batches[1:-1]) > 2  # it did run out, and more than once


def test_a_single_image_that_does_not_fit_raises() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        linearize(LinearClassifier(most=0), images(1), torch.tensor([0]), Untargeted())


def test_images_do_not_influence_one_another() -> None:
    model, batch = LinearClassifier(), images(5)
    label = torch.tensor([0, 1, 2, 3, 0])
    together = linearize(model, batch, label, Untargeted(), chunk=2).gradient
    alone = torch.cat([linearize(model, batch[k : k + 1], label[k : k + 1], Untargeted()).gradient for k in range(5)])
    torch.testing.assert_close(together, alone)
