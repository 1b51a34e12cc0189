"""Calls that perturb images."""

from __future__ import annotations

import ssimpert
from tests.ssimpert.numbers_of_any_kind.inputs import BALL, Calls, image, model, perturbed

CALLS: Calls = {
    "ssimpert.perturb": (
        lambda **o: ssimpert.perturb(model(), image(), BALL, **({"steps": 1} | o)),
        {"steps": 2, "batch_size": 1},
    ),
    "ssimpert.perturb: margin by": (
        lambda **o: ssimpert.perturb(model(), image(), BALL, steps=1, margin=ssimpert.Untargeted().by(**o)),
        {"least": 0.5},
    ),
    "ssimpert.perturb: targeted": (
        lambda target: ssimpert.perturb(model(), image(), BALL, steps=1, margin=ssimpert.Targeted(target)),
        {"target": 1},
    ),
    "ssimpert.perturb: any of": (
        lambda targets: ssimpert.perturb(model(), image(), BALL, steps=1, margin=ssimpert.AnyOf(targets)),
        {"targets": (1, 2)},
    ),
    "ssimpert.quantize": (lambda **o: ssimpert.quantize(model(), image(), perturbed(), **o), {"rounds": 1}),
    "ssimpert.minimal_budget": (
        lambda **o: ssimpert.minimal_budget(model(), image(), BALL, **({"steps": 2, "rounds": 2} | o)),
        {"steps": 3, "rounds": 3, "tolerance": 0.25, "candidates": 2},
    ),
    "ssimpert.margin_curve": (
        lambda **o: ssimpert.margin_curve(model(), image(), BALL, **({"levels": [0.25], "steps": 1} | o)),
        {"levels": (0.125, 0.25), "steps": 2},
    ),
    "ssimpert.perceptual_ball_constrained": (
        lambda **o: ssimpert.perceptual_ball_constrained(
            model(), image(), **({"radius": 0.5, "steps": 1, "layers": ["features.1"]} | o)
        ),
        {"radius": 0.25, "step_norm": 0.125, "steps": 2},
    ),
    "ssimpert.perceptual_ball_constrained: a radius per image": (
        lambda radius: ssimpert.perceptual_ball_constrained(model(), image(), radius, steps=1, layers=["features.1"]),
        {"radius": (0.25, 0.5)},
    ),
    "ssimpert.perceptual_ball_lbfgs": (
        lambda **o: ssimpert.perceptual_ball_lbfgs(
            model(), image(), **({"layers": ["features.1"], "iterations": 2} | o)
        ),
        {"gamma": 64.0, "s": 0.5, "v": -1.5, "targets": (1, 2), "iterations": 3, "history_size": 2},
    ),
    "ssimpert.foolbox_baseline": (
        lambda **o: ssimpert.foolbox_baseline(model(), image(), "l2-pgd", **({"steps": 1, "radius": 0.5} | o)),
        {"steps": 2, "radius": 0.25, "seed": 3},
    ),
    "ssimpert.foolbox_baseline: a radius per image": (
        lambda radius: ssimpert.foolbox_baseline(model(), image(), "l2-pgd", steps=1, radius=radius),
        {"radius": (0.25, 0.5)},
    ),
}
