"""Anderson mixing of a fixed-point iteration on log multipliers, image by image.

``y <- y + f(y)`` converges slowly where windows pull against each other. Anderson mixing (Anderson, J. ACM 1965; type
II as in Walker and Ni, SIAM J. Numer. Anal. 2011) keeps differences of earlier iterates and residuals and takes::

    f - sum_k gamma_k (dy_k + df_k),    gamma = argmin |f - sum_k gamma_k df_k|_W^2

W weighs every residual by its multiplier's share of the dual objective. Without these weights the many windows that are
not active would decide, and their logarithms run off to minus infinity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.backends.eligibility import compiled_code_may_read, triton_serves

# The ridge of the least-squares problem, relative to its diagonal: its columns are nearly dependent once the iteration
# has settled.
RIDGE = 1e-7


class AndersonAcceleration:
    """The last ``memory`` differences of iterates and residuals of each image.

    The differences lie in a ring, in the same memory all the time, so that a step can be recorded
    (:mod:`solvers.backends.cuda_graph`).

    Args:
        memory: how many differences are kept, at least 1.

    Attributes:
        full: whether every place of the ring has been filled. From then on, steps do the same operations each time.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._count = 0  # differences so far
        self._point: Tensor | None = None
        self._residual: Tensor
        self._moves: Tensor  # dy + df, (K, m, n)
        self._changes: Tensor  # df, (K, m, n)
        self._place: Tensor  # of the next difference, (1,) long

    @property
    def full(self) -> bool:
        return self._count >= self.memory

    def step(self, point: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
        """The mixed step, (K, n); the residual itself while there are fewer than two differences.

        Args:
            point: y, (K, n).
            residual: f(y), (K, n).
            weight: the diagonal of W, (K, n), not negative.
        """
        if self._point is None:
            self._begin(point, residual)
            return residual
        self._remember(point, residual)
        if self._count < 2:
            return residual
        gram, right, compiled = self._normal_equations(residual, weight)
        size = torch.diagonal(gram, dim1=1, dim2=2)
        # A place that is still empty has a column of zeros, and the ridge gives it a coefficient of 0.
        ridge = RIDGE * (size + 1e-3 * size.sum(dim=1, keepdim=True)) + torch.finfo(torch.float64).tiny
        # Never singular, so errors need not be asked for: on a GPU that would wait for it.
        gamma = torch.linalg.solve_ex(gram + torch.diag_embed(ridge), right)[0].to(residual.dtype)
        if compiled:
            from solvers.methods.dual.anderson_triton import combined

            return combined(residual.contiguous(), self._moves, gamma[..., 0])
        return residual - (gamma.mT @ self._moves)[:, 0]

    def select(self, positions: Tensor) -> None:
        """Keep the images at ``positions`` (long, (K',)) alone."""
        if self._point is not None:
            self._point, self._residual = self._point[positions], self._residual[positions]
            self._moves, self._changes = self._moves[positions], self._changes[positions]

    def _begin(self, point: Tensor, residual: Tensor) -> None:
        self._point, self._residual = point.clone(), residual.clone()
        shape = len(point), self.memory, point.shape[1]
        self._moves, self._changes = residual.new_zeros(shape), residual.new_zeros(shape)
        self._place = torch.zeros(1, dtype=torch.int64, device=point.device)

    def _remember(self, point: Tensor, residual: Tensor) -> None:
        """Write the newest difference over the oldest one."""
        assert self._point is not None
        change = residual - self._residual
        # Differences of near numbers first: they are exact.
        move = (point - self._point).add_(change)
        self._moves.index_copy_(1, self._place, move[:, None])
        self._changes.index_copy_(1, self._place, change[:, None])
        self._place.add_(1).remainder_(self.memory)
        self._point.copy_(point)
        self._residual.copy_(residual)
        self._count += 1

    def _normal_equations(self, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, bool]:
        """``C W C'`` (K, m, m) and ``C W f`` (K, m, 1) in float64, C being the differences of residuals; and whether
        Triton made them."""
        if triton_serves(residual.device) and compiled_code_may_read(residual, weight, self._changes):
            from solvers.methods.dual.anderson_triton import weighted_sums

            return *weighted_sums(self._changes, residual.contiguous(), weight.contiguous()), True
        weighted = self._changes * weight[:, None]
        return (weighted @ self._changes.mT).double(), (weighted @ residual[..., None]).double(), False
