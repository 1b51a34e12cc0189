"""Golub-Kahan bidiagonalisation of a matrix J known through products, and its resolvent for every multiplier.

Started at a vector g (Golub and Kahan 1965; Paige and Saunders, LSQR, 1982), k steps give orthonormal images
``v_1 = g/|g|, ..., v_(k+1)`` and features ``u_1, ..., u_(k+1)`` with

    J V_(k+1) = U_(k+1) B,      B upper bidiagonal: alpha on the diagonal, beta above it,
    J'U_k     = V_(k+1) M,      M the first k columns of B'.

So for every ``theta`` the point ``z = |g| V (I + theta M M')^-1 e_1`` is, *exactly*, ``g - J'y`` with the features
``y = theta U_k M'(V'z)``. The lengths ``|z|``, ``|y|`` and ``|J z|`` follow from the small matrices, without a product.
One run serves all multipliers.

Only the u are stored. Each new u is orthogonalised against all earlier ones; the v then stay orthogonal too (Simon and
Zha, 2000). Memory: one feature vector a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image

# So many feature vectors are stored side by side. A product with all of them is one call.
VECTORS_PER_CHUNK = 32
# theta is sought where theta times the largest eigenvalue lies between e^MIN_LOG_THETA and e^MAX_LOG_THETA. Above,
# rounding takes over.
MIN_LOG_THETA, MAX_LOG_THETA = -35.0, 34.0
BISECTION_STEPS = 60
# A length below so many units of rounding counts as 0. For a new vector, of its length before orthogonalisation: the
# Krylov space is then exhausted.
ZERO_ROUNDINGS = 30.0


class GolubKahan:
    """The bidiagonalisation of K images at once. Images whose space is exhausted go on with zeros.

    Attributes:
        size: |g|, (K,) float64.
        alphas: the k + 1 numbers on B's diagonal, (K,) float64 each.
        betas: the k numbers above the diagonal, (K,) float64 each.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], start: Tensor) -> None:
        """Start at g = ``start`` (K, C, H, W). The products ``J v`` and ``J'u`` map images to features (K, F) and
        back."""
        self.forward, self.adjoint = forward, adjoint
        self.size = norm(start.double())
        self._image, _ = _unit(start, self.size, torch.zeros_like(self.size))
        self._first = self._image
        features = forward(self._image)
        alpha = norm(features.double())
        features, alpha = _unit(features, alpha, torch.zeros_like(alpha))
        self.alphas, self.betas = [alpha], list[Tensor]()
        self._last, self._chunks, self._filled = features, list[Tensor](), VECTORS_PER_CHUNK
        self._store(features)

    @property
    def steps(self) -> int:
        """k."""
        return len(self.betas)

    @property
    def exhausted(self) -> Tensor:
        """Whether the Krylov space of an image is complete, (K,) bool. The resolvent in it is then exact."""
        return (self.alphas[-1] == 0) | (self.betas[-1] == 0) if self.betas else self.alphas[-1] == 0

    def step(self) -> None:
        """One more v and one more u: two products."""
        # v_(k+1) beta_k = J'u_k - alpha_k v_k
        back = self.adjoint(self._last)
        image = back - per_image(self.alphas[-1].to(back.dtype)) * self._image
        self._image, beta = _unit(image, norm(image.double()), self._zero_length(norm(back.double())))
        # u_(k+1) alpha_(k+1) = J v_(k+1) - beta_k u_k, orthogonalised against all earlier u
        ahead = self.forward(self._image)
        features = ahead - beta.to(ahead.dtype)[:, None] * self._last
        for chunk in self._chunks:
            features = features - torch.einsum("ksf,ks->kf", chunk, torch.einsum("ksf,kf->ks", chunk, features))
        self._last, alpha = _unit(features, norm(features.double()), self._zero_length(norm(ahead.double())))
        self.betas.append(beta)
        self.alphas.append(alpha)
        self._store(self._last)

    def combine(self, weights: Tensor) -> Tensor:
        """``U w``, (K, F), for ``weights`` (K, up to k + 1)."""
        total = torch.zeros_like(self._last)
        for chunk, part in zip(self._chunks, weights.to(total.dtype).split(VECTORS_PER_CHUNK, dim=1), strict=False):
            total = total + torch.einsum("ksf,ks->kf", chunk[:, : part.shape[1]], part)
        return total

    def replay(self, coefficients: Tensor) -> Tensor:
        """``V c``, (K, C, H, W), for ``coefficients`` (K, k + 1). The v are computed again, with one product each."""
        image, weights = self._first, coefficients.to(self._first.dtype)
        total = per_image(weights[:, 0]) * image
        features = (chunk[:, row] for chunk in self._chunks for row in range(VECTORS_PER_CHUNK))
        for k, (alpha, beta, last) in enumerate(zip(self.alphas, self.betas, features, strict=False)):
            back = self.adjoint(last) - per_image(alpha.to(image.dtype)) * image
            # Divide as step does, so that rounding is the same.
            inverse = torch.where(beta > 0, 1 / beta.clamp_min(torch.finfo(beta.dtype).tiny), 0.0)
            image = back * per_image(inverse.to(back.dtype))
            total = total + per_image(weights[:, k + 1]) * image
        return total

    def select(self, keep: Tensor, forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> None:
        """Go on with the images at ``keep`` (long) alone; ``forward`` and ``adjoint`` are their products."""
        self.forward, self.adjoint = forward, adjoint
        self.size, self._last = self.size[keep], self._last[keep]
        self._first, self._image = self._first[keep], self._image[keep]
        self.alphas, self.betas = [a[keep] for a in self.alphas], [b[keep] for b in self.betas]
        self._chunks = [chunk[keep] for chunk in self._chunks]

    def _store(self, features: Tensor) -> None:
        if self._filled == VECTORS_PER_CHUNK:
            self._chunks.append(features.new_zeros(features.shape[0], VECTORS_PER_CHUNK, features.shape[1]))
            self._filled = 0
        self._chunks[-1][:, self._filled] = features
        self._filled += 1

    def _zero_length(self, before: Tensor) -> Tensor:
        """The length below which a vector counts as 0, for its length ``before`` orthogonalisation, (K,)."""
        return ZERO_ROUNDINGS * torch.finfo(self._last.dtype).eps * before


def _unit(value: Tensor, length: Tensor, zero_length: Tensor) -> tuple[Tensor, Tensor]:
    """``value`` (K, ...) divided by its length, and the length (K,) float64. Both are 0 where the length is at most
    ``zero_length`` (K,)."""
    length = torch.where(length > zero_length, length, 0.0)
    inverse = torch.where(length > 0, 1 / length.clamp_min(torch.finfo(length.dtype).tiny), 0.0)
    return value * inverse.to(value.dtype).reshape(-1, *[1] * (value.ndim - 1)), length


@dataclass(frozen=True)
class Resolvent:
    """z and y for one multiplier per image, all float64.

    Attributes:
        coefficients: z in the basis V, (K, k + 1).
        weights: y in the basis U_k, (K, k).
        length, feature_length, dual_length: ``|z|``, ``|J z|`` and ``|y|``, (K,).
    """

    coefficients: Tensor
    weights: Tensor
    length: Tensor
    feature_length: Tensor
    dual_length: Tensor


class Multipliers:
    """z and y for every multiplier theta, by the eigenvectors of ``M M'``.

    Attributes:
        size: |g|, (K,).
        bidiagonal: B, (K, k + 1, k + 1).
        adjoint: M, (K, k + 1, k).
        values, vectors: the eigenvalues of ``M M'``, (K, k + 1), and its eigenvectors.
        start: g in the eigenvectors, (K, k + 1).
    """

    def __init__(self, run: GolubKahan) -> None:
        diagonal, above = torch.stack(run.alphas, dim=1), torch.stack(run.betas, dim=1)
        self.size = run.size
        self.bidiagonal = torch.diag_embed(diagonal) + torch.diag_embed(above, offset=1)
        self.adjoint = self.bidiagonal.mT[:, :, :-1]
        values, self.vectors = torch.linalg.eigh(self.adjoint @ self.adjoint.mT)
        self.values = values.clamp_min(0)
        # One eigenvalue is always 0. Where the space is complete, g has no share in its eigenvector but rounding, and
        # a large theta would make that rounding the whole of z.
        share = self.vectors[:, 0]
        rounding = ZERO_ROUNDINGS * torch.finfo(share.dtype).eps
        self.start = self.size[:, None] * torch.where(share.abs() > rounding, share, 0)

    def ratio_root(self, ratio: Tensor) -> Tensor:
        """The theta, (K,), at which ``|y|/(theta |z|)`` is ``ratio`` (K,); 0 where the quotient is smaller for all
        theta."""
        return self._root(lambda shrunk: (self.values - ratio.square()[:, None]) * shrunk.square())

    def radius_root(self, radius: Tensor) -> Tensor:
        """The theta, (K,), at which ``|y|/theta`` is ``radius`` (K,); 0 where the quotient is smaller for all theta."""
        share = radius.square()[:, None] / self.values.shape[1]
        return self._root(lambda shrunk: self.values * shrunk.square() - share)

    def at(self, theta: Tensor) -> Resolvent:
        """z and y at ``theta`` (K,)."""
        z = (self.vectors @ self._shrunk(theta)[:, :, None])[:, :, 0]
        weights = theta[:, None] * (self.adjoint.mT @ z[:, :, None])[:, :, 0]
        features = (self.bidiagonal @ z[:, :, None])[:, :, 0]
        lengths = [torch.linalg.vector_norm(value, dim=1) for value in (z, features, weights)]
        return Resolvent(z, weights, *lengths)

    def _shrunk(self, theta: Tensor) -> Tensor:
        """z in the eigenvectors, (K, k + 1)."""
        return self.start / (1 + theta[:, None] * self.values)

    def _root(self, terms: Callable[[Tensor], Tensor]) -> Tensor:
        """The root theta, (K,), of the sum of ``terms``, which is positive below the root and negative above it:
        bisection on log theta. ``terms`` is a function of z in the eigenvectors."""
        largest = self.values.amax(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        low, high = torch.full_like(largest, MIN_LOG_THETA), torch.full_like(largest, MAX_LOG_THETA)
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            below = terms(self._shrunk(middle.exp() / largest)).sum(dim=1) > 0
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        at_zero = terms(self.start).sum(dim=1) <= 0
        return torch.where(at_zero, 0.0, ((low + high) / 2).exp() / largest)
