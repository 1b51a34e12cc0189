"""What the engines ask the solvers: the linear optimum of a set, and the nearest point of it, for some images.

One oracle serves one run: it remembers its last answers, and starts the next solves from them. Images may have sets of
their own; those with equal sets are solved together.

Where a set is not convex, what is solved is its convex step around the point where an image stands, unless the solvers
take the set itself, and what came of it is brought back onto the set by :meth:`Oracle.hold`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.perturbation.results import ConstraintRule

Certified = Literal["global bound", "convex step", "stationary"]
PIXELS = solvers.Box(0.0, 1.0)
# Solves begin this loose: the first linearisations deserve no more, and the settings' own tolerance is the last.
LOOSEST = 0.03
# Below this tolerance single precision does not carry the iterations.
SINGLE = 1e-4


@dataclass
class Oracle:
    """Certified steps within sets around the images' originals.

    Attributes:
        constraint: for all images, or a rule from references (K, C, H, W), or one per image.
        batch: B, images of the whole run.
        method, settings: of the solver; iterative methods iterate in float32 unless ``settings.dtype`` says
            otherwise or the tolerance is under 1e-4. Certificates are float64.
        support: where the perturbation may live, for all images or one mask each; everywhere without.
        tightening: whether tolerances start at 0.03 and halve with every round.
        certified: what the certificates of the steps spoke of; None before the first.

    A :class:`~solvers.MeanSSIM` that bounds the index alone is solved by its convex steps, unless ``method`` names one
    that takes the set itself: ``mean_tiles`` or ``mean_windows``.
    """

    constraint: ConstraintRule | Sequence[Constraint]
    batch: int
    method: str = "auto"
    settings: solvers.Settings = field(default_factory=solvers.Settings)
    support: solvers.Support | None = None
    tightening: bool = False
    certified: Certified | None = None
    _known: dict[type, list[tuple[Tensor, solvers.SolveResult]]] = field(default_factory=dict, repr=False)

    def __call__(
        self,
        gradient: Tensor,
        reference: Tensor,
        moving: Tensor,
        *,
        around: Tensor | None = None,
        round_number: int | None = None,
    ) -> solvers.SolveResult:
        """``argmax g'd`` over the set and the pixel box, for the images ``moving`` (long, (K,)) of the batch.

        ``around``: the perturbations (K, C, H, W) that convex steps are made around; default 0.
        """
        return self._solve(solvers.LinearProblem, gradient, reference, moving, around, round_number)

    def nearest(
        self,
        point: Tensor,
        reference: Tensor,
        moving: Tensor,
        *,
        around: Tensor | None = None,
        round_number: int | None = None,
    ) -> solvers.SolveResult:
        """The d of the set and the pixel box nearest to ``point`` (K, C, H, W)."""
        return self._solve(solvers.ProjectionProblem, point, reference, moving, around, round_number)

    def hold(self, delta: Tensor, reference: Tensor, moving: Tensor) -> Tensor:
        """Perturbations (K, C, H, W) of the pixel box brought onto sets that are not convex, by scaling; others, whose
        segments lie in them, as they are."""
        for constraint, at in self.set_of(reference, moving):
            if not constraint.is_convex:
                factor = constraint.bind(reference[at]).scale_factor(delta[at])
                delta = delta.index_copy(0, at, delta[at] * per_image(factor))
        return delta

    def holding(self, original: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """:meth:`hold` of images (K, C, H, W) with their numbers in the batch (K,); ``original``: (B, C, H, W)."""

        def onto(images: Tensor, moving: Tensor) -> Tensor:
            return original[moving] + self.hold(images - original[moving], original[moving], moving)

        return onto

    def set_of(self, reference: Tensor, moving: Tensor) -> list[tuple[Constraint, Tensor]]:
        """The distinct sets of the images ``moving`` and the positions, in ``moving``, of theirs."""
        everyone = torch.arange(len(moving), device=moving.device)
        if isinstance(self.constraint, Constraint):
            return [(self.constraint.select(moving, self.batch), everyone)]
        if not isinstance(self.constraint, Sequence):
            made = self.constraint(reference)
            if not isinstance(made, Constraint):
                raise InputError(f"the rule for a constraint must return a set such as solvers.LpBall, got {made!r}")
            return [(made, everyone)]
        own = [self.constraint[k] for k in moving.tolist()]
        groups: dict[Constraint, list[int]] = {}
        for position, constraint in enumerate(own):
            groups.setdefault(constraint, []).append(position)
        return [(constraint, torch.tensor(at, device=moving.device)) for constraint, at in groups.items()]

    def _solve(
        self,
        kind: type[solvers.LinearProblem] | type[solvers.ProjectionProblem],
        vector: Tensor,
        reference: Tensor,
        moving: Tensor,
        around: Tensor | None,
        round_number: int | None,
    ) -> solvers.SolveResult:
        settings = self._settings(round_number)
        groups = self.set_of(reference, moving)
        known = self._known.get(kind, [])
        parts = [(constraint, part) for constraint, whole in groups for part in _by_answer(known, moving, whole)]
        answers = []
        for constraint, at in parts:
            self.certified = certified(constraint, self.method)
            if self.certified == "convex step":
                assert isinstance(constraint, solvers.MeanSSIM)
                here = torch.zeros_like(reference[at]) if around is None else around[at]
                sets: list[Constraint] = [constraint.step(reference[at], here), PIXELS]
            else:
                sets = [constraint, PIXELS]
            if self.support is not None:
                sets.append(self.support.select(moving[at], self.batch))
            problem = kind(vector[at], reference[at], sets)
            start = _start(known, moving[at])
            answers.append((at, solvers.solve(problem, self.method, settings, warm_start=start)))
        self._known[kind] = [(moving[at], result) for at, result in answers] + _left(known, moving)
        if len(answers) == 1:
            return answers[0][1]
        order = torch.argsort(torch.cat([at for at, _ in answers]))
        return _joined([result for _, result in answers], order)

    def _settings(self, round_number: int | None) -> solvers.Settings:
        settings = self.settings
        if self.tightening and round_number is not None:
            settings = replace(settings, eps_rel=max(settings.eps_rel, LOOSEST * 0.5 ** (round_number - 1)))
        if settings.dtype is None and settings.eps_rel >= SINGLE:
            settings = replace(settings, dtype=torch.float32)
        return settings


def certified(constraint: Constraint, method: str) -> Certified:
    """``"global bound"``: of the set itself. ``"convex step"``: of the convex set that stands for it around the point
    where the image is. ``"stationary"``: of nothing; ``mean_windows`` ends where no convex step gains."""
    if constraint.is_convex:
        return "global bound"
    if isinstance(constraint, solvers.MeanSSIM) and constraint.luminance is None and method in ("auto", "energy_step"):
        return "convex step"
    return "stationary" if method == "mean_windows" else "global bound"


def _start(known: list[tuple[Tensor, solvers.SolveResult]], images: Tensor) -> solvers.SolveResult | None:
    """The earlier answer for ``images``, where one solve answered for all of them."""
    for answered, result in known:
        place = {image: k for k, image in enumerate(answered.tolist())}
        if all(image in place for image in images.tolist()):
            return result.select(torch.tensor([place[image] for image in images.tolist()]))
    return None


def _by_answer(known: list[tuple[Tensor, solvers.SolveResult]], moving: Tensor, at: Tensor) -> list[Tensor]:
    """The positions ``at`` in parts, one for the images of each earlier answer and one for those without any: no
    image's start may depend on which others are solved with it."""
    owner = {image: number for number, (answered, _) in enumerate(known) for image in answered.tolist()}
    parts: dict[int | None, list[int]] = {}
    for position in at.tolist():
        parts.setdefault(owner.get(int(moving[position])), []).append(position)
    return [torch.tensor(part, device=at.device) for part in parts.values()]


def _left(known: list[tuple[Tensor, solvers.SolveResult]], moving: Tensor) -> list[tuple[Tensor, solvers.SolveResult]]:
    """Earlier answers for the images that are not ``moving``."""
    solved, left = set(moving.tolist()), []
    for answered, result in known:
        keep = torch.tensor([k for k, image in enumerate(answered.tolist()) if image not in solved], dtype=torch.long)
        if len(keep):
            left.append((answered[keep.to(answered.device)], result.select(keep)))
    return left


def _joined(results: list[solvers.SolveResult], order: Tensor) -> solvers.SolveResult:
    """Results of groups as one, images in ``order``; duals, which may differ in form, are left out."""
    places = order.tolist()

    def tensors(name: str) -> Tensor:
        return torch.cat([torch.as_tensor(getattr(result, name)) for result in results])[order]

    def column(name: str) -> tuple[Any, ...]:
        values = [value for result in results for value in getattr(result, name)]
        return tuple(values[k] for k in places)

    return replace(
        results[0],
        delta=tensors("delta"),
        status=column("status"),
        objective=tensors("objective"),
        bound=tensors("bound"),
        rel_gap=tensors("rel_gap"),
        max_violation=tensors("max_violation"),
        iterations=column("iterations"),
        messages=column("messages"),
        setup_time=sum(result.setup_time for result in results),
        solve_time=sum(result.solve_time for result in results),
        dual=(None,) * len(results[0].dual),
        history=solvers.History(),
    )
