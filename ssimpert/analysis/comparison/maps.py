"""The maps of a comparison: the class activation map, and every map that is compared with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from ssimpert.analysis.attributions.catalog import attribution
from ssimpert.analysis.attributions.model_randomization import randomized_model
from ssimpert.analysis.comparison.options import CAMS, FORWARD_ONLY, ComparisonOptions
from ssimpert.analysis.perturbation_maps.controls import centred_gaussian, gradient_magnitude, local_std, local_variance
from ssimpert.analysis.perturbation_maps.saliency import saliency_maps
from ssimpert.linearization import linearize
from ssimpert.perturbation.baselines.l2_control import l2_control
from ssimpert.perturbation.results import PerturbResult

GRADIENT_MAGNITUDE = "gradient magnitude"
LOCAL_STD = "local std"
LOCAL_VARIANCE = "local variance"
CENTRED_GAUSSIAN = "centred Gaussian"
RANDOM_WEIGHTS = "random weights"
CONTROL_MAPS = (GRADIENT_MAGNITUDE, LOCAL_STD, LOCAL_VARIANCE, CENTRED_GAUSSIAN)

Maps = dict[str, dict[str, Tensor]]
"""Method -> kind of map -> (B, H, W)."""

BeginStage = Callable[[str], None]
"""Called with the name of a stage, before that stage starts."""


@dataclass(frozen=True, eq=False)
class ComparedMaps:
    """All maps of a comparison.

    Attributes:
        cam: (B, H, W) in [0, 1], the class activation map.
        target: (B,) int64, the class that it explains: the model's own label of the clean image.
        control: the control perturbation, or ``None``.
        maps: what is compared with ``cam``, in the order of :class:`~ssimpert.analysis.Comparison`.
    """

    cam: Tensor
    target: Tensor
    control: PerturbResult | None
    maps: Maps


def compared_maps(
    model: nn.Module, image: Tensor, result: PerturbResult, options: ComparisonOptions, begin: BeginStage
) -> ComparedMaps:
    """Make every map of a comparison; ``options`` has been checked.

    Args:
        model: the classifier that was perturbed.
        image: the clean images (B, C, H, W) in [0, 1].
        result: the perturbation of ``image``.
        options: which maps to make.
        begin: called before each stage, :func:`number_of_map_stages` times in all.
    """
    begin(options.cam)
    target = result.label_before
    cam = attribution(options.cam, model, image, target, **options.cam_options, seed=options.seed)
    control = options.control
    if isinstance(control, str):
        begin("l2 control")
        control = l2_control(model, image, result, support=options.support)
    begin("perturbations and photo")
    maps: Maps = {result.name: perturbation_maps(image, result)}
    if control is not None:
        maps[control.name] = perturbation_maps(image, control)
    maps |= control_maps(image, result)
    for name in options.attributions:
        begin(name)
        maps[name] = {name: _attribution_map(name, model, image, target, options)}
    if options.sanity:
        begin(RANDOM_WEIGHTS)
        maps |= random_weights_maps(model, image, result, options)
    return ComparedMaps(cam, target, control, maps)


def number_of_map_stages(options: ComparisonOptions) -> int:
    """How many stages :func:`compared_maps` begins."""
    return 2 + isinstance(options.control, str) + len(options.attributions) + options.sanity


def number_of_maps(options: ComparisonOptions) -> int:
    """How many kinds of maps :func:`compared_maps` makes, the class activation map not among them."""
    perturbations = 1 + (options.control is not None)
    return 3 * perturbations + len(CONTROL_MAPS) + len(options.attributions) + 2 * options.sanity


def perturbation_maps(image: Tensor, result: PerturbResult) -> dict[str, Tensor]:
    """``rms``, ``ssim`` and ``contribution`` of a perturbation of ``image`` (B, C, H, W), (B, H, W) each."""
    # The maps are made of the perturbed image and not of result.delta: what counts is the image after rounding.
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


def random_weights_maps(model: nn.Module, image: Tensor, result: PerturbResult, options: ComparisonOptions) -> Maps:
    """The class activation map and the gradient's magnitude of the model with all its weights drawn anew.

    Both are for the classes and the margin of the trained model. The batch norms take their statistics from all of
    ``image`` together (``calibration`` of :func:`ssimpert.analysis.randomized_model`). This is the only map of a
    comparison in which the other images of a batch play a part.

    A map that agrees with the trained model's map no better than these maps do depends on the architecture and on the
    photo alone (Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018).
    """
    untrained = randomized_model(model, seed=options.seed, calibration=image)
    gradient = linearize(untrained, image, result.label.to(image.device), result.margin).gradient
    cam = attribution(options.cam, untrained, image, result.label_before, **options.cam_options, seed=options.seed)
    return {RANDOM_WEIGHTS: {options.cam: cam, "gradient_magnitude": gradient_magnitude(gradient)}}


def _attribution_map(name: str, model: nn.Module, image: Tensor, target: Tensor, options: ComparisonOptions) -> Tensor:
    model_to_run = options.forward_model(model) if name in FORWARD_ONLY else model
    cam_options = options.cam_options if name in CAMS else {}
    return attribution(name, model_to_run, image, target, **cam_options, seed=options.seed)
