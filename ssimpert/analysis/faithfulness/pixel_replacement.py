"""Pixels replaced in the order of a map's ranks, and the class's probability after each step."""

from __future__ import annotations

import torch
from torch import Tensor

from ssimpert.analysis.attributions.class_targets import Model


def pixel_ranks(maps: Tensor) -> Tensor:
    """The rank of each pixel, 0 for the highest to H*W - 1: (B, H, W) -> (B, H, W) int64.

    Equal values rank in row-major order.
    """
    flat = maps.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).reshape(maps.shape)


def passes_over(ranks: Tensor, steps: int, batch_size: int, one_by_one: bool) -> list[Tensor]:
    """The pairs of an image and a step that go through the model together, in turn.

    The number of a pair is (image * steps + step). A pass has at most ``batch_size`` pairs; ``one_by_one``: of a single
    image.
    """
    pairs = torch.arange(len(ranks) * steps, device=ranks.device)
    group_size = steps if one_by_one else max(1, len(pairs))
    return [part for group in pairs.split(group_size) for part in group.split(batch_size)]


def scores_after(
    logits_of: Model,
    before: Tensor,
    after: Tensor,
    ranks: Tensor,
    classes: Tensor,
    to_score: range,
    step: int,
    passes: list[Tensor],
) -> Tensor:
    """The probabilities after k steps for each k in ``to_score``: (B, len(to_score)) float64.

    Args:
        logits_of: images -> logits (B, K).
        before: (B or 1, C, H, W), the pixels that have not changed yet.
        after: (B or 1, C, H, W), the pixels that have changed.
        ranks: (B, H, W), the order in which the pixels change.
        classes: (B,), the class of each image.
        to_score: the numbers of steps after which there is a score.
        step: how many pixels change in a step.
        passes: from :func:`_passes`, the pairs of an image and a number of steps that go together.
    """
    parts = []
    for pairs in passes:
        image, steps = pairs // len(to_score), pairs % len(to_score) + to_score.start
        has_changed = _rows(ranks, image) < (steps * step)[:, None, None]
        mixed = torch.where(has_changed[:, None], _rows(after, image), _rows(before, image))
        parts.append(class_probabilities(logits_of(mixed), classes[image]))
    return torch.cat(parts).reshape(len(ranks), len(to_score))


def _rows(values: Tensor, indices: Tensor) -> Tensor:
    """``values[indices]``; a single row broadcasts and is not copied."""
    return values if len(values) == 1 else values[indices]


def class_probabilities(logits: Tensor, classes: Tensor) -> Tensor:
    """The softmax probability of each image's class: logits (B, K) and classes (B,) -> (B,) float64."""
    return logits.double().softmax(dim=1).gather(1, classes[:, None])[:, 0]
