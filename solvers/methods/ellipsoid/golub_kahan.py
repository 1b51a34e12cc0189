"""Golub-Kahan bidiagonalisation of a matrix known through products, and what follows from it for every multiplier.

Started at a vector g (Golub and Kahan 1965; Paige and Saunders, LSQR, 1982), k steps give orthonormal images
``v_1 = g/|g|, ..., v_(k+1)`` and features ``u_1, ..., u_(k+1)`` with

    J V_(k+1) = U_(k+1) B,      B upper bidiagonal: alpha on the diagonal, beta above it,
    J'U_k     = V_(k+1) M,      M the first k columns of B'.

So for every ``theta`` the point ``z = |g| V (I + theta M M')^-1 e_1`` is, *exactly*, ``g - J'y`` with the features
``y = theta U_k M'(V'z)``; ``|z|``, ``|y|`` and ``|J z|`` are known without a product. One run serves all multipliers.

Only the u are kept, and orthogonalised against one another in full; the v stay orthogonal with them (Simon and Zha,
2000). Memory: one feature vector a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image

# Feature vectors stored side by side; a product with them is one call.
CHUNK = 32
# theta is sought where theta times the largest eigenvalue lies between these powers of e; above, rounding takes over.
LEAST, LARGEST = -35.0, 34.0
# A new vector below this many roundings of what it was before orthogonalisation is none: the space is exhausted.
ROUNDINGS = 30.0


class GolubKahan:
    """The bidiagonalisation of K images at once; images whose space is exhausted go on with zeros.

    Attributes:
        size: |g|, (K,) float64.
        alphas: k + 1 diagonals, (K,) float64 each; betas: the k numbers above it.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], start: Tensor) -> None:
        """From ``start`` (K, C, H, W); products map images to features (K, F) and back, one per image."""
        self.forward, self.adjoint = forward, adjoint
        self.size = norm(start.double())
        self._image, _ = _unit(start, self.size, torch.zeros_like(self.size))
        self._first = self._image
        features = forward(self._image)
        alpha = norm(features.double())
        features, alpha = _unit(features, alpha, torch.zeros_like(alpha))
        self.alphas, self.betas = [alpha], list[Tensor]()
        self._last, self._chunks, self._filled = features, list[Tensor](), CHUNK
        self._store(features)

    @property
    def steps(self) -> int:
        """k."""
        return len(self.betas)

    @property
    def exhausted(self) -> Tensor:
        """Whether the images' spaces are complete, (K,) bool: what they give is exact."""
        return (self.alphas[-1] == 0) | (self.betas[-1] == 0) if self.betas else self.alphas[-1] == 0

    def step(self) -> None:
        """One more v and one more u: two products."""
        back = self.adjoint(self._last)
        image = back - per_image(self.alphas[-1].to(back.dtype)) * self._image
        self._image, beta = _unit(image, norm(image.double()), self._least(norm(back.double())))
        ahead = self.forward(self._image)
        features = ahead - beta.to(ahead.dtype)[:, None] * self._last
        for chunk in self._chunks:
            features = features - torch.einsum("ksf,ks->kf", chunk, torch.einsum("ksf,kf->ks", chunk, features))
        self._last, alpha = _unit(features, norm(features.double()), self._least(norm(ahead.double())))
        self.betas.append(beta)
        self.alphas.append(alpha)
        self._store(self._last)

    def combine(self, weights: Tensor) -> Tensor:
        """``U w``, (K, F), for ``weights`` (K, up to k + 1)."""
        total = torch.zeros_like(self._last)
        for chunk, part in zip(self._chunks, weights.to(total.dtype).split(CHUNK, dim=1), strict=False):
            total = total + torch.einsum("ksf,ks->kf", chunk[:, : part.shape[1]], part)
        return total

    def replay(self, coefficients: Tensor) -> Tensor:
        """``V c``, (K, C, H, W), for ``coefficients`` (K, k + 1): the v are made again, one product each."""
        image, weights = self._first, coefficients.to(self._first.dtype)
        total = per_image(weights[:, 0]) * image
        features = (chunk[:, row] for chunk in self._chunks for row in range(CHUNK))
        for k, (alpha, beta, last) in enumerate(zip(self.alphas, self.betas, features, strict=False)):
            back = self.adjoint(last) - per_image(alpha.to(image.dtype)) * image
            # Divided as in step, so that rounding repeats itself.
            inverse = torch.where(beta > 0, 1 / beta.clamp_min(torch.finfo(beta.dtype).tiny), 0.0)
            image = back * per_image(inverse.to(back.dtype))
            total = total + per_image(weights[:, k + 1]) * image
        return total

    def narrow(self, keep: Tensor, forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> None:
        """Go on with the images at ``keep`` (long), with their products."""
        self.forward, self.adjoint = forward, adjoint
        self.size, self._last = self.size[keep], self._last[keep]
        self._first, self._image = self._first[keep], self._image[keep]
        self.alphas, self.betas = [a[keep] for a in self.alphas], [b[keep] for b in self.betas]
        self._chunks = [chunk[keep] for chunk in self._chunks]

    def _store(self, features: Tensor) -> None:
        if self._filled == CHUNK:
            self._chunks.append(features.new_zeros(features.shape[0], CHUNK, features.shape[1]))
            self._filled = 0
        self._chunks[-1][:, self._filled] = features
        self._filled += 1

    def _least(self, before: Tensor) -> Tensor:
        return ROUNDINGS * torch.finfo(self._last.dtype).eps * before


def _unit(value: Tensor, length: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """``value`` (K, ...) by its length, and the length (K,) float64; zeros where that is no more than ``least``."""
    length = torch.where(length > least, length, 0.0)
    inverse = torch.where(length > 0, 1 / length.clamp_min(torch.finfo(length.dtype).tiny), 0.0)
    return value * inverse.to(value.dtype).reshape(-1, *[1] * (value.ndim - 1)), length


@dataclass(frozen=True)
class Filtered:
    """z of one multiplier per image, all float64.

    Attributes:
        coefficients: of z in V, (K, k + 1).
        weights: of y in U_k, (K, k).
        length, feature_length, dual_length: ``|z|``, ``|J z|`` and ``|y|``, (K,).
    """

    coefficients: Tensor
    weights: Tensor
    length: Tensor
    feature_length: Tensor
    dual_length: Tensor


class Multipliers:
    """z for every multiplier, by the eigenvectors of ``M M'``: (K, k + 1) eigenvalues."""

    def __init__(self, run: GolubKahan) -> None:
        diagonal, above = torch.stack(run.alphas, dim=1), torch.stack(run.betas, dim=1)
        self.size = run.size
        self.bidiagonal = torch.diag_embed(diagonal) + torch.diag_embed(above, offset=1)
        self.adjoint = self.bidiagonal.mT[:, :, :-1]
        values, self.vectors = torch.linalg.eigh(self.adjoint @ self.adjoint.mT)
        self.values = values.clamp_min(0)
        # g in the eigenvectors, (K, k + 1). One eigenvalue is always 0; where g has no share in it (the space is
        # complete), what is left of that share is rounding, which a large theta would make the whole of z.
        share = self.vectors[:, 0]
        self.start = self.size[:, None] * torch.where(share.abs() > ROUNDINGS * torch.finfo(share.dtype).eps, share, 0)

    def ratio_root(self, ratio: Tensor) -> Tensor:
        """The theta, (K,), at which ``|y|/(theta |z|)`` is ``ratio`` (K,); 0 where it is less at 0 already."""
        return self._root(lambda shrunk: (self.values - ratio.square()[:, None]) * shrunk.square())

    def radius_root(self, radius: Tensor) -> Tensor:
        """The theta, (K,), at which ``|y|/theta`` is ``radius`` (K,); 0 where it is less at 0 already."""
        share = radius.square()[:, None] / self.values.shape[1]
        return self._root(lambda shrunk: self.values * shrunk.square() - share)

    def at(self, theta: Tensor) -> Filtered:
        """z and y at ``theta`` (K,)."""
        z = (self.vectors @ self._shrunk(theta)[:, :, None])[:, :, 0]
        weights = theta[:, None] * (self.adjoint.mT @ z[:, :, None])[:, :, 0]
        features = (self.bidiagonal @ z[:, :, None])[:, :, 0]
        lengths = [torch.linalg.vector_norm(value, dim=1) for value in (z, features, weights)]
        return Filtered(z, weights, *lengths)

    def _shrunk(self, theta: Tensor) -> Tensor:
        return self.start / (1 + theta[:, None] * self.values)

    def _root(self, terms: Callable[[Tensor], Tensor]) -> Tensor:
        """Bisection on log theta for a sum that is positive below the root and negative above it."""
        largest = self.values.amax(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        low, high = torch.full_like(largest, LEAST), torch.full_like(largest, LARGEST)
        for _ in range(60):
            middle = (low + high) / 2
            below = terms(self._shrunk(middle.exp() / largest)).sum(dim=1) > 0
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        at_zero = terms(self.start).sum(dim=1) <= 0
        return torch.where(at_zero, 0.0, ((low + high) / 2).exp() / largest)
