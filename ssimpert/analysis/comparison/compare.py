"""A perturbation beside a class activation map and beside its controls, in three stages: maps, scores, result."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from torch import Tensor, nn

from ssimpert.analysis.comparison.checks import check_comparison
from ssimpert.analysis.comparison.maps import BeginStage, compared_maps, number_of_map_stages, number_of_maps
from ssimpert.analysis.comparison.options import ComparisonOptions
from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.comparison.run_columns import run_columns
from ssimpert.analysis.comparison.scores import score_maps
from ssimpert.analysis.localization.boxes import Boxes
from ssimpert.analysis.map_agreement.shift_test import MIN_SHIFTS
from ssimpert.models import OnnxClassifier
from ssimpert.models.entry_points import takes_model
from ssimpert.models.layouts import Layout
from ssimpert.perturbation.results import PerturbResult
from ssimpert.validation import Names

Progress = Callable[[str, int, int], None]
"""Called before each stage, and once at the end, with three values: the name of the stage, the number of stages that
are done, and the number of all stages."""


@takes_model
def compare(
    model: nn.Module,
    image: Tensor,
    result: PerturbResult,
    *,
    control: str | PerturbResult | None = "l2",
    support: Tensor | None = None,
    layer: str | None = None,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
    cam: str = "grad_cam",
    attributions: Names = (),
    masks: Tensor | None = None,
    boxes: Boxes | None = None,
    insertion_deletion: bool | int = False,
    sanity: bool = False,
    shifts: int = MIN_SHIFTS,
    seed: int = 0,
    forward: OnnxClassifier | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the maps of a perturbation with a class activation map of the clean image, and set controls beside them.

    These maps are always compared: the three maps of the perturbation, the three maps of its control, the gradient's
    magnitude, the photo's local standard deviation and variance, and a centred Gaussian. Every map gets all agreement
    metrics; a metric that is undefined is NaN and has a reason. Pearson and Spearman also get a p-value for each image,
    by circular shifts.

    Images do not influence one another. The only exception is ``sanity``, whose batch norms are calibrated on all
    images together.

    Args:
        model: the classifier that was perturbed, images (B, C, H, W) -> logits (B, K), in evaluation mode.
        image: the clean images (B, C, H, W), float32 or float64, in [0, 1].
        result: the perturbation of ``image``.
        control: the perturbation that stands beside ``result``. ``"l2"`` (default) runs an l2 ascent with the same
            radius (:func:`ssimpert.perturbation.baselines.l2_control.l2_control`). A ready result is taken as it is.
            ``None`` leaves the control out.
        support: bool, (H, W), (C, H, W) or (B, C or 1, H, W), True where pixels may change: the mask that confined
            ``result``. The control ``"l2"`` needs it, so that both have the same room. Default ``None``: everywhere.
        layer: the name of the layer of the class activation map; default ``None`` for ``model.cam_layer``.
        layout, prefix_tokens: where the layer's output has its feature map, as for
            :func:`ssimpert.analysis.grad_cam`; default ``None``: both are found out.
        cam: the map to compare with, a name in :data:`ssimpert.analysis.CAMS`; default ``"grad_cam"``.
        attributions: the names of further maps, from :data:`ssimpert.analysis.ATTRIBUTIONS`; default none. They run
            with their defaults, for the class that ``cam`` explains, and are min-max scaled. The name of ``cam`` may be
            among them: that map is compared with itself, and its other measures are of interest.
        masks: (B, H, W) bool, the objects. They add the energy inside the mask, the pointing hit and the best box
            (:func:`ssimpert.analysis.mask_agreement`). Default ``None``.
        boxes: the objects' boxes, (B, 4) or B tensors (k, 4): (x0, y0, x1, y1) in the images' pixels, ends exclusive;
            :class:`ssimpert.data.Frame` carries boxes of a photo there. They add the same measures: the mask is the
            union of the image's boxes, or ``masks`` where these are given, too, and the best box is compared with each
            of the image's boxes. Default ``None``.
        insertion_deletion: True adds both curves and their areas for every map, with a step of 8 rows of pixels. A
            number of 1 or more is the step in pixels. Default False. For each map, the model runs twice as many forward
            passes as there are steps, and it must have a ``mean``.
        sanity: True adds the class activation map and the gradient's magnitude of the model with random weights.
            Default False.
        shifts: how many circular shifts give the p-values; from 200 (default) to H W - 1, or 0 for no p-values.
        seed: an integer from 0, default 0. It decides the shifts, the attributions that draw random numbers, and the
            random weights.
        forward: ``onnx_classifier(model, image[:1])``. Occlusion, RISE, insertion and deletion then run through this
            copy, in little more than half the time. Default ``None``: they run through ``model``.
        progress: see :data:`Progress`; default ``None``.

    Raises:
        InputError: an unknown control, layer or name; images, masks, boxes or a support that do not fit the result;
            two maps of one name; a number out of range; a model in training mode; a ``forward`` of other images or
            weights, or one that no map asked for would use. All this is refused before any map is made.
    """
    options = ComparisonOptions(
        control=control,
        support=support,
        layer=layer,
        layout=layout,
        prefix_tokens=prefix_tokens,
        cam=cam,
        attributions=attributions,
        masks=masks,
        boxes=boxes,
        insertion_deletion=insertion_deletion,
        sanity=sanity,
        shifts=shifts,
        seed=seed,
        forward=forward,
    )
    check_comparison(model, image, result, options)
    begin = _announced(progress, number_of_map_stages(options) + number_of_maps(options))

    # 1. Maps.
    compared = compared_maps(model, image, result, options, begin)
    # 2. Scores.
    scores = score_maps(model, image, compared, options, begin)
    # 3. Result.
    begin("done")
    return Comparison(
        perturbation=result.name,
        cam=compared.cam,
        cam_name=cam,
        cam_target=compared.target,
        cam_layer=layer if layer is not None else str(getattr(model, "cam_layer", "")),
        maps=compared.maps,
        scores=scores,
        control=compared.control,
        settings=options.settings(),
        run=run_columns(model, result, options.seed),
    )


def _announced(progress: Progress | None, total: int) -> BeginStage:
    """A function that tells ``progress`` of each stage, with the number of stages begun before it."""
    done = count()

    def begin(stage: str) -> None:
        if progress is not None:
            progress(stage, next(done), total)

    return begin
