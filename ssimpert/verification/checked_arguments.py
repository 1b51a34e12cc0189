"""What ``verify`` and ``certified_level`` share: their arguments, checked before any bound is computed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import solvers
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization import Untargeted
from ssimpert.models.forward_passes import Model, forward
from ssimpert.perturbation.engines.step_solver import certified
from ssimpert.perturbation.evaluation import require_sound_margins
from ssimpert.perturbation.inputs import checked_goal, support_set, support_share
from ssimpert.records import describe_settings
from ssimpert.validation import check_count, check_positive
from ssimpert.verification.effort import Effort, EffortName, effort_of
from ssimpert.verification.image_search import ImageSearch
from ssimpert.verification.linear_bounds import rows_at_once
from ssimpert.verification.network import Network
from ssimpert.verification.perturbation_set import PerturbationSet
from ssimpert.verification.pre_activation_bounds import Limits
from ssimpert.verification.tracing import trace

# The solver's settings by default: a percent of a bound decides few verdicts.
SOLVER_SETTINGS = solvers.Settings(eps_rel=1e-2, max_iter=400)
MEMORY_LIMIT = 2**31


@dataclass(frozen=True, eq=False)
class Work:
    """What the work on each image consists of, and what it may take.

    Attributes:
        effort: the steps that are taken.
        effort_name: what the steps are called.
        time_limit: seconds; infinite for none.
        memory_limit: bytes.
        settings: of the solver.
    """

    effort: Effort
    effort_name: EffortName
    time_limit: float
    memory_limit: int
    settings: solvers.Settings

    @classmethod
    def checked(
        cls,
        effort: EffortName,
        time_limit: float | None,
        memory_limit: int,
        settings: solvers.Settings | dict[str, Any] | None,
    ) -> Work:
        """The work that these arguments of :func:`~ssimpert.verify` describe.

        Raises:
            InputError, solvers.ProblemError: one of them is out of range.
        """
        return cls(
            effort_of(effort),
            effort,
            math.inf if time_limit is None else check_positive("time_limit", time_limit),
            check_count("memory_limit", memory_limit),
            SOLVER_SETTINGS if settings is None else solvers.Settings.of(settings),
        )


@dataclass(frozen=True, eq=False)
class CheckedArguments:
    """Images with the network that decides them, and the work on each.

    Attributes:
        model: the classifier.
        network: its trace.
        image: (B, C, H, W) in [0, 1].
        labels: (B,) long, the classes that are decided for.
        region: where pixels may change; ``None`` for everywhere.
        work: on each image.
        record: the arguments as plain values.
    """

    model: Model
    network: Network
    image: Tensor
    labels: Tensor
    region: solvers.Support | None
    work: Work
    record: dict[str, Any]

    def search(
        self,
        number: int,
        constraint: Constraint,
        *,
        stop_when_decided: bool,
        observer: Callable[[str, float], None] | None = None,
    ) -> ImageSearch:
        """The work on one image, whose time begins now.

        Args:
            number: of the image, from 0.
            constraint: the set of this image alone.
            stop_when_decided: whether the work ends at the verdict.
            observer: told of what is done, and of the bound so far.
        """
        index = torch.tensor([number], device=self.image.device)
        return ImageSearch(
            model=self.model,
            network=self.network,
            image=self.image[index],
            label=int(self.labels[number]),
            constraint=constraint,
            support=None if self.region is None else self.region.select(index, len(self.image)),
            settings=self.work.settings,
            limits=Limits(self.work.memory_limit, time.perf_counter() + self.work.time_limit),
            stop_when_decided=stop_when_decided,
            observer=observer,
        )


def checked_arguments(
    model: Model, image: Tensor, constraint: Constraint, work: Work, *, label: Tensor | None, support: Tensor | None
) -> CheckedArguments:
    """The arguments, where nothing forbids a proof.

    Args:
        model, constraint, label, support: as for :func:`~ssimpert.verify`.
        image: the images, whose pixels were checked before.
        work: on each image.

    Raises:
        InputError, solvers.ProblemError: as :func:`~ssimpert.verify`.
    """
    check_certified_set(constraint)
    constraint.check(image)
    region = support_set(support, image)
    labels = checked_labels(model, image, label)
    network = trace(model, image[:1])
    rows_at_once(network, work.memory_limit, with_gradients=work.effort.slope_iterations > 0)
    PerturbationSet.check_memory(image[:1], work.memory_limit)
    record = {
        "effort": work.effort_name,
        "time_limit": None if math.isinf(work.time_limit) else work.time_limit,
        "memory_limit": work.memory_limit,
        "support": support_share(support),
        "solver": describe_settings(work.settings),
        "label": None if label is None else labels.tolist(),
    }
    return CheckedArguments(model, network, image, labels, region, work, record)


def check_certified_set(constraint: Constraint) -> None:
    """Raise :class:`InputError` unless the solvers certify a bound over ``constraint``."""
    if not isinstance(constraint, Constraint):
        raise InputError(f"constraint must be a set such as solvers.ProductSSIM, got {constraint!r}")
    if isinstance(constraint, solvers.MeanSSIM) and not constraint.window.is_tiling:
        raise InputError(
            "MeanSSIM on overlapping windows has no certified bound, so nothing can be proved over it; give it tiles "
            "(a stride equal to the window's size), or take ProductSSIM"
        )
    if certified(constraint, "auto") == "stationary":
        raise InputError(f"{constraint.kind} has no certified bound, so nothing can be proved over it")


def checked_labels(model: Model, image: Tensor, label: Tensor | None) -> Tensor:
    """The classes (B,) that are decided for.

    Raises:
        InputError: no logits, wrong labels, or an image that the model takes for another class than its label.
    """
    goal = checked_goal(model, image, label, Untargeted())
    logits = forward(model, image)
    require_sound_margins(goal.margin(logits, goal.label))
    own = logits.argmax(dim=1)
    for number, (given, predicted) in enumerate(zip(goal.label.tolist(), own.tolist(), strict=True)):
        if given != predicted:
            raise InputError(
                f"image {number} is classified as {predicted}, not as its label {given}; there is no decision to verify"
            )
    return goal.label
