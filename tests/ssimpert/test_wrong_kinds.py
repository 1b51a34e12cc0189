"""Arguments of another kind than asked for are named, with what would be valid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import solvers
import ssimpert
from ssimpert.errors import InputError
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey

BALL = solvers.LpBall(2, 0.1)
MODEL: Any = TwoClasses(offset=5.0)
NONE: Any = None
NETWORK: Any = torch.nn.Flatten()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ssimpert.perturb("lite0", grey(), BALL), "got 'lite0'; ssimpert.load_model"),  # type: ignore[arg-type]
        (lambda: ssimpert.perturb(NONE, grey(), BALL), "model must be a classifier, .* got None"),
        (lambda: ssimpert.perturb(MODEL, grey(), lambda _: NONE), "must return a set such as solvers.LpBall, got None"),
        (lambda: ssimpert.perturb(MODEL, torch.rand(1, 32, 32, 3), BALL), r"channels last; give \(B, C, H, W\)"),
        (lambda: ssimpert.linearize(MODEL, grey(), 3, ssimpert.Untargeted()), r"label must be .* \(1,\), got 3"),  # type: ignore[arg-type]
        (lambda: ssimpert.composites(1, 0, "lite0"), "model must be a Classifier, .* got 'lite0'"),  # type: ignore[arg-type]
        (lambda: ssimpert.load_model(NONE), "name must be a string such as 'efficientnet-lite0', got None"),
        (lambda: ssimpert.load_image(NONE), "must be a sample's name or a path, got NoneType"),
        (lambda: ssimpert.load_image("https://example.org/cat.png"), "is an address; download"),
        (lambda: ssimpert.save_image("a.png", grey()[0]), "must be a tensor .* got str"),  # type: ignore[arg-type]
        (
            lambda: ssimpert.Classifier(NETWORK, name="x", input_size=8, labels="ab", mean=[0.5], std=[1.0] * 3),
            "mean must be three numbers",
        ),
    ],
)
def test_the_argument_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_solve_names_its_own() -> None:
    image = torch.rand(1, 1, 4, 4)
    problem = solvers.LinearProblem(torch.randn_like(image), image, [BALL])
    with pytest.raises(solvers.MethodError, match="method must be 'auto' or a method's name, got None"):
        solvers.solve(problem, method=NONE)
    with pytest.raises(solvers.ProblemError, match="warm_start must be an earlier SolveResult, got int"):
        solvers.solve(problem, warm_start=3)  # type: ignore[arg-type]
