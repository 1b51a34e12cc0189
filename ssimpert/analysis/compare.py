"""A perturbation beside Grad-CAM and beside its controls, as maps and as a tidy table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor, nn

from ssimpert.analysis.agreement import agreement
from ssimpert.analysis.cam import grad_cam
from ssimpert.analysis.controls import gradient_magnitude, local_std
from ssimpert.analysis.saliency import saliency_maps
from ssimpert.errors import InputError, unknown_name
from ssimpert.metrics.images import check_images

if TYPE_CHECKING:
    from ssimpert.perturbation.result import PerturbResult

LOCAL_STD = "local std"
GRADIENT_MAGNITUDE = "gradient magnitude"
CONTROLS = ("l2",)


class AgreementRow(TypedDict):
    """One map of one image against Grad-CAM; NaN where a map is constant. A list of them is a tidy table."""

    image: int
    perturbation: str
    map: str
    pearson: float
    spearman: float
    top20_iou: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        perturbation: the perturbation's name.
        cam: (B, H, W), Grad-CAM of the clean image for ``cam_target``, each in [0, 1]; zeros where flat.
        cam_target: (B,), the class explained: the model's own label of the clean image.
        cam_layer: name of the layer explained.
        maps: by name (the perturbation, its control, ``"gradient magnitude"``, ``"local std"``) and kind
            (``rms``, ``ssim``, ``contribution``; ``gradient_magnitude`` and ``local_std`` for the last two),
            each (B, H, W).
        records: a row for each image and map, in the order of ``maps``, image by image.
        control: the control perturbation, or ``None`` where it was not asked for.
    """

    perturbation: str
    cam: Tensor
    cam_target: Tensor
    cam_layer: str
    maps: dict[str, dict[str, Tensor]]
    records: list[AgreementRow]
    control: PerturbResult | None

    def to_json(self) -> dict[str, Any]:
        """The table and the control's outcome as JSON values; NaN becomes ``None``. Maps are left out."""
        return {
            "perturbation": self.perturbation,
            "cam_layer": self.cam_layer,
            "cam_target": self.cam_target.tolist(),
            "control": None if self.control is None else _summary(self.control),
            "records": [{key: _finite(value) for key, value in row.items()} for row in self.records],
        }


def compare(
    model: nn.Module,
    image: Tensor,
    result: PerturbResult,
    *,
    control: str | PerturbResult | None = "l2",
    layer: str | None = None,
) -> Comparison:
    """Compare a perturbation with Grad-CAM of the clean image, controls beside it.

    Args:
        model: the classifier that was perturbed.
        image: the clean images (B, C, H, W) in [0, 1].
        result: the perturbation of ``image``.
        control: ``"l2"`` (default) runs l2 ascent with the same radius for each step
            (:func:`ssimpert.perturbation.control.l2_control`); a ready result stands in for it; ``None`` leaves
            it out. The photo's local standard deviation and the gradient's magnitude are always there.
        layer: the layer for Grad-CAM; default ``model.cam_layer``.

    Raises:
        InputError: unknown control or layer, images that don't fit the result, two perturbations of one name.
    """
    check_images("image", image)
    _check_fits(image, result)
    other = _control(model, image, result, control)
    cam = grad_cam(model, image, result.label_before, layer)
    maps = {result.name: _perturbation_maps(image, result)}
    others = {
        GRADIENT_MAGNITUDE: {"gradient_magnitude": gradient_magnitude(result.gradient)},
        LOCAL_STD: {"local_std": local_std(image)},
    }
    if other is not None:
        others = {other.name: _perturbation_maps(image, other), **others}
    for name, kinds in others.items():
        if name in maps:
            raise InputError(f"two of the maps compared are named {name!r}; names must be distinct")
        maps[name] = kinds

    return Comparison(
        perturbation=result.name,
        cam=cam,
        cam_target=result.label_before,
        cam_layer=layer if layer is not None else str(getattr(model, "cam_layer", "")),
        maps=maps,
        records=_records(maps, cam),
        control=other,
    )


def _control(
    model: nn.Module, image: Tensor, result: PerturbResult, control: str | PerturbResult | None
) -> PerturbResult | None:
    if isinstance(control, str):
        if control not in CONTROLS:
            raise unknown_name("control", control, CONTROLS)
        # Here and not above: perturb may come to use the analysis itself.
        from ssimpert.perturbation.control import l2_control

        return l2_control(model, image, result)
    if control is not None:
        _check_fits(image, control)
    return control


def _perturbation_maps(image: Tensor, result: PerturbResult) -> dict[str, Tensor]:
    # From the perturbed image and not from result.delta: what counts is what the image shows after rounding.
    return saliency_maps(image, result.adversarial.to(image), result.gradient.to(image), data_range=1.0)


def _records(maps: dict[str, dict[str, Tensor]], cam: Tensor) -> list[AgreementRow]:
    columns = [
        (name, kind, {metric: values.tolist() for metric, values in agreement(values, cam).values.items()})
        for name, kinds in maps.items()
        for kind, values in kinds.items()
    ]
    return [
        AgreementRow(
            image=index,
            perturbation=name,
            map=kind,
            pearson=scores["pearson"][index],
            spearman=scores["spearman"][index],
            top20_iou=scores["top20_iou"][index],
        )
        for index in range(cam.shape[0])
        for name, kind, scores in columns
    ]


def _check_fits(image: Tensor, result: PerturbResult) -> None:
    for name in ("adversarial", "gradient"):
        shape = getattr(result, name).shape
        if shape != image.shape:
            raise InputError(
                f"image has shape {tuple(image.shape)}, but {name} of {result.name!r} has {tuple(shape)}; "
                "compare needs the images that were perturbed"
            )


def _summary(result: PerturbResult) -> dict[str, Any]:
    """One perturbation's outcome, a list over images for each quantity."""
    per_image = {
        "success": result.success,
        "label_before": result.label_before,
        "label_after": result.label_after,
        "margin_before": result.margin_before,
        "margin_after": result.margin_after,
        "ssim": result.ssim,
        "min_window_ssim": result.min_window_ssim,
        "contrast_distance": result.contrast_distance,
        "l2_norm": torch.linalg.vector_norm(result.delta.double().flatten(1), dim=1),
    }
    lists = {key: [_finite(value) for value in values.tolist()] for key, values in per_image.items()}
    return {"name": result.name, **lists}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
