"""What a comparison refuses, before any map is made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import solvers
from solvers.validation import as_integer, shown
from ssimpert.analysis.attributions.catalog import ATTRIBUTIONS
from ssimpert.analysis.attributions.layer_gradients import mapped_layer, module_of_layer
from ssimpert.analysis.comparison.maps import CONTROL_MAPS, RANDOM_WEIGHTS
from ssimpert.analysis.comparison.options import CAMS, CONTROLS, FORWARD_ONLY, ComparisonOptions
from ssimpert.analysis.localization.boxes import padded_boxes
from ssimpert.analysis.localization.object_masks import check_masks
from ssimpert.analysis.map_agreement.shift_test import MIN_SHIFTS
from ssimpert.errors import InputError, unknown_name
from ssimpert.models import OnnxClassifier
from ssimpert.models.forward_copy import MAX_ROUNDINGS_APART, roundings_apart
from ssimpert.models.forward_passes import call_model, check_model
from ssimpert.models.layouts import check_layout
from ssimpert.perturbation.baselines.l2_control import CONTROL_NAME
from ssimpert.perturbation.inputs import support_mask, support_set
from ssimpert.perturbation.results import PerturbResult, check_made_from
from ssimpert.validation import check_flag, check_images, check_names, check_seed


def check_comparison(model: nn.Module, image: Tensor, result: PerturbResult, options: ComparisonOptions) -> None:
    """Raise :class:`InputError` where :func:`ssimpert.compare` would refuse its arguments.

    Args:
        model: the classifier that was perturbed.
        image: the clean images (B, C, H, W).
        result: the perturbation, which must be of ``image``.
        options: the keywords of :func:`ssimpert.compare`.
    """
    check_images("image", image)
    check_made_from(image, result, _called(result, "result"))
    _check_control(image, result, options)
    _check_values(model, image, options)
    _check_distinct([result.name, *_control_names(options.control), *_names_beside(options)])
    _check_by_passes(model, image, options)


def check_options(model: nn.Module, image: Tensor, options: ComparisonOptions) -> None:
    """The part of :func:`check_comparison` that needs no perturbation, for a caller that has yet to make one.

    ``control`` and ``support`` are not looked at.
    """
    _check_values(model, image, options)
    _check_by_passes(model, image, options)


def _check_values(model: nn.Module, image: Tensor, options: ComparisonOptions) -> None:
    """What needs no pass of the model."""
    check_images("image", image)
    _check_maps(model, options)
    _check_distinct(_names_beside(options))
    module_of_layer(model, options.layer)
    check_layout(options.layout, options.prefix_tokens)
    _check_objects(image, options)
    _check_insertion_deletion(model, options.insertion_deletion)
    check_flag("sanity", options.sanity)
    _check_shifts(options.shifts, image)
    check_seed(options.seed)


def _check_objects(image: Tensor, options: ComparisonOptions) -> None:
    """The masks and the boxes fit the images."""
    shape = (image.shape[0], *image.shape[-2:])
    if options.boxes is not None:
        padded_boxes(options.boxes, shape[0], image.device)
    masks = options.object_masks(image[:, 0])
    if masks is None:
        return
    if options.masks is None and not bool(masks.flatten(1).any(dim=1).all()):
        index = int((~masks.flatten(1).any(dim=1)).nonzero()[0])
        raise InputError(f"the boxes of image {index} hold no pixel's centre; give boxes in the image's pixels")
    check_masks(masks, shape)
    if masks.device != image.device:
        raise InputError(f"image is on {image.device}, masks on {masks.device}; bring both to one device")


def _check_by_passes(model: nn.Module, image: Tensor, options: ComparisonOptions) -> None:
    """What passes of one image show."""
    mapped_layer(model, options.layer, image, options.layout, options.prefix_tokens)
    if options.forward is not None:
        _check_forward(options.forward, model, image[:1], options)


def _called(result: PerturbResult, argument: str) -> str:
    """What errors call a perturbation: its name, or the argument where it has none."""
    name = getattr(result, "name", None)
    return argument if name is None else repr(name)


def _check_control(image: Tensor, result: PerturbResult, options: ComparisonOptions) -> None:
    if isinstance(options.control, str):
        if options.control not in CONTROLS:
            raise unknown_name("control", options.control, CONTROLS)
        _check_support(image, result, options.support)
        return
    if options.support is not None:
        raise InputError("support is for control='l2', which is made here; a ready control has its own")
    if options.control is not None:
        check_made_from(image, options.control, _called(options.control, "control"))


def _check_support(image: Tensor, result: PerturbResult, support: Tensor | None) -> None:
    """The control gets the room that the perturbation had: neither less nor more."""
    try:
        allowed = support_set(support, image)
    except solvers.ProblemError as error:
        shape = tuple(support.shape) if support is not None else None
        raise InputError(
            f"support of shape {shape} does not fit images {tuple(image.shape)}; give (H, W), (C, H, W) "
            "or (B, C or 1, H, W)"
        ) from error
    if allowed is None:
        if result.settings.get("support") is not None:
            raise InputError(
                f"{result.name!r} was confined to a support: give it as support=, so that its l2 control has the same "
                "room, or a control of your own"
            )
        return
    inside = support_mask(allowed.mask, image)
    outside = ((result.delta != 0) & ~inside).flatten(1).any(dim=1).nonzero()
    if len(outside):
        raise InputError(f"{result.name!r} changes pixels of image {int(outside[0])} outside of the support")


def _check_maps(model: nn.Module, options: ComparisonOptions) -> None:
    """The names of the maps that are asked for, and the model that has to explain itself."""
    if options.cam not in CAMS:
        raise unknown_name("class activation map", str(options.cam), CAMS)
    attributions, layer = options.attributions, options.layer
    if layer is not None and not isinstance(layer, str):
        raise InputError(f"layer must be the name of one of the model's modules, got a {type(layer).__name__}")
    check_model(model)
    for name in check_names("attributions", attributions):
        if name not in ATTRIBUTIONS:
            raise unknown_name("attribution", str(name), ATTRIBUTIONS)


def _names_beside(options: ComparisonOptions) -> list[str]:
    """The methods that stand beside the perturbation and its control."""
    return [*CONTROL_MAPS, *options.attributions, RANDOM_WEIGHTS]


def _control_names(control: str | PerturbResult | None) -> list[str]:
    if isinstance(control, str):
        return [CONTROL_NAME]
    return [] if control is None else [control.name]


def _check_distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two of the maps compared are named {name!r}; names must be distinct")


def _check_insertion_deletion(model: nn.Module, insertion_deletion: bool | int) -> None:
    if not isinstance(insertion_deletion, bool):
        step = as_integer(insertion_deletion)
        if step is None or step < 1:
            raise InputError(
                f"insertion_deletion must be True, False or a step of at least 1 pixel, got {shown(insertion_deletion)}"
            )
    if insertion_deletion and not isinstance(getattr(model, "mean", None), Tensor):
        raise InputError(
            f"{type(model).__name__} has no mean colour, which insertion and deletion need; give it a mean"
        )


def _check_forward(forward: OnnxClassifier, model: nn.Module, image: Tensor, options: ComparisonOptions) -> None:
    if not options.uses_forward:
        raise InputError(f"forward is for insertion_deletion, {' and '.join(FORWARD_ONLY)}; none is asked for")
    if not isinstance(forward, OnnxClassifier):
        raise InputError(f"forward must be what onnx_classifier makes, or None, got {type(forward).__name__}")
    with torch.no_grad():
        difference = roundings_apart(call_model(forward, image), call_model(model, image))
    if not difference <= MAX_ROUNDINGS_APART:  # true for NaN, too
        raise InputError("forward has other logits than model; make it of this model, once its weights are final")


def _check_shifts(shifts: int, image: Tensor) -> None:
    pixels = image.shape[-2] * image.shape[-1]
    number = as_integer(shifts)
    if number is None or (number != 0 and number < MIN_SHIFTS):
        raise InputError(f"shifts must be 0, for no p-values, or at least {MIN_SHIFTS}, got {shown(shifts)}")
    if number >= pixels:
        size = "x".join(str(side) for side in image.shape[-2:])
        raise InputError(f"images of {size} pixels have {pixels - 1} shifts, got shifts={shifts}; 0 leaves them out")
