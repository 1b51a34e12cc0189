"""From a formulation and a level to a perturbation."""

from __future__ import annotations

from torch import Tensor

from solvers.constraints import Constraint
from ssimpert.formulations.feature_balls import ConstrainedBall, FeatureBallSet, PenalisedBall, PerceptualBall
from ssimpert.models import Classifier
from ssimpert.perturbation import PerturbResult, minimal_budget, perturb, quantize
from ssimpert.perturbation.budget_search.least_strength import least_strength
from ssimpert.study.sections.formulation import FormulationSection


def run_formulation(
    section: FormulationSection, level: float | None, model: Classifier, images: Tensor
) -> PerturbResult:
    """Perturb ``images`` (B, 3, S, S) in [0, 1], on the model's device, as a formulation at a level asks.

    Args:
        section: the formulation.
        level: one of its levels; ``None`` where the least level is searched for.
        model: the classifier.
        images: the clean images.
    """
    constraint = section.constraint_at(section.levels[0] if level is None else level)
    run = _minimal_run if section.is_minimal else _fixed_run
    return run(section, constraint, model, images)


def _fixed_run(
    section: FormulationSection,
    constraint: Constraint | FeatureBallSet | PerceptualBall,
    model: Classifier,
    images: Tensor,
) -> PerturbResult:
    if isinstance(constraint, PenalisedBall | ConstrainedBall):
        result = constraint.perturb(model, images, section.used_steps())
        return quantize(model, images, result) if section.quantize else result
    return perturb(
        model,
        images,
        _set_around(constraint, model, images),
        steps=section.used_steps(),
        margin=section.goal(),
        engine=section.engine_for_perturb,
        faithful=section.faithful,
        **section.stopping_options(),
        method=section.method,
        settings=section.solver_settings(),
        quantize=section.quantize,
    )


def _minimal_run(
    section: FormulationSection,
    constraint: Constraint | FeatureBallSet | PerceptualBall,
    model: Classifier,
    images: Tensor,
) -> PerturbResult:
    search = section.search_options()
    if isinstance(constraint, PenalisedBall | ConstrainedBall):
        ball, steps = constraint, section.used_steps()
        return least_strength(
            lambda image, strength: ball.at_strength(strength).perturb(model, image, steps),
            images,
            ball.strength,
            unit=ball.strength_unit,
            **search,
        )
    return minimal_budget(
        model,
        images,
        _set_around(constraint, model, images),
        steps=section.used_steps(),
        **search,
        margin=section.goal(),
        engine=section.engine_for_perturb,
        method=section.method,
        settings=section.solver_settings(),
    )


def _set_around(constraint: Constraint | FeatureBallSet, model: Classifier, images: Tensor) -> Constraint:
    return constraint.at(model, images) if isinstance(constraint, FeatureBallSet) else constraint
