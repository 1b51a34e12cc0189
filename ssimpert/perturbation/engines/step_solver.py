"""The steps that the engines ask the solvers for: the linear optimum over a set, and the set's nearest point.

One :class:`StepSolver` serves one run of an engine. It remembers the last solution of each image, and the next solve of
the image starts from there. Images may have sets of their own; images with equal sets are solved together.

A set that is not convex is replaced by its convex step around the image's iterate, unless a method takes the set
itself. :meth:`StepSolver.retract` then brings the result back onto the set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

import solvers
from solvers.batch_algebra import per_image
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.perturbation.results import ConstraintRule

Certified = Literal["global bound", "convex step", "stationary"]
# A solve of the images at these indices of the batch, (K,) long, and its result.
Solve = tuple[Tensor, solvers.SolveResult]

PIXEL_BOX = solvers.Box(0.0, 1.0)
# The relative tolerance of the first round. The first linearisations deserve no finer one.
FIRST_TOLERANCE = 0.03
# Below this relative tolerance single precision is too coarse for the iterations.
SINGLE_PRECISION_TOLERANCE = 1e-4


@dataclass
class StepSolver:
    """Certified steps within sets around the images' references.

    A :class:`~solvers.MeanSSIM` that bounds the index alone is solved by its convex steps, unless ``method`` names one
    that takes the set itself: ``mean_tiles`` or ``mean_windows``.

    Attributes:
        constraint: one set for all images, or a rule from references (K, C, H, W) to a set, or one set per image.
        batch: B, the number of images of the whole run.
        method: the solver's method.
        settings: the solver's settings. Iterative methods iterate in float32 unless ``settings.dtype`` says otherwise
            or the tolerance is under 1e-4. Certificates are float64.
        support: where the perturbation may live, for all images or one mask each; default everywhere.
        tightening: whether the tolerance starts at 0.03 and halves with every round, down to that of ``settings``.
        certified: what the certificates of the last steps speak of; ``None`` before the first.
    """

    constraint: ConstraintRule | Sequence[Constraint]
    batch: int
    method: str = "auto"
    settings: solvers.Settings = field(default_factory=solvers.Settings)
    support: solvers.Support | None = None
    tightening: bool = False
    certified: Certified | None = None
    _previous: dict[type, list[Solve]] = field(default_factory=dict, repr=False)

    def linear_optimum(
        self,
        gradient: Tensor,
        reference: Tensor,
        image_indices: Tensor,
        *,
        expansion_point: Tensor | None = None,
        round_number: int | None = None,
    ) -> solvers.SolveResult:
        """``argmax g'd`` over the set and the pixel box.

        Args:
            gradient: g, (K, C, H, W).
            reference: (K, C, H, W), the images that the sets are around.
            image_indices: the images' indices in the batch, (K,) long.
            expansion_point: the perturbations (K, C, H, W) that convex steps are made around; default 0.
            round_number: from 1; decides the tolerance where ``tightening``.
        """
        return self._solve(
            solvers.LinearProblem, gradient, reference, image_indices, expansion_point, self._settings(round_number)
        )

    def nearest(
        self,
        point: Tensor,
        reference: Tensor,
        image_indices: Tensor,
        *,
        expansion_point: Tensor | None = None,
        round_number: int | None = None,
    ) -> solvers.SolveResult:
        """The d of the set and the pixel box that is nearest to ``point``.

        Args:
            point: (K, C, H, W).
            reference, image_indices, expansion_point, round_number: as for :meth:`linear_optimum`.
        """
        return self._solve(
            solvers.ProjectionProblem, point, reference, image_indices, expansion_point, self._settings(round_number)
        )

    def retract(self, delta: Tensor, reference: Tensor, image_indices: Tensor) -> Tensor:
        """Perturbations (K, C, H, W) of the pixel box, scaled towards 0 until they lie in sets that are not convex.

        Perturbations in convex sets come back as they are, since the engines move along segments within these sets.
        """
        for constraint, positions in self.sets_of(reference, image_indices):
            if not constraint.is_convex:
                factor = constraint.bind(reference[positions]).scale_factor(delta[positions])
                delta = delta.index_copy(0, positions, delta[positions] * per_image(factor))
        return delta

    def excess_around(self, original: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """How far perturbed images are outside the sets around ``original`` (B, C, H, W), as a function.

        The function takes images (K, C, H, W) and their indices in the batch (K,). It returns the excess (K,) float64,
        in the sets' own unit; 0 or less inside.
        """

        def excess(images: Tensor, indices: Tensor) -> Tensor:
            reference = original[indices].to(torch.float64)
            delta, found = images.to(torch.float64) - reference, reference.new_zeros(len(indices))
            for constraint, positions in self.sets_of(reference, indices):
                found[positions] = constraint.bind(reference[positions]).excess(delta[positions])
            return found

        return excess

    def sets_of(self, reference: Tensor, image_indices: Tensor) -> list[tuple[Constraint, Tensor]]:
        """The distinct sets of the images at ``image_indices``, each with the positions there of its images."""
        everyone = torch.arange(len(image_indices), device=image_indices.device)
        if isinstance(self.constraint, Constraint):
            return [(self.constraint.select(image_indices, self.batch), everyone)]
        if not isinstance(self.constraint, Sequence):
            constraint = self.constraint(reference)
            if not isinstance(constraint, Constraint):
                raise InputError(
                    f"the rule for a constraint must return a set such as solvers.LpBall, got {constraint!r}"
                )
            return [(constraint, everyone)]
        groups: dict[Constraint, list[int]] = {}
        for position, index in enumerate(image_indices.tolist()):
            groups.setdefault(self.constraint[index], []).append(position)
        return [
            (constraint, torch.tensor(positions, device=image_indices.device))
            for constraint, positions in groups.items()
        ]

    def _solve(
        self,
        kind: type[solvers.LinearProblem] | type[solvers.ProjectionProblem],
        vector: Tensor,
        reference: Tensor,
        image_indices: Tensor,
        expansion_point: Tensor | None,
        settings: solvers.Settings,
    ) -> solvers.SolveResult:
        """One solve for each distinct set and each previous solve; the results as one, in the images' order."""
        expansion_point = torch.zeros_like(reference) if expansion_point is None else expansion_point
        previous = self._previous.get(kind, [])
        solves = []
        for constraint, positions in self.sets_of(reference, image_indices):
            for group in _split_by_solve(previous, image_indices, positions):
                sets = self._convex_sets(constraint, reference[group], image_indices[group], expansion_point[group])
                problem = kind(vector[group], reference[group], sets)
                warm_start = _previous_result(previous, image_indices[group])
                solves.append((group, solvers.solve(problem, self.method, settings, warm_start=warm_start)))
        self._previous[kind] = [(image_indices[group], result) for group, result in solves]
        self._previous[kind] += _without(previous, image_indices)
        if len(solves) == 1:
            return solves[0][1]
        order = torch.argsort(torch.cat([group for group, _ in solves]))
        # Without duals: the groups' blocks may differ in form, and the next solve of a group has its own.
        parts = [replace(result, dual=(None,) * len(result.dual)) for _, result in solves]
        return solvers.SolveResult.concatenate(parts).select(order)

    def _convex_sets(
        self, constraint: Constraint, reference: Tensor, image_indices: Tensor, expansion_point: Tensor
    ) -> list[Constraint]:
        """The sets of one problem: the constraint or its convex step, the pixels, the support."""
        self.certified = certified(constraint, self.method)
        if self.certified == "convex step":
            assert isinstance(constraint, solvers.MeanSSIM)
            constraint = constraint.step(reference, expansion_point)
        sets: list[Constraint] = [constraint, PIXEL_BOX]
        if self.support is not None:
            sets.append(self.support.select(image_indices, self.batch))
        return sets

    def _settings(self, round_number: int | None) -> solvers.Settings:
        settings = self.settings
        if self.tightening and round_number is not None:
            settings = replace(settings, eps_rel=max(settings.eps_rel, FIRST_TOLERANCE * 0.5 ** (round_number - 1)))
        if settings.dtype is None and settings.eps_rel >= SINGLE_PRECISION_TOLERANCE:
            settings = replace(settings, dtype=torch.float32)
        return settings


def certified(constraint: Constraint, method: str) -> Certified:
    """What a certificate of ``method`` speaks of.

    ``"global bound"``: the set itself. ``"convex step"``: the convex set that replaces it around an iterate.
    ``"stationary"``: nothing; ``mean_windows`` ends where no convex step gains.
    """
    if constraint.is_convex:
        return "global bound"
    if isinstance(constraint, solvers.MeanSSIM) and constraint.luminance is None and method in ("auto", "energy_step"):
        return "convex step"
    return "stationary" if method == "mean_windows" else "global bound"


def _previous_result(previous: list[Solve], image_indices: Tensor) -> solvers.SolveResult | None:
    """The result for these images of the solve that had all of them; ``None`` where no solve had."""
    for solved, result in previous:
        position_of = {image: k for k, image in enumerate(solved.tolist())}
        if all(image in position_of for image in image_indices.tolist()):
            return result.select(torch.tensor([position_of[image] for image in image_indices.tolist()]))
    return None


def _split_by_solve(previous: list[Solve], image_indices: Tensor, positions: Tensor) -> list[Tensor]:
    """``positions`` in groups: one for the images of each previous solve, and one for the images without any.

    So the start of an image never depends on the images that are solved with it.
    """
    solve_of = {image: number for number, (solved, _) in enumerate(previous) for image in solved.tolist()}
    groups: dict[int | None, list[int]] = {}
    for position in positions.tolist():
        groups.setdefault(solve_of.get(int(image_indices[position])), []).append(position)
    return [torch.tensor(group, device=positions.device) for group in groups.values()]


def _without(previous: list[Solve], image_indices: Tensor) -> list[Solve]:
    """The previous solves, without the images at ``image_indices``."""
    solved_again, remaining = set(image_indices.tolist()), []
    for solved, result in previous:
        kept = torch.tensor([k for k, image in enumerate(solved.tolist()) if image not in solved_again]).long()
        if len(kept):
            remaining.append((solved[kept.to(solved.device)], result.select(kept)))
    return remaining
