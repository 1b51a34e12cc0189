"""Which other classes are near, to first order, under a constraint set?"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import norm
from solvers.constraints import Constraint
from ssimpert.linearization import LabelWins, linearize
from ssimpert.models.forward_passes import Model, forward


def nearest_class(
    model: Model,
    image: Tensor,
    label: Tensor,
    constraint: Constraint,
    *,
    candidates: int = 10,
    support: Tensor | None = None,
) -> Tensor:
    """The class k != y with the least ``(f_y - f_k) / max <grad (f_k - f_y), d>`` over the set, per image, (B,) long.

    Arguments as for :func:`class_distances`, whose first class it is.
    """
    return class_distances(model, image, label, constraint, candidates=candidates, support=support)[0][:, 0]


def class_distances(
    model: Model,
    image: Tensor,
    label: Tensor,
    constraint: Constraint,
    *,
    candidates: int = 10,
    support: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Other classes, nearest first to first order, and how far they are: (B, N) long and (B, N) float64, in units of
    the set's size; N is ``candidates`` or all other classes.

    The step of DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, equation 8) for any set. The runner-up is often
    *not* the nearest: rocket's is 0.049 away in l2, to first order, its third class 0.015 (efficientnet-lite0).

    Args:
        image: (B, C, H, W); label: y, (B,) long, the model's own labels.
        candidates: so many classes are tried, those of largest logits.
        support: where pixels may change, as for :func:`~ssimpert.perturb`; default everywhere.
    """
    logits = forward(model, image)
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label[:, None], True)
    count = min(candidates, logits.shape[1] - 1)
    classes = logits.masked_fill(own, -torch.inf).topk(count, dim=1).indices
    reference = image.to(torch.float64)
    bound = constraint.bind(reference)
    reaches, sizes, margins, distances = [], [], [], []
    for k in range(count):
        linear = linearize(model, reference, classes[:, k], LabelWins())
        gradient = linear.gradient if support is None else linear.gradient * support.to(linear.gradient.device)
        reach = bound.support(gradient)
        reaches.append(torch.full_like(linear.value, torch.inf) if reach is None else reach)
        sizes.append(norm(gradient))
        margins.append(-linear.value)
    # A set that is unbounded by itself says nothing; the gradient's norm does, then for all classes of an image.
    sound = [reach.isfinite() | ~size.isfinite() for reach, size in zip(reaches, sizes, strict=True)]
    bounded = torch.stack(sound).all(dim=0)
    for reach, size, margin in zip(reaches, sizes, margins, strict=True):
        reach = torch.where(bounded, reach, size)
        distance = margin / reach.clamp_min(torch.finfo(reach.dtype).tiny)
        distances.append(torch.where(distance.isnan(), torch.inf, distance))
    nearest, order = torch.stack(distances, dim=1).sort(dim=1, stable=True)
    return classes.gather(1, order), nearest
