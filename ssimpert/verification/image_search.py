"""The verification of one image: from the cheapest step to the dearest, until the decision is verified or falsified."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation import perturb
from ssimpert.perturbation.engines.catalog import Engine
from ssimpert.verification.branching import branched_bounds
from ssimpert.verification.effort import Effort
from ssimpert.verification.important_numbers import important_numbers, loose_numbers
from ssimpert.verification.network import Network
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.pre_activation_bounds import Limits, pre_activation_bounds
from ssimpert.verification.rules.base import Interval
from ssimpert.verification.slopes import RowBounds, row_bounds
from ssimpert.verification.verdict import Verdict

# The attack: every engine finds about the same margin here, and this one needs linear problems alone.
ATTACK_ENGINE: Engine = "frank_wolfe"
ATTACK_STEPS = 10
# Branch and bound ends where it has closed all but this share of the gap between bound and found margin.
RESOLUTION = 1e-2
ATTACK_SETTINGS = solvers.Settings(eps_rel=3e-2, max_iter=100)


@dataclass
class ImageSearch:
    """The verification of one image, from the cheapest step to the dearest.

    Attributes:
        model, network, image, label: the classifier, its trace, the image (1, C, H, W) and its class.
        constraint, support, settings: the set of the image, and the solver's settings.
        limits: memory and time.
        stop_when_decided: whether the work ends at a verdict.
        observer: told of what is done, and of the bound so far.
        class_bound: (K,), the best bounds so far.
        least_margin: the least margin seen within the set.
        adversarial: an image of the set that changes the decision, if one was found.
        loose: how many inner numbers are loose.
    """

    model: Model
    network: Network
    image: Tensor
    label: int
    constraint: Constraint
    support: solvers.Support | None
    settings: solvers.Settings
    limits: Limits
    stop_when_decided: bool
    observer: Callable[[str, float], None] | None = None
    adversarial: Tensor | None = None
    loose: int = 0
    class_bound: Tensor = field(init=False)
    class_found: Tensor = field(init=False)
    clean_margin: float = field(init=False)

    def __post_init__(self) -> None:
        self.perturbations = PerturbationSet(
            self.image, self.constraint, self.support, self.settings, self.limits.memory
        )
        logits = self.network.logits_of(self.perturbations.image)[0]
        self.class_bound = torch.full_like(logits, -torch.inf)
        self.class_bound[self.label] = torch.inf
        self.class_found = logits[self.label] - logits
        self.class_found[self.label] = torch.inf
        self.clean_margin = float(self.class_found.min())

    def run(self, effort: Effort, *, attack: bool) -> None:
        """Take the steps of ``effort``."""
        self._report("bounds over pixels")
        bounds = pre_activation_bounds(self.network, self.perturbations, self.limits)
        classes = self._open_classes()
        first = self._bound(classes, bounds)
        if attack and not self.decided:
            self._report("attack")
            self._attack()
        # Inner bounds over the set, where they matter.
        bounded = 0
        for count in effort.numbers:
            # Where the round before took all loose numbers, another has none to choose.
            if self.finished or loose_numbers(self.network, bounds) <= bounded:
                break
            bounded = count
            self._report("inner bounds over the set")
            chosen = important_numbers(self.network, bounds, first.at_output, count)
            bounds = pre_activation_bounds(self.network, self.perturbations, self.limits, earlier=bounds, chosen=chosen)
            classes = self._open_classes()
            first = self._bound(classes, bounds)
        # Slopes against the bound itself.
        if effort.slope_iterations and not self.finished:
            self._report("slopes")
            classes = self._open_classes()
            first = self._bound(classes, bounds, iterations=effort.slope_iterations)
        if effort.leaves and not self.finished:
            self._report("branch and bound")
            self._branch(classes, bounds, first, effort.leaves)
        self.loose = loose_numbers(self.network, bounds)

    @property
    def verified(self) -> bool:
        """Whether every margin is certainly positive."""
        return bool((self.class_bound > 0).all())

    @property
    def decided(self) -> bool:
        """Whether the image is verified or falsified."""
        return self.verified or self.adversarial is not None

    @property
    def finished(self) -> bool:
        """Whether nothing more is to be done."""
        return self.limits.is_over or (self.decided and self.stop_when_decided)

    @property
    def verdict(self) -> Verdict:
        """What is known."""
        if self.verified:
            return Verdict.VERIFIED
        return Verdict.UNKNOWN if self.adversarial is None else Verdict.FALSIFIED

    @property
    def _goal(self) -> float:
        """The bound beyond which a class needs no more work."""
        return 0.0 if self.stop_when_decided else math.inf

    def _open_classes(self) -> Tensor:
        """The classes whose bound is not good enough, (M,) long; all others at first."""
        is_open = self.class_bound <= self._goal
        is_open[self.label] = False
        return is_open.nonzero()[:, 0]

    def _rows(self, classes: Tensor) -> Tensor:
        """``f_label - f_j`` as rows on the logits, (M, K)."""
        rows = self.perturbations.image.new_zeros(len(classes), self.network.classes)
        rows[:, self.label] = 1
        rows[torch.arange(len(classes), device=classes.device), classes] = -1
        return rows

    def _bound(self, classes: Tensor, bounds: dict[int, Interval], iterations: int = 0) -> RowBounds:
        """Bound the margins to ``classes``, and look at the images where the bounds are low."""
        part = row_bounds(
            self.network,
            self.perturbations,
            self._rows(classes),
            bounds,
            self.limits,
            iterations=iterations,
            until=self._goal,
        )
        self.class_bound[classes] = torch.maximum(self.class_bound[classes], part.value)
        self._look_at(part.delta)
        return part

    def _branch(self, classes: Tensor, bounds: dict[int, Interval], first: RowBounds, leaves: int) -> None:
        # No bound can exceed what was found.
        found = self.class_found[classes]
        goals = (found - RESOLUTION * (found - first.value)).clamp_max(self._goal)
        value = branched_bounds(
            self.network,
            self.perturbations,
            self._rows(classes),
            bounds,
            first,
            self.limits,
            max_leaves=leaves,
            goals=goals,
        )
        self.class_bound[classes] = torch.maximum(self.class_bound[classes], value)

    def _look_at(self, delta: Tensor) -> None:
        """Evaluate the network at perturbations of the set, (M, C, H, W)."""
        inside = self.perturbations.inside(delta)
        images = (self.perturbations.image + delta[inside]).clamp(0, 1)
        if not len(images):
            return
        logits = self.network.logits_of(images)
        margins = logits[:, self.label : self.label + 1] - logits
        margins[:, self.label] = torch.inf
        self.class_found = torch.minimum(self.class_found, margins.amin(dim=0))
        lowest = int(margins.amin(dim=1).argmin())
        if float(margins[lowest].min()) < 0:
            self._accept(images[lowest : lowest + 1].to(self.image.dtype))

    def _attack(self) -> None:
        """Look for an image of the set that changes the decision."""
        result = perturb(
            self.model,
            self.image,
            self.constraint,
            engine=ATTACK_ENGINE,
            steps=ATTACK_STEPS,
            shrink=False,
            settings=ATTACK_SETTINGS,
            label=torch.tensor([self.label], device=self.image.device),
            support=None if self.support is None else self.support.mask,
        )
        self._look_at(result.delta.to(torch.float64))
        if bool(result.success[0]):
            self._accept(result.adversarial)

    def _accept(self, images: Tensor) -> None:
        """Take an image as the one that changes the decision, if the model's own forward pass says so."""
        if self.adversarial is None and int(forward(self.model, images).argmax()) != self.label:
            self.adversarial = images

    def _report(self, what: str) -> None:
        if self.observer is not None:
            self.observer(what, float(self.class_bound.min()))
