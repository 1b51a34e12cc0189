"""Calls of models and of data."""

from __future__ import annotations

from typing import Any

import ssimpert
from ssimpert import data
from tests.ssimpert.numbers_of_any_kind.inputs import SIDE, Calls, image, model

CLASSIFIER: dict[str, Any] = {"input_size": SIDE, "mean": (0.5, 0.5, 0.5), "std": (0.25,) * 3, "labels": "abcd"}


CALLS: Calls = {
    "ssimpert.Classifier": (
        lambda **o: ssimpert.Classifier(model(), **({"name": "m", **CLASSIFIER} | o))(image()),
        {"input_size": SIDE, "mean": (0.5, 0.25, 0.5), "std": (0.25, 0.5, 0.25)},
    ),
    "ssimpert.models.label_name": (
        lambda **o: ssimpert.Classifier(model(), **{"name": "m", **CLASSIFIER}).label_name(**o),
        {"index": 2},
    ),
    "ssimpert.onnx_classifier": (
        lambda **o: ssimpert.onnx_classifier(model(), image()[:1], **o)(image()),
        {"threads": 1},
    ),
    "ssimpert.composites": (
        lambda **o: data.composites(**({"n": 1, "seed": 2, "size": 64} | o)),
        {"n": 2, "seed": 3, "size": 96},
    ),
    "ssimpert.data.load_photo": (lambda **o: data.load_photo("chelsea", **o).image, {"size": 32}),
    "ssimpert.data.photo_frame": (lambda **o: data.photo_frame("chelsea", **o), {"size": 32}),
    "ssimpert.data.Frame": (
        lambda **o: data.Frame(**({"width": 30, "height": 20} | o)),
        {"width": 40, "height": 50, "size": 16},
    ),
    "ssimpert.load_image": (lambda **o: data.load_image("chelsea", **o), {"size": 32}),
}
