"""A small untrained classifier, made in milliseconds."""

from __future__ import annotations

import torch
from torch import nn

from ssimpert.models import Classifier

SIDE = 32


def small_classifier() -> Classifier:
    """Five classes of 32x32 images, so close together that small perturbations change the label. It is smooth: every
    pixel has a gradient."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.LazyLinear(5),
        )
        network(torch.zeros(1, 3, SIDE, SIDE))
    names = ("ant", "bee", "cat", "dog", "elk")
    return Classifier(network, name="small", input_size=SIDE, labels=names, mean=(0.5,) * 3, std=(0.5,) * 3)
