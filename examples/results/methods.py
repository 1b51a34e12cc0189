"""The rows of the table: perturbations, their controls, and the maps of other methods.

Every method takes a :class:`Setting`. It gives maps (N, H, W) by kind, and for perturbations their figures.
Perturbations have a fixed budget and use all of their steps, unless their name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import solvers
import ssimpert
from solvers.constraints import Constraint
from ssimpert.analysis import (
    attribution,
    centred_gaussian,
    grad_cam,
    local_std,
    local_variance,
    randomized_model,
    saliency_maps,
)
from ssimpert.analysis.comparison.options import FORWARD_ONLY

TILES = solvers.Window.uniform(8, stride=8)
PUBLISHED = solvers.Window.gaussian(1.5, 11, border="valid")
STEPS = 10
BATCH = 8
SEED = 0
MapsAndRows = tuple[dict[str, Tensor], list[dict[str, Any]] | None]


@dataclass(frozen=True)
class Setting:
    """The model and the images, which are the same for every method.

    Attributes:
        model: the classifier.
        forward: the classifier or its ONNX copy, for methods that need no gradient.
        images: (N, 3, S, S).
        label: (N,), the model's labels.
        norm_of: from the name of a perturbation to its l2 norms (N,), for controls of equal norm.
    """

    model: ssimpert.Classifier
    forward: ssimpert.Classifier | ssimpert.OnnxClassifier
    images: Tensor
    label: Tensor
    norm_of: Callable[[str], Tensor]


Method = Callable[[Setting], MapsAndRows]


def _maps(setting: Setting, result: ssimpert.PerturbResult) -> MapsAndRows:
    return saliency_maps(setting.images, result.adversarial, result.gradient), result.rows()


def _in_batches(setting: Setting, perturb: Callable[[Tensor, slice], ssimpert.PerturbResult]) -> MapsAndRows:
    """Perturb a few images at a time, so that no method needs memory for all images."""
    kinds: dict[str, list[Tensor]] = {}
    rows: list[dict[str, Any]] = []
    for begin in range(0, len(setting.images), BATCH):
        part = slice(begin, begin + BATCH)
        batch = replace(setting, images=setting.images[part], label=setting.label[part])
        maps, figures = _maps(batch, perturb(batch.images, part))
        for kind, values in maps.items():
            kinds.setdefault(kind, []).append(values)
        rows += [{**row, "image": begin + int(row["image"])} for row in figures or []]
    return {kind: torch.cat(parts) for kind, parts in kinds.items()}, rows


def within(constraint: Constraint, *, steps: int = STEPS, eps: float = 1e-2, **options: Any) -> Method:
    """A method: ``perturb`` within ``constraint``, with all steps."""

    def method(setting: Setting) -> MapsAndRows:
        return _in_batches(
            setting,
            lambda images, part: ssimpert.perturb(
                setting.model,
                images,
                constraint,
                steps=steps,
                stop_at_success=False,
                settings={"eps_rel": eps},
                **options,
            ),
        )

    return method


def one_step(constraint: Constraint) -> Method:
    """A method: one step, the whole way to the linear optimum."""
    return within(constraint, steps=1, engine="frank_wolfe")


def released(setting: Setting) -> MapsAndRows:
    """The SSIM ball as in the released code: re-centred, and stopped at the first change of the label."""
    return _in_batches(
        setting,
        lambda images, part: ssimpert.perturb(
            setting.model, images, solvers.GlobalSSIM(0.005), steps=20, recentred=True, faithful=True
        ),
    )


def perceptual_ball(setting: Setting) -> MapsAndRows:
    """The penalised perceptual ball."""
    return _in_batches(
        setting, lambda images, part: ssimpert.perceptual_ball_lbfgs(setting.model, images, iterations=40)
    )


def feature_ball(setting: Setting) -> MapsAndRows:
    """The perceptual ball with a bound on the feature distance."""
    return _in_batches(
        setting,
        lambda images, part: ssimpert.perceptual_ball_constrained(
            setting.model, images, 0.3, steps=4, stop_at_success=False, settings={"eps_rel": 3e-2}
        ),
    )


def equal_norm(name: str) -> Method:
    """A control: l2 ascent with the norms of the perturbation ``name``, the same engine and number of steps."""

    def method(setting: Setting) -> MapsAndRows:
        radius = setting.norm_of(name).clamp_min(1e-6)
        return _in_batches(
            setting,
            lambda images, part: ssimpert.perturb(
                setting.model, images, solvers.LpBall(2, radius[part]), steps=STEPS, stop_at_success=False
            ),
        )

    return method


def drawn(name: str, **options: Any) -> Method:
    """A method: the map of the attribution ``name``."""

    def method(setting: Setting) -> MapsAndRows:
        model = setting.forward if name in FORWARD_ONLY else setting.model
        parts = [
            attribution(name, model, images, label, seed=SEED, **options)
            for images, label in zip(setting.images.split(BATCH), setting.label.split(BATCH), strict=True)
        ]
        return {"map": torch.cat(parts)}, None

    return method


def deviation(setting: Setting) -> MapsAndRows:
    """The photo's local standard deviation."""
    return {"map": local_std(setting.images)}, None


def variance(setting: Setting) -> MapsAndRows:
    """The photo's local variance."""
    return {"map": local_variance(setting.images)}, None


def centre(setting: Setting) -> MapsAndRows:
    """A Gaussian around the centre of the image."""
    size = setting.images.shape[-1]
    return {"map": centred_gaussian(size, size).expand(len(setting.images), -1, -1).contiguous()}, None


def noise(setting: Setting) -> MapsAndRows:
    """Smoothed white noise: a map that does not depend on the image."""
    from ssimpert.analysis.perturbation_maps.smoothing import gaussian_smooth

    shape = setting.images[:, 0].shape
    white = torch.rand(shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    return {"map": gaussian_smooth(white, 2.0).float()}, None


def random_weights(setting: Setting) -> MapsAndRows:
    """Grad-CAM of the same architecture with random weights (Adebayo et al., 2018)."""
    model = randomized_model(setting.model, seed=SEED, calibration=setting.images[:16])
    parts = [
        grad_cam(model, images, label)
        for images, label in zip(setting.images.split(BATCH), setting.label.split(BATCH), strict=True)
    ]
    return {"map": torch.cat(parts)}, None


ONE_STEP: dict[str, Method] = {
    "l2, one step": one_step(solvers.LpBall(2, 0.5)),
    "tiles 8x8, one step": one_step(solvers.WindowSSIM(0.95, TILES)),
    "mean SSIM of tiles, one step": one_step(solvers.MeanSSIM(0.95, TILES)),
    "mean SSIM, one step": one_step(solvers.MeanSSIM(0.95, PUBLISHED)),
    "GlobalSSIM, one step": one_step(solvers.GlobalSSIM(0.02)),
}
FULL: dict[str, Method] = {
    "GlobalSSIM, released": released,
    "WindowSSIM 8x8 tiles": within(solvers.WindowSSIM(0.95, TILES)),
    "WindowSSIM 7x7": within(solvers.WindowSSIM(0.95, solvers.Window.uniform(7)), steps=3),
    "MeanSSIM": within(solvers.MeanSSIM(0.99, PUBLISHED)),
    # The published index has whole windows only, so the pixels at the edge count little.
    "MeanSSIM, full border": within(solvers.MeanSSIM(0.99, solvers.Window.gaussian(1.5, 11))),
    "FeatureBall": feature_ball,
    "perceptual_ball_lbfgs": perceptual_ball,
    "l2": within(solvers.LpBall(2, 0.5)),
    "linf": within(solvers.LpBall(torch.inf, 2 / 255)),
}
CONTROLS: dict[str, Method] = {
    f"l2 of equal norm to {name}": equal_norm(name) for name in FULL if name not in ("l2", "linf")
}
DRAWN: dict[str, Method] = {
    "Grad-CAM": drawn("grad_cam"),
    "gradient": drawn("gradient"),
    "integrated gradients": drawn("integrated_gradients"),
    "occlusion": drawn("occlusion", stride=24),
    "RISE": drawn("rise", masks=300),
    "local std": deviation,
    "local variance": variance,
    "centred Gaussian": centre,
    "smooth noise": noise,
    "Grad-CAM, random weights": random_weights,
}
# The maps that, beside the perturbations, go through the more expensive benchmarks.
BENCHED = ("Grad-CAM", "gradient", "integrated gradients", "occlusion", "RISE", "local std", "centred Gaussian")
ALL: dict[str, Method] = {**DRAWN, **ONE_STEP, **FULL, **CONTROLS}
