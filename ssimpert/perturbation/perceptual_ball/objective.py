"""The objective of the perceptual ball (Elliott, Law, Russell, CVPR 2021, arXiv 1912.09405), image by image::

    gamma sum_l MSE(phi_l(x'), phi_l(x)) + s MSE(x', x) + (f_c(x') - max_{j != c} f_j(x') - v)^2

x' are normalised pixels, as the network takes them. For several classes T the last term is
``(max_{t in T} f_t(x') - v)^2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssimpert.linearization.deep_features import Features
from ssimpert.linearization.margins import Membership, Untargeted
from ssimpert.models.forward_passes import (
    CHUNK,
    check_logits,
    detached,
    gradient_at,
    gradients_enabled,
    in_chunks,
    model_dtype,
)

MarginTerm = Literal["equality", "hinge"]


class BallTerms(NamedTuple):
    """The terms of the objective at a batch of points.

    Attributes:
        feature, pixel, margin: (B,) each, with their weights; the objective is their sum.
        squared_distance: ``|phi(x') - phi(x)|^2``, (B,), without weight.
        logits: (B, K), of the points.
    """

    feature: Tensor
    pixel: Tensor
    margin: Tensor
    squared_distance: Tensor
    logits: Tensor

    def total(self) -> Tensor:
        """The objective, (B,)."""
        return self.feature + self.pixel + self.margin


@dataclass(frozen=True, eq=False)
class BallObjective:
    """The objective at a batch's images; made by :func:`ball_objective`.

    Attributes:
        features: phi, with ``normalization="mse"``, of the network on normalised pixels.
        original: x, (B, C, H, W), normalised.
        original_features: phi(x), (B, F).
        label: c, (B,) long.
        targets: T, or ``None`` for the margin of c.
        gamma: (B,), the weight of the features.
        s, v: the weight of the pixels, and the margin.
        margin_term: "equality" as written above; "hinge" replaces the last term by ``max(... - v, 0)^2``.
    """

    features: Features
    original: Tensor
    original_features: Tensor
    label: Tensor
    targets: tuple[int, ...] | None
    gamma: Tensor
    s: float
    v: float
    margin_term: MarginTerm

    def terms(self, points: Tensor, images: Tensor) -> BallTerms:
        """The terms at ``points`` (K, C, H, W), normalised, of the images at indices ``images``, (K,).

        The terms are differentiable and have the network's dtype.
        """
        points = points.to(self.original.dtype)
        features, output = self.features.with_output(points)
        logits = check_logits(output, self.features.model, points)
        gap = self.score(logits, images) - self.v
        gap = gap.clamp_min(0) if self.margin_term == "hinge" else gap
        distance = (features - self.original_features[images]).square().sum(dim=1)
        return BallTerms(
            feature=self.gamma[images] * distance,
            pixel=self.s * (points - self.original[images]).square().flatten(1).mean(dim=1),
            margin=gap.square(),
            squared_distance=distance,
            logits=logits,
        )

    def value(self, points: Tensor, images: Tensor, *, chunk: int = CHUNK) -> BallTerms:
        """:meth:`terms` without gradient, in chunks."""

        def terms_of(batch: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
            with torch.no_grad():
                return self.terms(batch, indices)

        return BallTerms(*in_chunks(terms_of, points, images, chunk=chunk))

    def gradient(self, points: Tensor, images: Tensor, *, chunk: int = CHUNK) -> tuple[Tensor, BallTerms]:
        """The gradient, (K, C, H, W), and the terms, in chunks."""

        def gradient_of(batch: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
            with gradients_enabled():
                leaf = detached(batch).requires_grad_(True)
                terms = self.terms(leaf, indices)
                gradient = gradient_at(leaf, terms.total(), self.features.model)
            return gradient, *(term.detach() for term in terms)

        gradient, *terms = in_chunks(gradient_of, points, images, chunk=chunk)
        return gradient, BallTerms(*terms)

    def score(self, logits: Tensor, images: Tensor) -> Tensor:
        """The score that the margin term drives to v, (K,), from logits (K, classes)."""
        if self.targets is None:
            return -Untargeted()(logits, self.label[images])
        return logits[:, list(self.targets)].amax(dim=1)


def ball_objective(
    features: Features,
    original: Tensor,
    label: Tensor,
    *,
    targets: tuple[int, ...] | None = None,
    gamma: float = 1e4,
    s: float = 1.0,
    v: float = -2.0,
    margin_term: MarginTerm = "equality",
) -> BallObjective:
    """The objective around clean images; the defaults are the paper's values.

    Args:
        features: phi, of the network on normalised pixels.
        original: x, (B, C, H, W), normalised.
        label: c, (B,) long.
        targets, s, v, margin_term: as in :class:`BallObjective`.
        gamma: the weight of the features, for all images.
    """
    original = original.detach().to(model_dtype(features.model))

    def features_of(batch: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (features(batch),)

    (original_features,) = in_chunks(features_of, original, chunk=CHUNK)
    weight = torch.full((len(label),), gamma, dtype=original_features.dtype, device=original_features.device)
    return BallObjective(
        features=features,
        original=original,
        original_features=original_features,
        label=label,
        targets=targets,
        gamma=weight,
        s=s,
        v=v,
        margin_term=margin_term,
    )


def success_margin(targets: tuple[int, ...] | None) -> Untargeted | Membership:
    """The margin that decides about success: another class than c, or a decision on the other side of T's boundary."""
    return Untargeted() if targets is None else Membership(targets)
