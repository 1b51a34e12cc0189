"""The maps that stand beside a perturbation's: of the image alone, of the gradient, of a model that learned nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.catalog import attribution
from ssimpert.analysis.attributions.model_randomization import randomized_model
from ssimpert.analysis.perturbation_maps.controls import centred_gaussian, gradient_magnitude, local_std, local_variance
from ssimpert.analysis.perturbation_maps.saliency import saliency_maps
from ssimpert.linearization import linearize
from ssimpert.perturbation.results import PerturbResult

GRADIENT_MAGNITUDE = "gradient magnitude"
LOCAL_STD = "local std"
LOCAL_VARIANCE = "local variance"
CENTRED_GAUSSIAN = "centred Gaussian"
RANDOM_WEIGHTS = "random weights"
CONTROL_MAPS = (GRADIENT_MAGNITUDE, LOCAL_STD, LOCAL_VARIANCE, CENTRED_GAUSSIAN)

Maps = dict[str, dict[str, Tensor]]
"""Method -> kind of map -> (B, H, W)."""


def perturbation_maps(image: Tensor, result: PerturbResult) -> dict[str, Tensor]:
    """``rms``, ``ssim`` and ``contribution`` of a perturbation."""
    # From the perturbed image and not from result.delta: what counts is what the image shows after rounding.
    return saliency_maps(image, result.adversarial.to(image), result.gradient.to(image), data_range=1.0)


def control_maps(image: Tensor, result: PerturbResult) -> Maps:
    """The gradient's magnitude, the photo's local contrast twice, and the image's middle; no model is run."""
    count, _, height, width = image.shape
    centre = centred_gaussian(height, width, dtype=image.dtype, device=image.device)
    return {
        GRADIENT_MAGNITUDE: {"gradient_magnitude": gradient_magnitude(result.gradient.to(image))},
        LOCAL_STD: {"local_std": local_std(image)},
        LOCAL_VARIANCE: {"local_variance": local_variance(image)},
        CENTRED_GAUSSIAN: {"centred_gaussian": centre.expand(count, -1, -1)},
    }


def random_weights_maps(
    model: nn.Module, image: Tensor, result: PerturbResult, *, cam: str, layer: str | None, seed: int
) -> Maps:
    """The class activation map and the gradient's magnitude of the model with all its weights drawn anew.

    For the classes and the margin of the trained model. The batch norms take their statistics from ``image``, all
    images together (``calibration`` of :func:`ssimpert.analysis.randomized_model`): here alone the other images of a
    batch play a part. A map that agrees with the trained model's as well as this does depends on the architecture and
    the photo only (Adebayo et al., NeurIPS 2018).
    """
    with torch.inference_mode(False):
        # A clone, since a tensor made under inference_mode can't enter a graph.
        own, label = image.clone(), result.label.to(image.device).clone()
        untrained = randomized_model(model, seed=seed, calibration=own)
        gradient = linearize(untrained, own, label, result.margin).gradient
        explained = attribution(cam, untrained, own, result.label_before, layer=layer, seed=seed)
    return {RANDOM_WEIGHTS: {cam: explained, "gradient_magnitude": gradient_magnitude(gradient)}}
