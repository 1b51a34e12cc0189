"""Anderson mixing of a fixed-point iteration on log multipliers, image by image.

``y <- y + f(y)`` converges slowly where windows pull against each other. Anderson mixing (Anderson, J. ACM 1965;
type II as in Walker and Ni, SIAM J. Numer. Anal. 2011) takes the combination of the last iterates whose residual f is
smallest. Residuals are weighted by each multiplier's share of the dual objective: otherwise the many windows that are
not active, whose logarithms run off to minus infinity, decide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.backends.eligibility import compiled_code_may_read, triton_serves

# Columns of the least-squares problem are nearly dependent once the iteration has settled.
REGULARISATION = 1e-7


class AndersonAcceleration:
    """The last ``memory`` differences of iterates and residuals of each image.

    They lie in a ring, in the same memory all the time, so that a step can be recorded
    (:mod:`solvers.backends.cuda_graph`).

    Attributes:
        full: whether every place of the ring has been filled; steps then do the same operations each time.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._known = 0  # differences so far
        self._point: Tensor | None = None
        self._residual: Tensor
        self._moves: Tensor  # of y + f, (K, m, n)
        self._changes: Tensor  # of f, (K, m, n)
        self._place: Tensor  # of the next difference, (1,) long

    @property
    def full(self) -> bool:
        return self._known >= self.memory

    def step(self, point: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
        """The mixed step from ``point`` y (K, n) with residual f(y) (K, n) and weights >= 0 (K, n): (K, n)."""
        if self._point is None:
            self._point, self._residual = point.clone(), residual.clone()
            shape = len(point), self.memory, point.shape[1]
            self._moves, self._changes = residual.new_zeros(shape), residual.new_zeros(shape)
            self._place = torch.zeros(1, dtype=torch.int64, device=point.device)
            return residual
        change = residual - self._residual
        # Differences of near numbers first: they are exact.
        move = (point - self._point).add_(change)
        self._moves.index_copy_(1, self._place, move[:, None])
        self._changes.index_copy_(1, self._place, change[:, None])
        self._place.add_(1).remainder_(self.memory)
        self._point.copy_(point)
        self._residual.copy_(residual)
        self._known += 1
        if self._known < 2:
            return residual
        # A place that is still empty has a column of zeros, and the ridge gives it a share of 0.
        compiled = triton_serves(residual.device) and compiled_code_may_read(residual, weight, self._changes)
        if compiled:
            from solvers.methods.dual.anderson_triton import combined, weighted_sums

            gram, right = weighted_sums(self._changes, residual.contiguous(), weight.contiguous())
        else:
            weighted = self._changes * weight[:, None]
            gram, right = (weighted @ self._changes.mT).double(), (weighted @ residual[..., None]).double()
        size = torch.diagonal(gram, dim1=1, dim2=2)
        ridge = REGULARISATION * (size + 1e-3 * size.sum(dim=1, keepdim=True)) + torch.finfo(torch.float64).tiny
        # Never singular, so errors need not be asked for: on a GPU that would wait for it.
        share = torch.linalg.solve_ex(gram + torch.diag_embed(ridge), right)[0].to(residual.dtype)
        if compiled:
            return combined(residual.contiguous(), self._moves, share[..., 0])
        return residual - (share.mT @ self._moves)[:, 0]

    def select(self, keep: Tensor) -> None:
        """Forget the images that are not at ``keep`` (long, (K',))."""
        if self._point is not None:
            self._point, self._residual = self._point[keep], self._residual[keep]
            self._moves, self._changes = self._moves[keep], self._changes[keep]
