"""Calls of comparisons, maps, agreement, localization and statistics."""

from __future__ import annotations

import numpy as np
import torch

import ssimpert
from ssimpert import analysis
from tests.ssimpert.numbers_of_any_kind.inputs import (
    SIDE,
    TOKEN_LAYER,
    Calls,
    comparison,
    image,
    maps,
    masks,
    model,
    near,
    perturbed,
    tabled,
    targets,
    thresholded,
    transformer,
)


def differences() -> list[float]:
    return [0.5, -0.25, 0.75, 0.125, 0.5, 0.25]


CALLS: Calls = {
    "ssimpert.compare": (
        lambda **o: ssimpert.compare(model(), image(), perturbed(), **({"shifts": 0, "control": None} | o)),
        {"insertion_deletion": 64, "shifts": 210, "seed": 3},
    ),
    "ssimpert.compare: tokens": (
        lambda **o: ssimpert.compare(
            transformer(), image(), perturbed(), layer=TOKEN_LAYER, shifts=0, control=None, **o
        ),
        {"prefix_tokens": 5},
    ),
    "ssimpert.Comparison.table: a column": (
        lambda level: comparison().table(images=["a", "b"], columns={"level": level}),
        {"level": (0.5, 0.25)},
    ),
    "ssimpert.analysis.agreement_table": (
        lambda images: analysis.agreement_table(
            analysis.agreement(maps(), maps().flip(0)),
            images=images,
            method="m",
            kind="k",
            columns={"level": np.array([0.5, 0.25])},
        ),
        {"images": (3, 5)},
    ),
    "ssimpert.analysis.bootstrap_interval": (
        lambda **o: analysis.bootstrap_interval(differences(), **({"resamples": 20} | o)),
        {"clusters": (1, 1, 2, 2, 3, 3), "confidence": 0.75, "resamples": 30, "seed": 3},
    ),
    "ssimpert.analysis.sign_flip_test": (
        lambda **o: analysis.sign_flip_test(differences() * 4, **({"permutations": 20} | o)),
        {"clusters": (1, 1, 2, 2, 3, 3) * 4, "permutations": 30, "seed": 3},
    ),
    "ssimpert.analysis.summarize": (
        lambda **o: analysis.summarize(tabled(), **({"resamples": 20} | o)),
        {"confidence": 0.75, "resamples": 30, "seed": 3},
    ),
    "ssimpert.analysis.paired_differences": (
        lambda **o: analysis.paired_differences(tabled(), ["local std"], **({"resamples": 20} | o)),
        {"confidence": 0.75, "resamples": 30, "permutations": 30, "seed": 3},
    ),
    "ssimpert.analysis.centre_points": (
        lambda **o: analysis.centre_points(**({"count": 2, "height": 8, "width": 9} | o)),
        {"count": 3, "height": 7, "width": 5},
    ),
    "ssimpert.analysis.centred_gaussian": (
        lambda **o: analysis.centred_gaussian(**({"height": 8, "width": 9} | o)),
        {"height": 7, "width": 5, "sigma": 0.5},
    ),
    "ssimpert.analysis.chance_of_hit": (lambda **o: analysis.chance_of_hit(masks(), **o), {"tolerance": 2.5}),
    "ssimpert.analysis.mask_agreement": (
        lambda **o: analysis.mask_agreement(maps(), masks(), **o),
        {"tolerance": 2.5},
    ),
    "ssimpert.analysis.pointing_game": (
        lambda **o: analysis.pointing_game(maps(), masks(), targets(), **o),
        {"tolerance": 2.5},
    ),
    "ssimpert.analysis.point_game": (
        lambda **o: analysis.point_game(analysis.centre_points(2, SIDE, SIDE), masks(), targets(), **o),
        {"tolerance": 2.5},
    ),
    "ssimpert.analysis.cross_validated": (
        lambda **o: analysis.cross_validated(thresholded(), **({"folds": 2} | o)),
        {"folds": 2, "seed": 3},
    ),
    "ssimpert.analysis.choose_alpha": (lambda **o: analysis.choose_alpha(thresholded(), **o), {"images": (1,)}),
    "ssimpert.analysis.thresholded_boxes": (
        lambda **o: analysis.thresholded_boxes(maps(), torch.tensor([[2.0, 3, 9, 8], [4, 4, 12, 11]]), "mean", **o),
        {"alphas": (0.5, 1.25)},
    ),
    "ssimpert.analysis.random_labels": (
        lambda **o: analysis.random_labels(targets(), **({"classes": 4, "seed": 0} | o)),
        {"classes": 5, "seed": 3},
    ),
    "ssimpert.analysis.randomized_model": (
        lambda **o: analysis.randomized_model(model(), **({"seed": 0} | o))(image()),
        {"layers": 1, "seed": 3},
    ),
    "ssimpert.analysis.shift_null": (
        lambda **o: analysis.shift_null(maps(), maps().flip(0), **({"shifts": 200} | o)),
        {"shifts": 210, "minimum_distance": 2.5, "seed": 3},
    ),
    "ssimpert.analysis.top_iou": (lambda **o: analysis.top_iou(maps(), maps().flip(0), **o), {"share": 0.25}),
    "ssimpert.analysis.rms": (lambda **o: analysis.rms(near() - image(), **o), {"sigma": 1.5}),
    "ssimpert.analysis.contribution": (
        lambda **o: analysis.contribution(image(), near() - image(), **o),
        {"sigma": 1.5},
    ),
    "ssimpert.analysis.gradient_magnitude": (lambda **o: analysis.gradient_magnitude(image(), **o), {"sigma": 1.5}),
    "ssimpert.analysis.perceptual_ball_saliency": (
        lambda **o: analysis.perceptual_ball_saliency(model(), image(), near(), **o),
        {"sigma": 1.5},
    ),
    "ssimpert.analysis.saliency": (
        lambda **o: [analysis.saliency(kind, image(), near(), **o) for kind in ("rms", "ssim")],
        {"sigma": 1.5, "data_range": 2.0},
    ),
    "ssimpert.analysis.saliency_maps": (
        lambda **o: analysis.saliency_maps(image(), near(), image(), **o),
        {"sigma": 1.5, "data_range": 2.0},
    ),
    "ssimpert.analysis.ssim_saliency": (
        lambda **o: analysis.ssim_saliency(image(), near(), **o),
        {"data_range": 2.0},
    ),
    **{
        f"ssimpert.analysis.{name}: values": (
            lambda name=name, **o: getattr(analysis, name)(**o),
            {"values" if name == "bootstrap_interval" else "differences": (0.5, -0.25, 0.75)},
        )
        for name in ("bootstrap_interval", "sign_flip_test", "cohens_dz", "rank_biserial")
    },
}
