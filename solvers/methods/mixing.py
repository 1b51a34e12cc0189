"""Anderson mixing of a fixed-point iteration on log multipliers, image by image.

``y <- y + f(y)`` converges slowly where windows pull against each other. Mixing (Anderson, J. ACM 1965; type II as in
Walker and Ni, SIAM J. Numer. Anal. 2011) takes the combination of the last iterates whose residual f is smallest.
Residuals are weighted by each multiplier's share of the dual objective: otherwise the many windows that are not
active, whose logarithms run off to minus infinity, decide.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of the least-squares problem are nearly dependent once the iteration has settled.
REGULARISATION = 1e-7


class Mixing:
    """The last ``memory`` differences of iterates and residuals of each image."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._point: Tensor | None = None
        self._residual: Tensor | None = None
        self._moves: list[Tensor] = []  # of y + f, (K, n) each
        self._changes: list[Tensor] = []  # of f

    def step(self, point: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
        """The mixed step from ``point`` y (K, n) with residual f(y) (K, n) and weights >= 0 (K, n): (K, n)."""
        if self._point is not None and self._residual is not None:
            change = residual - self._residual
            self._moves.append(point - self._point + change)
            self._changes.append(change)
            del self._moves[: -self.memory], self._changes[: -self.memory]
        self._point, self._residual = point, residual
        if len(self._changes) < 2:
            return residual
        changes = torch.stack(self._changes, dim=1)  # (K, m, n)
        weighted = changes * weight[:, None]
        gram = (weighted @ changes.transpose(1, 2)).double()
        right = (weighted @ residual[..., None]).double()
        size = torch.diagonal(gram, dim1=1, dim2=2)
        ridge = REGULARISATION * (size + 1e-3 * size.sum(dim=1, keepdim=True)) + torch.finfo(torch.float64).tiny
        share = torch.linalg.solve(gram + torch.diag_embed(ridge), right)[..., 0].to(residual.dtype)
        step = residual.clone()
        for k, move in enumerate(self._moves):
            step -= share[:, k, None] * move
        return step

    def select(self, keep: Tensor) -> None:
        """Forget the images that are not at ``keep`` (long, (K',))."""
        if self._point is not None and self._residual is not None:
            self._point, self._residual = self._point[keep], self._residual[keep]
        self._moves = [move[keep] for move in self._moves]
        self._changes = [change[keep] for change in self._changes]
