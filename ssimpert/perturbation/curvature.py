"""Curvature pairs of a batch, each image with a ring of its own, and the two-loop recursion of L-BFGS on them.

Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.4, with the rules of ``torch.optim.LBFGS``: a pair is
kept where ``y's > 1e-10``, and the inverse Hessian starts from ``(y's / y'y) I`` of the last pair kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

LEAST_CURVATURE = 1e-10


@dataclass
class CurvaturePairs:
    """The last pairs of B problems in n unknowns; memory for ``2 m B n`` numbers, touched only as pairs arrive.

    Attributes:
        moves, changes: s and y, (m, B, n): the steps, and the changes of the gradient along them.
        inverse_curvature: ``1 / y's``, (m, B).
        count: (B,) long, pairs held, at most m.
        head: (B,) long, the slot that the next pair goes to.
        scale: (B,), ``y's / y'y`` of the last pair; 1 at first.
    """

    moves: Tensor
    changes: Tensor
    inverse_curvature: Tensor
    count: Tensor
    head: Tensor
    scale: Tensor

    @classmethod
    def none_yet(cls, history_size: int, like: Tensor) -> Self:
        """Empty rings of ``history_size`` slots for unknowns ``like``, (B, n)."""
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
        """Take up a pair (K, n) for each of ``problems``, (K,), over its oldest; without curvature it is left out."""
        curvature = (change * move).sum(dim=1)
        sound = (curvature > LEAST_CURVATURE) & curvature.isfinite()
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
        """Forget all pairs of ``problems``, (K,)."""
        self.count[problems] = 0
        self.scale[problems] = 1

    def times_negative(self, gradient: Tensor, problems: Tensor) -> Tensor:
        """``-H g`` for gradients (K, n) of ``problems``, (K,); H the inverse Hessian that the pairs stand for."""
        size, held = self.moves.shape[0], self.count[problems]
        direction = -gradient
        weights: list[tuple[Tensor, Tensor, Tensor]] = []
        for age in range(int(held.max()) if held.numel() else 0):
            slot = (self.head[problems] - 1 - age) % size
            # A problem with fewer pairs than the others takes part with weight 0.
            inverse = torch.where(age < held, self.inverse_curvature[slot, problems], 0)
            weight = (self.moves[slot, problems] * direction).sum(dim=1) * inverse
            direction = direction - weight[:, None] * self.changes[slot, problems]
            weights.append((slot, inverse, weight))
        direction = direction * self.scale[problems, None]
        for slot, inverse, weight in reversed(weights):
            back = (self.changes[slot, problems] * direction).sum(dim=1) * inverse
            direction = direction + (weight - back)[:, None] * self.moves[slot, problems]
        return direction
