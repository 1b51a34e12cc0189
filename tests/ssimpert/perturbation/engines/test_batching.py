"""Batches in parts: the same results, and memory that runs out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
from solvers import LpBall, Window, WindowSSIM
from ssimpert.errors import InputError
from ssimpert.perturbation import perturb
from tests.ssimpert.perturbation.linear_classifier import NanWhenDark, TwoClasses, grey


@pytest.mark.parametrize("engine", ["sequential_convex", "projected_gradient"])
def test_parts_give_what_the_whole_batch_gives(engine: str) -> None:
    model, image = TwoClasses(offset=5.5), grey(8)
    constraint = WindowSSIM(0.98, Window.uniform(4, stride=4))
    whole = perturb(model, image, constraint, engine=engine, steps=3)  # type: ignore[arg-type]
    parts = perturb(model, image, constraint, engine=engine, steps=3, batch_size=3)  # type: ignore[arg-type]
    torch.testing.assert_close(parts.adversarial, whole.adversarial, rtol=0, atol=1e-10)
    assert parts.success.tolist() == whole.success.tolist()
    assert sorted((row["image"], row["step"]) for row in parts.history) == sorted(
        (row["image"], row["step"]) for row in whole.history
    )
    assert len(parts.messages) == 8


def test_radii_labels_and_supports_go_with_their_images() -> None:
    model, image = TwoClasses(offset=50.0), grey(5)
    radius = torch.linspace(0.1, 0.5, 5, dtype=torch.float64)
    support = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.7
    result = perturb(model, image, LpBall(2, radius), support=support, stop_at_success=False, steps=3, batch_size=2)
    inside = (model.weight.detach() * support).flatten(1).norm(dim=1)
    torch.testing.assert_close(result.margin_after - result.margin_before, radius * inside, rtol=1e-6, atol=0)
    assert isinstance(result.constraint, LpBall)
    assert len(torch.as_tensor(result.constraint.radius)) == 5


def test_a_batch_that_does_not_fit_finishes_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = TwoClasses(offset=50.0), grey(8)
    expected = perturb(model, image, LpBall(2, 0.2), stop_at_success=False, steps=3)
    sizes: list[int] = []
    honest = solvers.solve

    def small(problem: solvers.LinearProblem, *args: object, **kwargs: object) -> solvers.SolveResult:
        sizes.append(problem.batch)
        if problem.batch > 3:
            raise torch.OutOfMemoryError("out of memory")
        return honest(problem, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(solvers, "solve", small)
    result = perturb(model, image, LpBall(2, 0.2), stop_at_success=False, steps=3)
    assert torch.equal(result.adversarial, expected.adversarial)
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[2:]) == 2


def test_an_image_that_does_not_fit_by_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(solvers, "solve", full)
    with pytest.raises(torch.OutOfMemoryError):
        perturb(TwoClasses(offset=50.0), grey(2), LpBall(2, 0.2))


def test_an_image_of_nan_alone_in_its_part_ends_nothing() -> None:
    model, image = NanWhenDark(), grey(3)
    image[1] *= 0.1
    whole, parts = (perturb(model, image, LpBall(2, 0.5), steps=2, batch_size=size) for size in ("auto", 1))
    assert whole.messages[1] == parts.messages[1] == "logits are NaN or infinite"
    assert torch.equal(whole.adversarial, parts.adversarial)
    assert parts.success.tolist() == [True, False, True]
    with pytest.raises(InputError, match="the model gives NaN or infinite logits for every image"):
        perturb(model, image[1:2], LpBall(2, 0.5))


def test_data_of_another_batch_are_refused() -> None:
    model, image = TwoClasses(offset=5.0), grey(2)
    with pytest.raises(solvers.ProblemError, match="radius"):
        perturb(model, image, LpBall(2, torch.tensor([0.1, 0.2, 0.3])))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, "all"])
def test_batch_sizes_that_are_none_are_refused(batch_size: object) -> None:
    with pytest.raises(InputError, match=r"batch_size must be 'auto' or an integer of at least 1, got"):
        perturb(TwoClasses(offset=5.0), grey(), LpBall(2, 0.1), batch_size=batch_size)  # type: ignore[arg-type]
