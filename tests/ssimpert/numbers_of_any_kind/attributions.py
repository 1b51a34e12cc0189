"""Calls of attributions, insertion and deletion."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ssimpert import analysis
from tests.ssimpert.numbers_of_any_kind.inputs import TOKEN_LAYER, Calls, image, maps, model, transformer


def cam(name: str) -> Callable[..., Tensor]:
    return lambda **options: analysis.attribution(name, model(), image(), options.pop("target", 1), **options)


def cam_of_tokens(name: str) -> Callable[..., Tensor]:
    return lambda **options: analysis.attribution(name, transformer(), image(), layer=TOKEN_LAYER, **options)


SMALL_RISE = {"masks": 4, "cells": 3}


CALLS: Calls = {
    **{
        f"ssimpert.analysis.{name}": (cam(name), {"target": 2})
        for name in ("deconvolution", "gradient", "guided_backprop")
    },
    **{
        f"ssimpert.analysis.{name}": (cam_of_tokens(name), {"target": 2, "prefix_tokens": 5})
        for name in ("grad_cam", "grad_cam_plus_plus", "guided_grad_cam", "hires_cam", "layer_cam")
    },
    **{
        f"ssimpert.analysis.{name}: a class per image": (cam(name), {"target": (2, 0)})
        for name in ("grad_cam", "gradient")
    },
    "ssimpert.analysis.attribution": (
        lambda **o: analysis.attribution("rise", model(), image(), o.pop("target", 1), **SMALL_RISE, **o),
        {"target": 2, "seed": 3},
    ),
    "ssimpert.analysis.input_x_gradient": (cam("input_x_gradient"), {"target": 2, "baseline": 0.25}),
    "ssimpert.analysis.integrated_gradients": (
        cam("integrated_gradients"),
        {"target": 2, "baseline": 0.25, "steps": 3, "batch_size": 2},
    ),
    "ssimpert.analysis.path_attributions": (
        lambda **o: analysis.path_attributions(model(), image(), o.pop("target", 1), **({"steps": 2} | o)),
        {"target": 2, "baseline": 0.25, "steps": 3, "batch_size": 2},
    ),
    "ssimpert.analysis.smooth_grad": (
        lambda **o: cam("smooth_grad")(**({"samples": 2} | o)),
        {"target": 2, "samples": 3, "noise": 0.25, "seed": 4, "batch_size": 2},
    ),
    "ssimpert.analysis.occlusion": (
        lambda **o: cam("occlusion")(**({"window": 8, "stride": 8} | o)),
        {"target": 2, "window": 9, "stride": 4, "baseline": 0.25, "batch_size": 2},
    ),
    "ssimpert.analysis.rise": (
        lambda **o: cam("rise")(**(SMALL_RISE | o)),
        {"target": 2, "masks": 5, "cells": 4, "keep": 0.25, "seed": 3, "baseline": 0.25, "batch_size": 2},
    ),
    **{
        f"ssimpert.analysis.{name}": (
            lambda name=name, **o: getattr(analysis, name)(model(), image(), maps(), **({"step": 64} | o)),
            {"target": 2, "step": 50, "batch_size": 2, "baseline": 0.25},
        )
        for name in ("insertion", "deletion", "insertion_deletion")
    },
    "ssimpert.analysis.deletion: a colour, and a class per image": (
        lambda **o: analysis.deletion(model(), image(), maps(), step=64, **o),
        {"baseline": (0.25, 0.5, 0.75), "target": (2, 0)},
    ),
}
