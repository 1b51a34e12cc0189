"""Every engine on a linear classifier, for every set whose linear optimum is known in closed form or from CVXPY."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
from solvers import Box, GlobalSSIM, Intersection, LinearProblem, LpBall, Window, WindowSSIM
from solvers.constraints import Constraint
from ssimpert.errors import InputError
from ssimpert.linearization.gradient import linearize
from ssimpert.linearization.margins import Untargeted
from ssimpert.models import Classifier
from ssimpert.perturbation import perturb, quantize
from ssimpert.perturbation.engines.step_solver import StepSolver
from tests.ssimpert.perturbation.linear_classifier import ONE_CHANNEL, TwoClasses, grey

ENGINES = ("sequential_convex", "frank_wolfe", "projected_gradient")
every_engine = pytest.mark.parametrize("engine", ENGINES)


def closed_form(constraint: LpBall, weight: Tensor) -> float:
    """``max w'd`` over an lp ball away from the box: the radius times the dual norm."""
    dual = {2.0: 2.0, float("inf"): 1.0, 1.0: float("inf")}[float(constraint.p)]
    return float(constraint.radius) * float(torch.linalg.vector_norm(weight, ord=dual))


@every_engine
@pytest.mark.parametrize("constraint", [LpBall(2, 0.5), LpBall(torch.inf, 0.02), LpBall(1, 0.3)], ids=str)
def test_lp_balls_reach_the_dual_norm(engine: str, constraint: LpBall) -> None:
    model, image = TwoClasses(offset=50.0), grey(2)
    result = perturb(model, image, constraint, engine=engine, steps=8, stop_at_success=False)  # type: ignore[arg-type]
    gained = result.margin_after - result.margin_before
    expected = torch.full_like(gained, closed_form(constraint, model.weight.detach()))
    torch.testing.assert_close(gained, expected, rtol=1e-6, atol=0)
    assert float(result.stationarity_gap.abs().max()) <= 1e-6


SSIM_SETS: dict[str, Constraint] = {
    "global": GlobalSSIM(0.05),
    "tiles": WindowSSIM(0.95, Window.uniform(4, stride=4)),
    "overlapping": WindowSSIM(0.95, Window.uniform(5)),
    "tiles within l2": Intersection([WindowSSIM(0.95, Window.uniform(4, stride=4)), LpBall(2, 0.45)]),
}


@pytest.fixture(scope="module")
def clarabels() -> dict[str, Tensor]:
    """The optimum of each of SSIM_SETS, which every engine is held against."""
    image = grey(2, ONE_CHANNEL)
    weight = TwoClasses(50.0, ONE_CHANNEL).weight.detach()[None].expand_as(image).contiguous()
    found = {}
    for name, constraint in SSIM_SETS.items():
        exact = solvers.solve(LinearProblem(weight, image, [constraint, Box()]), "cvxpy:clarabel", {"eps_rel": 1e-8})
        found[name] = torch.as_tensor(exact.objective)
    return found


@every_engine
@pytest.mark.parametrize("name", SSIM_SETS)
def test_ssim_sets_reach_what_clarabel_finds(engine: str, name: str, clarabels: dict[str, Tensor]) -> None:
    result = perturb(
        TwoClasses(50.0, ONE_CHANNEL),
        grey(2, ONE_CHANNEL),
        SSIM_SETS[name],
        engine=engine,  # type: ignore[arg-type]
        steps=8,
        stop_at_success=False,
        settings={"eps_rel": 5e-4},
    )
    gained = result.margin_after - result.margin_before
    torch.testing.assert_close(gained, clarabels[name], rtol=2e-3, atol=0)
    assert float(result.violation.max()) <= 1e-8


@every_engine
def test_no_iterate_leaves_the_set_around_the_original(engine: str, model: Classifier, photo: Tensor) -> None:
    constraint = LpBall(2, 0.5)
    outside = []

    def watch(state: object) -> None:
        delta = state.images - photo.double()  # type: ignore[attr-defined]
        outside.append(float(delta.norm()) - 0.5)

    result = perturb(
        model,
        photo,
        constraint,
        engine=engine,  # type: ignore[arg-type]
        steps=5,
        stop_at_success=False,
        observer=watch,
    )
    assert max(outside) <= 1e-9
    assert float(result.violation) <= 1e-6
    assert float(result.margin_after) > 0
    assert float(result.margin_after) >= max(row["margin"] for row in result.history) - 1e-3


@every_engine
def test_a_batch_is_its_images_one_by_one_and_twice_the_same(engine: str) -> None:
    model, image = TwoClasses(offset=5.5), grey(4)
    constraint = WindowSSIM(0.98, Window.uniform(4, stride=4))
    together = perturb(model, image, constraint, engine=engine, steps=4)  # type: ignore[arg-type]
    again = perturb(model, image, constraint, engine=engine, steps=4)  # type: ignore[arg-type]
    assert torch.equal(together.adversarial, again.adversarial)
    alone = [
        perturb(model, image[k : k + 1], constraint, engine=engine, steps=4)  # type: ignore[arg-type]
        for k in range(4)
    ]
    one_by_one = torch.cat([result.adversarial for result in alone])
    torch.testing.assert_close(together.adversarial, one_by_one, rtol=0, atol=1e-10)
    assert together.steps.tolist() == [int(result.steps) for result in alone]


def test_projected_gradient_beats_linear_steps_where_the_margin_bends(model: Classifier, photo: Tensor) -> None:
    """Along the border of a round set whole-set steps zigzag."""
    gained = {}
    for engine in ENGINES:
        result = perturb(model, photo, LpBall(2, 1.0), engine=engine, steps=5, stop_at_success=False)  # type: ignore[arg-type]
        gained[engine] = float(result.margin_after - result.margin_before)
    assert gained["projected_gradient"] > 1.1 * max(gained["sequential_convex"], gained["frank_wolfe"])


def test_recentred_is_an_engine_by_name() -> None:
    model, image = TwoClasses(offset=5.0), grey()
    by_name = perturb(model, image, GlobalSSIM(0.02), engine="recentred", steps=3)
    by_flag = perturb(model, image, GlobalSSIM(0.02), recentred=True, steps=3)
    assert torch.equal(by_name.adversarial, by_flag.adversarial)
    assert by_name.settings["engine"] == "recentred"


def test_unknown_and_contradicting_engines_are_refused() -> None:
    model, image = TwoClasses(offset=5.0), grey()
    with pytest.raises(InputError, match=r"engine must be one of sequential_convex.*got 'newton'"):
        perturb(model, image, LpBall(2, 0.1), engine="newton")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="drop one"):
        perturb(model, image, LpBall(2, 0.1), engine="frank_wolfe", recentred=True)


# -- the step solver ---------------------------------------------------------------------------------------


def test_images_with_sets_of_their_own_are_solved_each_in_its_own() -> None:
    model, image = TwoClasses(offset=50.0), grey(3)
    gradient = linearize(model, image, torch.zeros(3, dtype=torch.long), Untargeted()).gradient
    sets = [LpBall(2, 0.1), LpBall(2, 0.3), LpBall(2, 0.1)]
    answer = StepSolver(sets, 3).linear_optimum(gradient, image, torch.arange(3))
    norms = torch.as_tensor(answer.delta).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([0.1, 0.3, 0.1], dtype=torch.float64))
    some = StepSolver(sets, 3).linear_optimum(gradient[1:], image[1:], torch.tensor([1, 2]))
    torch.testing.assert_close(torch.as_tensor(some.delta), torch.as_tensor(answer.delta)[1:])


def test_tolerances_tighten_and_solves_begin_where_the_last_ended() -> None:
    model, image = TwoClasses(offset=50.0), grey(2)
    gradient = linearize(model, image, torch.zeros(2, dtype=torch.long), Untargeted()).gradient
    constraint = WindowSSIM(0.95, Window.uniform(5))
    solver = StepSolver(constraint, 2, settings=solvers.Settings(eps_rel=1e-3, check_interval=2), tightening=True)
    first = solver.linear_optimum(gradient, image, torch.arange(2), round_number=1)
    assert float(torch.as_tensor(first.rel_gap).max()) <= 0.03
    cold = StepSolver(constraint, 2, settings=solvers.Settings(eps_rel=1e-3, check_interval=2))
    expected = cold.linear_optimum(gradient, image, torch.arange(2))
    last = solver.linear_optimum(gradient, image, torch.arange(2), round_number=100)
    assert float(torch.as_tensor(last.rel_gap).max()) <= 1e-3
    # Two constant images: single roundings decide the count of one of them (36 and 76 steps against 60 and 52).
    assert min(last.iterations) < min(expected.iterations)


def test_solves_begin_where_the_images_own_last_one_ended_whatever_came_between() -> None:
    """A search along a border asks for some images again while others rest."""
    model, image = TwoClasses(50.0, ONE_CHANNEL), grey(2, ONE_CHANNEL)
    gradient = linearize(model, image, torch.zeros(2, dtype=torch.long), Untargeted()).gradient
    constraint = WindowSSIM(0.95, Window.uniform(5))
    settings = solvers.Settings(eps_rel=1e-3, check_interval=2, dtype=torch.float64)
    both = StepSolver(constraint, 2, settings=settings)
    both.linear_optimum(gradient, image, torch.tensor([0, 1]))
    both.linear_optimum(gradient[1:], image[1:], torch.tensor([1]))
    last = both.linear_optimum(gradient, image, torch.tensor([0, 1]))
    expected = []
    for image_number, solves in ((0, 2), (1, 3)):
        alone, number = StepSolver(constraint, 2, settings=settings), torch.tensor([image_number])
        for _ in range(solves):
            answer = alone.linear_optimum(gradient[number], image[number], number)
        expected.append(answer)
    assert last.iterations == tuple(answer.iterations[0] for answer in expected)
    deltas = torch.cat([torch.as_tensor(answer.delta) for answer in expected])
    torch.testing.assert_close(torch.as_tensor(last.delta), deltas, rtol=0, atol=1e-8)


# -- masks -------------------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("constraint", [LpBall(2, 0.3), WindowSSIM(0.95, Window.uniform(4))], ids=["l2", "windows"])
def test_pixels_outside_the_support_keep_their_values_exactly(engine: str, constraint: Constraint) -> None:
    model, image = TwoClasses(offset=50.0), grey(2)
    support = torch.zeros(2, 1, 12, 12, dtype=torch.bool)
    support[0, :, :6], support[1, :, 6:] = True, True
    result = perturb(
        model,
        image,
        constraint,
        engine=engine,  # type: ignore[arg-type]
        steps=4,
        stop_at_success=False,
        support=support,
    )
    assert bool((result.delta.masked_select(~support) == 0).all())
    gained = result.margin_after - result.margin_before
    if isinstance(constraint, LpBall):
        inside = (model.weight.detach() * support).flatten(1).norm(dim=1)
        torch.testing.assert_close(gained, 0.3 * inside, rtol=1e-6, atol=0)
    assert bool((gained > 0).all())


def test_supports_that_mean_nothing_are_refused() -> None:
    model, image = TwoClasses(offset=5.0), grey(2)
    with pytest.raises(InputError, match=r"bool tensor.*got a tensor of torch.float32"):
        perturb(model, image, LpBall(2, 0.1), support=torch.ones(12, 12))
    with pytest.raises(solvers.ProblemError, match=r"mask of shape \(3, 1, 12, 12\) does not fit"):
        perturb(model, image, LpBall(2, 0.1), support=torch.ones(3, 1, 12, 12, dtype=torch.bool))
    with pytest.raises(InputError, match="no pixel may change"):
        perturb(model, image, LpBall(2, 0.1), support=torch.zeros(12, 12, dtype=torch.bool))
    whole = torch.ones(12, 12, dtype=torch.bool)
    with pytest.raises(InputError, match="drop quantize=True or support"):
        perturb(model, image, LpBall(2, 0.1), support=whole, quantize=True)
    with pytest.raises(InputError, match="'l2' is confined to a support"):
        quantize(model, image, perturb(model, image, LpBall(2, 0.1), support=whole, steps=1))
    with pytest.raises(InputError, match="drop faithful"):
        perturb(
            model,
            image,
            GlobalSSIM(0.01),
            recentred=True,
            faithful=True,
            support=whole,
        )
