"""Calls of margins, gradients, deep features and distances of features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import ssimpert
from ssimpert import linearization
from tests.ssimpert.numbers_of_any_kind.inputs import (
    TOKEN_LAYER,
    Calls,
    features,
    image,
    jacobian,
    model,
    near,
    targets,
    transformer,
)


def margin_of(margin: Any) -> tuple[Any, Tensor]:
    margin.check(4)
    return margin, margin(model()(image()), targets())


CALLS: Calls = {
    "ssimpert.AnyOf": (lambda **o: margin_of(ssimpert.AnyOf(**o)), {"targets": (1, 2)}),
    "ssimpert.Targeted": (lambda **o: margin_of(ssimpert.Targeted(**o)), {"target": 1}),
    "ssimpert.linearization.Membership": (lambda **o: margin_of(linearization.Membership(**o)), {"targets": (1, 2)}),
    "ssimpert.deep_features": (
        lambda **o: ssimpert.deep_features(transformer(), [TOKEN_LAYER], "none", **o)(image()),
        {"prefix_tokens": 5},
    ),
    "ssimpert.feature_jacobian": (
        lambda **o: ssimpert.feature_jacobian(features(), image(), **o).apply(near()),
        {"chunk": 1, "memory_limit": 1024.0},
    ),
    "ssimpert.linearization.operator_norm": (
        lambda **o: linearization.operator_norm(jacobian(), image(), **o),
        {"steps": 3},
    ),
    "ssimpert.linearization.forward": (lambda **o: linearization.forward(model(), image(), **o), {"chunk": 1}),
    "ssimpert.linearize": (
        lambda **o: ssimpert.linearize(model(), image(), targets(), ssimpert.Untargeted(), **o),
        {"chunk": 1},
    ),
}
