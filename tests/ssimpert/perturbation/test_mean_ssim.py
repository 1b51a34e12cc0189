"""Mean SSIM, a set that is not convex, in the engines: kept to exactly, labelled honestly, near what solvers reach."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from solvers import Box, LinearProblem, MeanSSIM, Window, WindowSSIM
from ssimpert.data import load_image
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.perturbation import minimal_budget, perturb
from ssimpert.perturbation.engines.loop import AscentState
from tests.ssimpert.perturbation.linear_classifier import ONE_CHANNEL, TwoClasses, grey

PUBLISHED = MeanSSIM(0.97, Window.gaussian(1.5, 11, border="valid"))
SMALL = MeanSSIM(0.97, Window.uniform(5))
TILES = MeanSSIM(0.97, Window.uniform(4, stride=4))
every_engine = pytest.mark.parametrize("engine", ["sequential_convex", "frank_wolfe", "projected_gradient"])


def published(first: Tensor, second: Tensor) -> float:
    value = structural_similarity(
        np.asarray(first.double()), np.asarray(second.double()), channel_axis=0, data_range=1.0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    return float(value)


@every_engine
def test_every_iterate_keeps_the_published_index(engine: str, model: Classifier, photo: Tensor) -> None:
    seen = []

    def watch(state: AscentState) -> None:
        seen.append(published(photo[0], state.images[0]))

    result = perturb(
        model, photo, PUBLISHED, engine=engine, steps=2, stop_at_success=False, observer=watch,  # type: ignore[arg-type]
        settings={"eps_rel": 3e-2},
    )  # fmt: skip
    assert len(seen) == 2
    assert min(seen) >= 0.97 - 1e-9
    assert published(photo[0], result.adversarial[0]) >= 0.97 - 1e-6
    assert float(result.violation) <= 1e-6
    assert bool(result.success)
    assert result.certified == result.rows()[0]["certified"] == "convex step"


@pytest.fixture(scope="module")
def solved() -> dict[MeanSSIM, Tensor]:
    """What the solver gains on two images: ``mean_windows`` ends stationary, ``mean_tiles`` at a certified optimum."""
    image = grey(2, ONE_CHANNEL)
    weight = TwoClasses(50.0, ONE_CHANNEL).weight.detach()[None].expand_as(image).contiguous()
    return {
        constraint: torch.as_tensor(
            solvers.solve(LinearProblem(weight, image, [constraint, Box()]), settings={"eps_rel": 1e-2}).objective
        )
        for constraint in (SMALL, TILES)
    }


@every_engine
@pytest.mark.parametrize("constraint", [SMALL, TILES], ids=["overlapping", "tiles"])
def test_linear_classifier_comes_near_what_the_solver_finds(
    engine: str, constraint: MeanSSIM, solved: dict[MeanSSIM, Tensor]
) -> None:
    model, image, best = TwoClasses(50.0, ONE_CHANNEL), grey(2, ONE_CHANNEL), solved[constraint]
    # Frank-Wolfe's averages come near last.
    steps = 25 if engine == "frank_wolfe" else 10
    result = perturb(model, image, constraint, engine=engine, steps=steps, stop_at_success=False)  # type: ignore[arg-type]
    gained = result.margin_after - result.margin_before
    # Averages with early steps do not lose the windows that the optimum loses.
    share = 0.8 if engine == "frank_wolfe" else 0.9
    assert bool((gained >= share * best).all()), (gained / best).tolist()
    assert bool((gained <= 1.05 * best).all())
    assert float(result.violation.max()) <= 1e-9


def test_more_is_gained_than_within_every_window_of_the_same_mean(model: Classifier) -> None:
    photo = load_image("chelsea", size=224)
    strict = perturb(model, photo, WindowSSIM(0.95, Window.uniform(8, stride=8)), steps=2, stop_at_success=False)
    same = MeanSSIM(float(strict.ssim), PUBLISHED.window)
    free = perturb(model, photo, same, steps=2, stop_at_success=False, settings={"eps_rel": 3e-2})
    assert float(free.margin_after) > float(strict.margin_after)
    assert float(free.ssim) >= float(strict.ssim) - 1e-6


def test_certified_names_the_kind_of_certificate_of_each_method() -> None:
    model, image = TwoClasses(50.0, ONE_CHANNEL), grey(1, ONE_CHANNEL)
    expected = {
        ("auto", None): "convex step",
        ("energy_step", None): "convex step",
        ("mean_windows", None): "stationary",
        ("mean_tiles", None): "global bound",
        ("auto", 1e-3): "global bound",
    }
    for (method, luminance), label in expected.items():
        constraint = MeanSSIM(0.97, TILES.window, luminance=luminance)
        result = perturb(
            model, image, constraint, engine="frank_wolfe", steps=1, method=method, settings={"eps_rel": 3e-2}
        )
        assert result.certified == label, method
        assert float(result.margin_after) > float(result.margin_before)
        assert float(result.violation) <= 1e-9
    assert perturb(model, image, WindowSSIM(0.97, TILES.window), steps=1).certified == "global bound"


def test_projection_that_nothing_can_do_is_refused_before_any_work() -> None:
    model, image = TwoClasses(offset=50.0), grey()
    with pytest.raises(InputError, match=r"luminance=0.001.*sequential_convex"):
        perturb(model, image, MeanSSIM(0.97, TILES.window, luminance=1e-3))
    with pytest.raises(InputError, match="mean_tiles"):
        perturb(model, image, TILES, method="mean_tiles")


def test_a_batch_gives_what_its_images_give_alone() -> None:
    model, image = TwoClasses(50.0, ONE_CHANNEL), grey(2, ONE_CHANNEL)
    together = perturb(model, image, SMALL, steps=3)
    for k in range(2):
        alone = perturb(model, image[k : k + 1], SMALL, steps=3)
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[k], rtol=0, atol=1e-7)


def test_recentred_steps_hold_the_index_around_each_iterate() -> None:
    model, image = TwoClasses(offset=50.0), grey()
    seen = [image]
    perturb(model, image, SMALL, engine="recentred", steps=3, observer=lambda state: seen.append(state.images.clone()))
    for before, after in pairwise(seen):
        assert float(SMALL.bind(before).excess(after - before)) <= 1e-9


def test_minimal_budget_finds_a_mean_ssim_level() -> None:
    model, image = TwoClasses(0.5, ONE_CHANNEL), grey(1, ONE_CHANNEL)
    result = minimal_budget(model, image, MeanSSIM(0.9, Window.uniform(5)))
    assert bool(result.success)
    level = float(result.level)
    own = MeanSSIM(1 - level, Window.uniform(5)).bind(image)
    assert float(own.excess(result.delta)) <= 1e-7
    # A hundredth below, the stationary point of the linear problem falls short.
    weight = model.weight.detach()[None].expand_as(image).contiguous()
    less = MeanSSIM(1 - 0.98 * level, Window.uniform(5))
    reach = solvers.solve(LinearProblem(weight, image, [less, Box()])).objective
    assert float(torch.as_tensor(reach)) < -float(result.margin_before)
