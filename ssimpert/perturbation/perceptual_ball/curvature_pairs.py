"""The curvature pairs of L-BFGS on a batch of independent problems, and the two-loop recursion on them.

Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.4, with the rules of ``torch.optim.LBFGS``: a pair is
kept if ``y's > 1e-10``, and the inverse Hessian starts from ``(y's / y'y) I`` of the last pair kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# A pair is kept where y's exceeds this, as in torch.optim.LBFGS.
MIN_CURVATURE = 1e-10


@dataclass
class CurvaturePairs:
    """The last m curvature pairs of B problems in n unknowns.

    Each problem has a ring of m slots. The rings take ``2 m B n`` numbers; the memory is touched only as pairs arrive.

    Attributes:
        moves: s, (m, B, n), the steps.
        changes: y, (m, B, n), the changes of the gradient along the steps.
        inverse_curvature: ``1 / y's``, (m, B).
        count: (B,) long, the number of pairs, at most m.
        head: (B,) long, the slot that takes the next pair.
        scale: (B,), ``y's / y'y`` of the last pair; 1 without any.
    """

    moves: Tensor
    changes: Tensor
    inverse_curvature: Tensor
    count: Tensor
    head: Tensor
    scale: Tensor

    @classmethod
    def none_yet(cls, history_size: int, like: Tensor) -> Self:
        """Empty rings of ``history_size`` slots, for unknowns in the shape of ``like``, (B, n)."""
        batch = like.shape[0]
        zeros = torch.zeros(batch, dtype=torch.long, device=like.device)
        return cls(
            moves=like.new_zeros(history_size, *like.shape),
            changes=like.new_zeros(history_size, *like.shape),
            inverse_curvature=like.new_zeros(history_size, batch),
            count=zeros,
            head=zeros.clone(),
            scale=like.new_ones(batch),
        )

    def add(self, problems: Tensor, move: Tensor, change: Tensor) -> None:
        """Add a pair s and y, (K, n) each, for each of ``problems``, (K,). A full ring loses its oldest pair.

        A pair without positive curvature is not added.
        """
        curvature = (change * move).sum(dim=1)
        sound = (curvature > MIN_CURVATURE) & curvature.isfinite()
        chosen, curvature = problems[sound], curvature[sound]
        slot = self.head[chosen]
        self.moves[slot, chosen] = move[sound]
        self.changes[slot, chosen] = change[sound]
        self.inverse_curvature[slot, chosen] = 1 / curvature
        self.scale[chosen] = curvature / change[sound].square().sum(dim=1)
        size = self.moves.shape[0]
        self.head[chosen] = (slot + 1) % size
        self.count[chosen] = (self.count[chosen] + 1).clamp_max(size)

    def drop(self, problems: Tensor) -> None:
        """Remove all pairs of ``problems``, (K,)."""
        self.count[problems] = 0
        self.scale[problems] = 1

    def times_negative(self, gradient: Tensor, problems: Tensor) -> Tensor:
        """``-H g`` for gradients g, (K, n), of ``problems``, (K,), with H the inverse Hessian that the pairs define."""
        size, count = self.moves.shape[0], self.count[problems]
        direction = -gradient
        weights: list[tuple[Tensor, Tensor, Tensor]] = []
        for age in range(int(count.max()) if count.numel() else 0):
            slot = (self.head[problems] - 1 - age) % size
            # A problem with fewer pairs than the others takes part with weight 0.
            inverse = torch.where(age < count, self.inverse_curvature[slot, problems], 0)
            weight = (self.moves[slot, problems] * direction).sum(dim=1) * inverse
            direction = direction - weight[:, None] * self.changes[slot, problems]
            weights.append((slot, inverse, weight))
        direction = direction * self.scale[problems, None]
        for slot, inverse, weight in reversed(weights):
            correction = (self.changes[slot, problems] * direction).sum(dim=1) * inverse
            direction = direction + (weight - correction)[:, None] * self.moves[slot, problems]
        return direction
