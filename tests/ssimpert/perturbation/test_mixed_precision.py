"""Mixed precision is the model's alone: what is solved and judged stays in the images' precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.models.mixed_precision import InMixedPrecision
from ssimpert.perturbation import perturb


@pytest.fixture(scope="module")
def photo(model: Classifier) -> Tensor:
    return ssimpert.load_image("chelsea", size=model.input_size)


@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.8), ("float16", 0.95)])
def test_logits_are_near_and_gradients_point_the_same_way(
    model: Classifier, photo: Tensor, precision: Any, least: float
) -> None:
    mixed = InMixedPrecision(model, precision)
    logits, exact = mixed(photo), model(photo)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)  # it is in mixed precision
    assert float((logits - exact).norm() / exact.norm()) < 0.05
    label = model.predict(photo)
    own, other = (ssimpert.linearize(m, photo, label, ssimpert.Untargeted()).gradient.flatten() for m in (model, mixed))
    assert other.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(own, other, dim=0)) > least


def test_solvers_see_single_precision_and_the_model_judges(
    model: Classifier, photo: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    honest = solvers.solve

    def watched(problem: solvers.LinearProblem, *args: object, **kwargs: object) -> solvers.SolveResult:
        seen.extend((problem.reference.dtype, problem.vector.dtype))
        assert not torch.is_autocast_enabled("cpu")
        return honest(problem, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(solvers, "solve", watched)
    result = perturb(model, photo, solvers.LpBall(2, 1.0), steps=3, mixed_precision="bfloat16")
    assert seen
    assert torch.bfloat16 not in seen
    assert result.adversarial.dtype == torch.float32
    assert bool(result.success)
    torch.testing.assert_close(
        result.margin_after, ssimpert.Untargeted()(model(result.adversarial), result.label), rtol=1e-4, atol=1e-4
    )
    assert float(result.violation) < 1e-6
    assert result.settings["mixed_precision"] == "bfloat16"


def test_another_precision_is_refused(model: Classifier, photo: Tensor) -> None:
    with pytest.raises(InputError, match="float8"):
        perturb(model, photo, solvers.LpBall(2, 1.0), mixed_precision="float8")  # type: ignore[arg-type]
