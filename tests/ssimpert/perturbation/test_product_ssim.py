"""The exact product in the engines: kept to at every iterate, worth more than the default split, in its own unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, ProductSSIM, Window, WindowSSIM
from ssimpert.models import Classifier
from ssimpert.perturbation import minimal_budget, perturb
from ssimpert.perturbation.engines.loop import AscentState
from tests.ssimpert.perturbation.linear_classifier import TwoClasses, grey

TILES = ProductSSIM(0.95, Window.uniform(4, stride=4))
OVERLAPPING = ProductSSIM(0.95, Window.uniform(5))
PHOTO_TILES = ProductSSIM(0.95, Window.uniform(7, stride=7, border="valid"))
every_engine = pytest.mark.parametrize("engine", ["sequential_convex", "frank_wolfe", "projected_gradient"])
both_windows = pytest.mark.parametrize("constraint", [TILES, OVERLAPPING], ids=["tiles", "overlapping"])


@pytest.fixture(scope="module")
def solved() -> dict[ProductSSIM, solvers.SolveResult]:
    """The certified optima on two images, which every engine is held against."""
    image = grey(2)
    weight = TwoClasses(offset=50.0).weight.detach()[None].expand_as(image).contiguous()
    return {
        constraint: solvers.solve(LinearProblem(weight, image, [constraint, Box()]))
        for constraint in (TILES, OVERLAPPING)
    }


@every_engine
@both_windows
def test_linear_classifier_reaches_the_certified_optimum(
    engine: str, constraint: ProductSSIM, solved: dict[ProductSSIM, solvers.SolveResult]
) -> None:
    model, image, best = TwoClasses(offset=50.0), grey(2), solved[constraint]
    seen: list[float] = []

    def watch(state: AscentState) -> None:
        seen.append(float(constraint.bind(image).excess(state.images - image).max()))

    result = perturb(
        model, image, constraint, engine=engine, steps=5, stop_at_success=False, observer=watch,  # type: ignore[arg-type]
        settings={"eps_rel": 5e-3},
    )  # fmt: skip
    assert max(seen) <= 1e-9
    gained = result.margin_after - result.margin_before
    assert bool((gained >= 0.97 * torch.as_tensor(best.objective)).all()), (gained, best.objective)
    assert bool((gained <= torch.as_tensor(best.bound) * (1 + 1e-9)).all())
    assert result.certified == "global bound"
    fixed = perturb(
        model, image, WindowSSIM(0.95, constraint.window), engine=engine, steps=5, stop_at_success=False,  # type: ignore[arg-type]
        settings={"eps_rel": 5e-3},
    )  # fmt: skip
    assert bool((result.margin_after > fixed.margin_after).all())


@every_engine
def test_photo_keeps_scikit_images_map(engine: str, model: Classifier, photo: Tensor) -> None:
    result = perturb(model, photo, PHOTO_TILES, engine=engine, steps=2, stop_at_success=False)  # type: ignore[arg-type]
    _, index = structural_similarity(
        np.asarray(photo[0].double()), np.asarray(result.adversarial[0].double()), channel_axis=0, data_range=1.0,
        win_size=7, gaussian_weights=False, use_sample_covariance=False, full=True,
    )  # fmt: skip
    side = photo.shape[-1] // 7 * 7
    assert index[:, 3:side:7, 3:side:7].min() >= 0.95 - 1e-6
    assert float(result.violation) <= 1e-6
    # Measured in windows of the constraint's own size, tiles' borders included.
    assert float(result.min_window_ssim) == pytest.approx(index[:, 3:-3, 3:-3].min(), abs=1e-5)
    assert bool(result.success)


def test_minimal_budget_finds_its_level() -> None:
    model, image = TwoClasses(offset=0.5), grey()
    result = minimal_budget(model, image, TILES, tolerance=0.01, rounds=10, steps=3)
    assert bool(result.success)
    level = float(result.level)
    assert float(ProductSSIM(1 - level, TILES.window).bind(image).excess(result.delta)) <= 1e-7
    assert result.settings["level"] == "1 - SSIM of the least window"
    weight = model.weight.detach()[None].expand_as(image).contiguous()
    less = solvers.solve(LinearProblem(weight, image, [ProductSSIM(1 - 0.98 * level, TILES.window), Box()]))
    assert float(torch.as_tensor(less.bound)) < -float(result.margin_before)


def test_recentred_steps_gain_and_quantised_images_keep_the_set() -> None:
    model, image = TwoClasses(offset=0.5), (grey() * 255).round() / 255
    moved = perturb(model, image, OVERLAPPING, engine="recentred", steps=2)
    assert float(moved.margin_after) > float(moved.margin_before)
    file = perturb(model, image, ProductSSIM(0.8, TILES.window), steps=3, stop_at_success=False, quantize=True)
    levels = 255 * file.adversarial
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    assert float(file.violation) <= 1e-6
