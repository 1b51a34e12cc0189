"""A perturbation beside a class activation map and beside its controls: maps, measures and significance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import torch
from torch import Tensor, nn

from ssimpert.analysis.attributions.catalog import ATTRIBUTIONS, attribution
from ssimpert.analysis.attributions.layer_gradients import find_layer
from ssimpert.analysis.comparison.maps import (
    CONTROL_MAPS,
    RANDOM_WEIGHTS,
    Maps,
    control_maps,
    perturbation_maps,
    random_weights_maps,
)
from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.comparison.scores import MapScores, score_map
from ssimpert.analysis.localization.mask_agreement import check_masks
from ssimpert.analysis.map_agreement.shift_test import MIN_SHIFTS
from ssimpert.errors import InputError, unknown_name
from ssimpert.models import OnnxClassifier
from ssimpert.models.forward_copy import MAX_ROUNDINGS_APART, roundings_apart
from ssimpert.perturbation.baselines.l2_control import CONTROL_NAME, l2_control
from ssimpert.perturbation.results import SAME_IMAGE, PerturbResult, apart_from
from ssimpert.validation import check_images, check_seed

CONTROLS = ("l2",)
CAMS = ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "guided_grad_cam")
FORWARD_ONLY = ("occlusion", "rise")
"""The attributions that need no gradient."""

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the stages done and their number: before each stage, and once at the end."""


def compare(
    model: nn.Module,
    image: Tensor,
    result: PerturbResult,
    *,
    control: str | PerturbResult | None = "l2",
    support: Tensor | None = None,
    layer: str | None = None,
    cam: str = "grad_cam",
    attributions: Sequence[str] = (),
    masks: Tensor | None = None,
    insertion_deletion: bool | int = False,
    sanity: bool = False,
    shifts: int = MIN_SHIFTS,
    seed: int = 0,
    forward: OnnxClassifier | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare a perturbation with a class activation map of the clean image, controls beside it.

    The perturbation's three maps, those of its control, the gradient's magnitude, the photo's local standard deviation
    and variance, and a centred Gaussian are always compared. Every map gets all agreement metrics, NaN with a reason
    where undefined, and, for Pearson and Spearman, a p-value by circular shifts for each image.

    Args:
        model: the classifier that was perturbed, in evaluation mode.
        image: the clean images (B, C, H, W) in [0, 1].
        result: the perturbation of ``image``.
        control: ``"l2"`` (default) runs l2 ascent with the same radius for each step
            (:func:`ssimpert.perturbation.baselines.l2_control.l2_control`); a ready result stands in for it; ``None``
            leaves it out.
        support: of a perturbation that was confined, the mask that :func:`~ssimpert.perturb` got, so that ``"l2"`` has
            the same room.
        layer: the layer of the class activation map; default ``model.cam_layer``.
        cam: the map to compare with, a name in :data:`CAMS`; default ``"grad_cam"``.
        attributions: further maps, names in :data:`ssimpert.analysis.ATTRIBUTIONS`, with their defaults, for the
            class that ``cam`` explains, min-max scaled as it is. One that ``cam`` is too is compared with itself, for
            the sake of its other measures.
        masks: (B, H, W) bool, the objects: adds energy, pointing and the best box
            (:func:`ssimpert.analysis.localization.mask_agreement.mask_agreement`).
        insertion_deletion: True adds both curves and their AUC for every map, 8 rows of pixels a step; a number is
            the step. Twice as many forward passes as steps, for each map. Needs a model with a ``mean``.
        sanity: True adds the class activation map and the gradient's magnitude of the model with random weights.
        shifts: of the p-values, at least 200 and less than H W; 0 leaves them out.
        seed: of the shifts, of the attributions that draw random numbers, and of the random weights.
        forward: ``onnx_classifier(model, image[:1])``, through which :data:`FORWARD_ONLY`, insertion and deletion then
            pass their images, in little more than half the time. ``None`` (default): through ``model``.
        progress: see :data:`Progress`.

    Images don't influence one another, but for the random weights' calibration (``sanity``).

    Raises:
        InputError: an unknown control, layer or name, images, masks or a support that don't fit the result, two maps of
            one name, numbers out of range, a model in training mode, a ``forward`` of other images or weights, or one
            that nothing asked for would use; all before any map is made.
    """
    check_images("image", image)
    check_fits(image, result)
    if isinstance(control, str):
        if control not in CONTROLS:
            raise unknown_name("control", control, CONTROLS)
        check_room(image, result, support)
    else:
        if support is not None:
            raise InputError("support is for control='l2', which is made here; a ready control has its own")
        if control is not None:
            check_fits(image, control)
    check_options(
        model,
        image,
        layer=layer,
        cam=cam,
        attributions=attributions,
        masks=masks,
        insertion_deletion=insertion_deletion,
        sanity=sanity,
        shifts=shifts,
        seed=seed,
        forward=forward,
    )
    _check_distinct([result.name, *_control_name(control), *CONTROL_MAPS, *attributions, RANDOM_WEIGHTS])

    made_here = isinstance(control, str)
    compared = 3 + 3 * (control is not None) + len(CONTROL_MAPS) + len(attributions) + 2 * sanity
    total = 2 + made_here + len(attributions) + sanity + compared
    done = count()

    def begin(stage: str) -> None:
        if progress is not None:
            progress(stage, next(done), total)

    passed = model if forward is None else forward
    begin(cam)
    target = result.label_before
    explained = attribution(cam, model, image, target, layer=layer, seed=seed)
    other = None if isinstance(control, str) else control
    if made_here:
        begin("l2 control")
        other = l2_control(model, image, result, support=support)
    begin("perturbations and photo")
    maps: Maps = {result.name: perturbation_maps(image, result)}
    if other is not None:
        maps[other.name] = perturbation_maps(image, other)
    maps |= control_maps(image, result)
    for name in attributions:
        begin(name)
        own_layer = layer if name in CAMS else None
        asked = passed if name in FORWARD_ONLY else model
        maps[name] = {name: attribution(name, asked, image, target, layer=own_layer, seed=seed)}
    if sanity:
        begin(RANDOM_WEIGHTS)
        maps |= random_weights_maps(model, image, result, cam=cam, layer=layer, seed=seed)

    curves = insertion_deletion is not False
    step = None if isinstance(insertion_deletion, bool) else insertion_deletion
    scores: dict[str, dict[str, MapScores]] = {}
    for name, kinds in maps.items():
        scores[name] = {}
        for kind, values in kinds.items():
            begin(f"measuring {name}")
            scores[name][kind] = score_map(
                passed,
                image,
                values,
                explained,
                target,
                masks=masks,
                curves=curves,
                step=step,
                shifts=shifts,
                seed=seed,
            )
    begin("done")
    return Comparison(
        perturbation=result.name,
        cam=explained,
        cam_name=cam,
        cam_target=target,
        cam_layer=layer if layer is not None else str(getattr(model, "cam_layer", "")),
        maps=maps,
        scores=scores,
        control=other,
        settings={
            "attributions": list(attributions),
            "masks": masks is not None,
            "insertion_deletion": insertion_deletion,
            "sanity": sanity,
            "shifts": shifts,
            "seed": seed,
            "forward": "torch" if forward is None else "onnx",
        },
    )


def check_options(
    model: nn.Module,
    image: Tensor,
    *,
    layer: str | None = None,
    cam: str = "grad_cam",
    attributions: Sequence[str] = (),
    masks: Tensor | None = None,
    insertion_deletion: bool | int = False,
    sanity: bool = False,
    shifts: int = MIN_SHIFTS,
    seed: int = 0,
    forward: OnnxClassifier | None = None,
) -> None:
    """Raise :class:`InputError` where :func:`compare` would refuse its options, for whoever has yet to perturb."""
    check_images("image", image)
    if cam not in CAMS:
        raise unknown_name("class activation map", str(cam), CAMS)
    if isinstance(attributions, str) or not isinstance(attributions, Sequence):
        raise InputError(f"attributions must be a list of names, got {attributions!r}")
    if layer is not None and not isinstance(layer, str):
        raise InputError(f"layer must be the name of one of the model's modules, got a {type(layer).__name__}")
    if isinstance(model, nn.Module) and any(module.training for module in model.modules()):
        raise InputError(f"{type(model).__name__} is in training mode; call its eval() before it is compared")
    for name in attributions:
        if name not in ATTRIBUTIONS:
            raise unknown_name("attribution", str(name), ATTRIBUTIONS)
    _check_distinct([*CONTROL_MAPS, *attributions, RANDOM_WEIGHTS])
    find_layer(model, layer)
    if masks is not None:
        check_masks(masks, (image.shape[0], *image.shape[-2:]))
        if masks.device != image.device:
            raise InputError(f"image is on {image.device}, masks on {masks.device}; bring both to one device")
    _check_insertion_deletion(model, insertion_deletion)
    if not isinstance(sanity, bool):
        raise InputError(f"sanity must be True or False, got {sanity!r}")
    _check_shifts(shifts, image)
    check_seed(seed)
    if forward is not None:
        if not insertion_deletion and not set(FORWARD_ONLY) & set(attributions):
            raise InputError(f"forward is for insertion_deletion, {' and '.join(FORWARD_ONLY)}; none is asked for")
        _check_forward(forward, model, image[:1])


def _control_name(control: str | PerturbResult | None) -> list[str]:
    if isinstance(control, str):
        return [CONTROL_NAME]
    return [] if control is None else [control.name]


def _check_distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two of the maps compared are named {name!r}; names must be distinct")


def _check_insertion_deletion(model: nn.Module, insertion_deletion: bool | int) -> None:
    if not isinstance(insertion_deletion, int) or (insertion_deletion < 1 and insertion_deletion is not False):
        raise InputError(
            f"insertion_deletion must be True, False or a step of at least 1 pixel, got {insertion_deletion!r}"
        )
    if insertion_deletion and not isinstance(getattr(model, "mean", None), Tensor):
        raise InputError(
            f"{type(model).__name__} has no mean colour, which insertion and deletion need; give it a mean"
        )


def _check_forward(forward: OnnxClassifier, model: nn.Module, image: Tensor) -> None:
    if not isinstance(forward, OnnxClassifier):
        raise InputError(f"forward must be what onnx_classifier makes, or None, got {type(forward).__name__}")
    with torch.no_grad():
        apart = roundings_apart(forward(image), model(image))
    if not apart <= MAX_ROUNDINGS_APART:  # NaN neither
        raise InputError("forward has other logits than model; make it of this model, once its weights are final")


def _check_shifts(shifts: int, image: Tensor) -> None:
    pixels = image.shape[-2] * image.shape[-1]
    if isinstance(shifts, bool) or not isinstance(shifts, int) or (shifts != 0 and shifts < MIN_SHIFTS):
        raise InputError(f"shifts must be 0, for no p-values, or at least {MIN_SHIFTS}, got {shifts!r}")
    if shifts >= pixels:
        size = "x".join(str(side) for side in image.shape[-2:])
        raise InputError(f"images of {size} pixels have {pixels - 1} shifts, got shifts={shifts}; 0 leaves them out")


def check_fits(image: Tensor, result: PerturbResult) -> None:
    """Raise :class:`InputError` unless ``result`` is a perturbation of ``image`` (B, C, H, W)."""
    if not all(isinstance(getattr(result, name, None), Tensor) for name in ("adversarial", "delta", "gradient")):
        raise InputError(f"a perturbation to compare must be a PerturbResult, got {type(result).__name__}")
    for name in ("adversarial", "delta", "gradient"):
        values = getattr(result, name)
        if values.shape != image.shape:
            raise InputError(
                f"image has shape {tuple(image.shape)}, but {name} of {result.name!r} has {tuple(values.shape)}; "
                "compare needs the images that were perturbed"
            )
        if values.device != image.device:
            raise InputError(
                f"image is on {image.device}, {result.name!r} on {values.device}; bring both to one device"
            )
    apart = apart_from(image, result)
    wrong = (~(apart <= SAME_IMAGE)).nonzero()  # NaN, too
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"image {first} is not the one that {result.name!r} perturbed: they are {float(apart[first]):.3g} apart"
        )


def check_room(image: Tensor, result: PerturbResult, support: Tensor | None) -> None:
    """Raise :class:`InputError` unless ``support`` is given for a confined perturbation, and holds it."""
    if support is None:
        if result.settings.get("support") is not None:
            raise InputError(
                f"{result.name!r} was confined to a support: give it as support=, so that its l2 control has the same "
                "room, or a control of your own"
            )
        return
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = f"a tensor of {support.dtype}" if isinstance(support, Tensor) else type(support).__name__
        raise InputError(f"support must be a bool tensor, True where pixels may change, got {got}")
    try:
        inside = support.to(image.device).expand(image.shape)
    except RuntimeError as error:
        raise InputError(
            f"support of shape {tuple(support.shape)} does not fit images {tuple(image.shape)}; give (H, W), (C, H, W) "
            "or (B, C or 1, H, W)"
        ) from error
    outside = ((result.delta != 0) & ~inside).flatten(1).any(dim=1).nonzero()
    if len(outside):
        raise InputError(f"{result.name!r} changes pixels of image {int(outside[0])} outside of the support")
