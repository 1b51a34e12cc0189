"""Problems are validated once, at construction; one bad image leaves the others right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import (
    Box,
    FeatureBall,
    GlobalSSIM,
    LinearOperator,
    LinearProblem,
    LpBall,
    ProblemError,
    ProjectionProblem,
    Status,
    Support,
    Window,
    WindowSSIM,
)
from solvers.problem import elementwise_bounds

Draw = Callable[..., Tensor]
SHAPE = (3, 2, 9, 10)
BALL = LpBall(2, 0.5)
kinds = pytest.mark.parametrize("kind", [LinearProblem, ProjectionProblem])


@kinds
def test_a_problem_keeps_what_it_was_given(kind: Any, uniform: Draw, normal: Draw) -> None:
    vector, x = normal(*SHAPE), uniform(*SHAPE)
    problem = kind(vector, x, [BALL, Box()])
    assert problem.batch == 3
    assert problem.kinds() == ("LpBall", "Box")
    assert problem.find(Box) == [1]
    assert torch.equal(problem.vector, vector)
    assert problem.defects == {}
    named = {LinearProblem: "gradient", ProjectionProblem: "point"}[kind]
    assert torch.equal(getattr(problem, named), vector)


def test_objectives_are_the_inner_product_and_half_the_squared_distance(uniform: Draw, normal: Draw) -> None:
    vector, x, delta = normal(*SHAPE), uniform(*SHAPE), normal(*SHAPE)
    flat_v, flat_d = vector.numpy().reshape(3, -1), delta.numpy().reshape(3, -1)
    linear = LinearProblem(vector, x, [BALL]).objective(delta)
    np.testing.assert_allclose(linear, [v @ d for v, d in zip(flat_v, flat_d, strict=True)], rtol=1e-12)
    projection = ProjectionProblem(vector, x, [BALL]).objective(delta)
    np.testing.assert_allclose(projection, 0.5 * ((flat_v - flat_d) ** 2).sum(axis=1), rtol=1e-12)


@kinds
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_counted(kind: Any, bad: float, uniform: Draw, normal: Draw) -> None:
    vector, x = normal(1, 1, 4, 4), uniform(1, 1, 4, 4)
    broken = vector.clone()
    broken[0, 0, 1, 1:3] = bad
    name = "gradient" if kind is LinearProblem else "point"
    with pytest.raises(ProblemError, match=f"image 0: {name} has 2 NaN or infinite values"):
        kind(broken, x, [BALL])
    broken = x.clone()
    broken[0, 0, 0, 0] = bad
    with pytest.raises(ProblemError, match="image 0: reference has 1 NaN or infinite values"):
        kind(vector, broken, [BALL])


@pytest.mark.parametrize(("value", "shown"), [(1.25, "1.25"), (-0.5, "-0.5")])
def test_a_reference_outside_the_box_is_named(value: float, shown: str, uniform: Draw, normal: Draw) -> None:
    x = uniform(1, 1, 4, 4)
    x[0, 0, 2, 2] = value
    with pytest.raises(ProblemError, match=rf"image 0: reference reaches {shown}, outside the box \[0, 1\]"):
        LinearProblem(normal(1, 1, 4, 4), x, [Box(), BALL])


def test_a_float32_reference_clipped_to_the_box_lies_in_it() -> None:
    x = torch.rand(1, 1, 6, 6).clamp(0.3, 0.6)  # 0.3 and 0.6 in float32 lie beyond 0.3 and 0.6
    problem = LinearProblem(torch.ones_like(x), x, [Box(0.3, 0.6), LpBall(2, 0.2)])
    result = solvers.solve(problem)
    assert result.all_optimal
    assert float(result.max_violation) < 1e-7
    with pytest.raises(ProblemError, match="outside the box"):
        LinearProblem(torch.ones_like(x), x + 1e-6, [Box(0.3, 0.6)])


@kinds
def test_shapes_must_agree_and_be_images(kind: Any) -> None:
    with pytest.raises(ProblemError, match=r"shape \(1, 1, 4, 5\) and reference \(1, 1, 4, 4\); they must agree"):
        kind(torch.zeros(1, 1, 4, 5), torch.zeros(1, 1, 4, 4), [BALL])
    for shape in [(4, 4), (1, 4, 4), (0, 1, 4, 4), (1, 1, 1, 4, 4)]:
        with pytest.raises(ProblemError, match=r"reference must have shape \(B, C, H, W\), got"):
            kind(torch.zeros(shape), torch.zeros(shape), [BALL])


@kinds
def test_dtypes_must_agree_and_be_floats(kind: Any) -> None:
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ProblemError, match=r"is torch.float64 and reference torch.float32; give both the same dtype"):
        kind(x.double(), x, [BALL])
    for dtype in (torch.float16, torch.int64, torch.complex64, torch.bool):
        with pytest.raises(ProblemError, match=f"must be float32 or float64, got {dtype}"):
            kind(x.to(dtype), x.to(dtype), [BALL])
    for name in ("object", "float16", "int64", "complex64", "longdouble"):
        array = np.zeros((1, 1, 4, 4), dtype=name)
        with pytest.raises(ProblemError, match=f"must be float32 or float64, got {array.dtype}"):
            kind(array, np.zeros((1, 1, 4, 4)), [BALL])
    with pytest.raises(ProblemError, match="must be a torch tensor or numpy array, got list"):
        kind([[1.0]], x, [BALL])


@kinds
def test_devices_must_agree(kind: Any) -> None:
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ProblemError, match="is on meta and reference on cpu; move one of them"):
        kind(x.to("meta"), x, [BALL])


@kinds
def test_constraints_must_be_a_list_of_sets(kind: Any) -> None:
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ProblemError, match=r"got a single LpBall; write \[LpBall\(\.\.\.\)\]"):
        kind(x, x, BALL)
    with pytest.raises(ProblemError, match="needs at least one constraint set"):
        kind(x, x, [])
    with pytest.raises(
        ProblemError, match=r"constraints must be sets such as solvers\.Box or solvers\.WindowSSIM, got 0\.5"
    ):
        kind(x, x, [BALL, 0.5])
    with pytest.raises(ProblemError, match="constraints must be a list of sets, got None"):
        kind(x, x, None)


def test_sets_that_do_not_fit_the_images_are_refused() -> None:
    x = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ProblemError, match="window of 7x7 pixels is larger than the image of 4x4"):
        LinearProblem(x, x, [WindowSSIM(0.9)])
    with pytest.raises(ProblemError, match="radius has 3 values for a batch of 2 images"):
        LinearProblem(x, x, [LpBall(2, torch.ones(3))])
    with pytest.raises(ProblemError, match="does not fit images"):
        LinearProblem(x, x, [BALL, Support(torch.ones(5, 5, dtype=torch.bool))])


def test_a_linear_problem_that_no_set_bounds_is_refused() -> None:
    x = torch.zeros(1, 1, 4, 4)
    ball = FeatureBall(1.0, LinearOperator(lambda v: v.flatten(1)[:, :2], lambda u: x + 0 * u.sum()))
    support = Support(torch.ones(4, 4, dtype=torch.bool))
    for sets, names in (([ball], "FeatureBall"), ([support], "Support"), ([ball, support], "FeatureBall and Support")):
        with pytest.raises(ProblemError, match=f"{names} alone leaves a LinearProblem unbounded; add Box"):
            LinearProblem(x, x, sets)
        ProjectionProblem(x, x, sets)
    LinearProblem(x, x, [ball, Box()])


CASES = {
    "closed_form": [GlobalSSIM(0.05), Box()],
    "tiles": [WindowSSIM(0.9, Window.uniform(4, stride=4)), Box()],
    "cvxpy:clarabel": [WindowSSIM(0.9, Window.uniform(4, stride=2)), Box()],
}


@kinds
@pytest.mark.parametrize("method", CASES)
def test_a_bad_image_gets_its_own_status_and_leaves_the_others_right(
    kind: Any, method: str, uniform: Draw, normal: Draw
) -> None:
    vector, x = normal(4, *SHAPE[1:]), uniform(4, *SHAPE[1:])
    settings = {"eps_rel": 1e-7}
    alone = [solvers.solve(kind(vector[k : k + 1], x[k : k + 1], CASES[method]), method, settings) for k in (0, 3)]
    vector[1, 0, 0, 0] = math.nan
    x[2, 1, 3, 3] = 1.5
    result = solvers.solve(kind(vector, x, CASES[method]), method, settings)
    assert result.method == method
    assert result.status == (Status.OPTIMAL, Status.NUMERICAL_ERROR, Status.INFEASIBLE, Status.OPTIMAL)
    assert "1 NaN" in result.messages[1]
    assert "reference reaches 1.5" in result.messages[2]
    for position, single in zip((0, 3), alone, strict=True):
        np.testing.assert_allclose(result.delta[position], single.delta[0], atol=1e-12)
        assert float(result.objective[position]) == pytest.approx(float(single.objective[0]), rel=1e-12)
        assert float(result.bound[position]) == pytest.approx(float(single.bound[0]), rel=1e-12)
    for position in (1, 2):
        assert not bool((result.delta[position] != 0).any())
        assert math.isnan(result.objective[position])
        assert math.isnan(result.bound[position])
    assert len(result.iterations) == 4
    assert not result.all_optimal


def test_sets_with_data_per_image_follow_the_sound_images(uniform: Draw, normal: Draw) -> None:
    vector, x = normal(*SHAPE), uniform(*SHAPE)
    radius = torch.tensor([0.1, 0.2, 0.4])
    mask = torch.rand(*SHAPE, generator=torch.Generator().manual_seed(1)) > 0.3
    vector[0, 0, 0, 0] = math.nan
    result = solvers.solve(LinearProblem(vector, x, [LpBall(2, radius), Support(mask), Box()]))
    for k in (1, 2):
        size = slice(k, k + 1)
        single = solvers.solve(
            LinearProblem(vector[size], x[size], [LpBall(2, float(radius[k])), Support(mask[size]), Box()])
        )
        np.testing.assert_allclose(result.delta[k], single.delta[0], atol=1e-12)


def test_numpy_in_gives_numpy_out(uniform: Draw, normal: Draw) -> None:
    vector, x = normal(*SHAPE), uniform(*SHAPE)
    expected = solvers.solve(LinearProblem(vector, x, [BALL, Box()]))
    result = solvers.solve(LinearProblem(vector.numpy(), x.numpy(), [BALL, Box()]))
    for name in ("delta", "objective", "bound", "rel_gap", "max_violation"):
        value = getattr(result, name)
        assert isinstance(value, np.ndarray)
        np.testing.assert_array_equal(value, getattr(expected, name))
    assert isinstance(expected.delta, Tensor)
    single = solvers.solve(LinearProblem(vector.float().numpy(), x.float().numpy(), [BALL, Box()]))
    assert single.delta.dtype == np.float32
    assert single.objective.dtype == np.float64


def test_numpy_arrays_of_any_layout_are_taken(uniform: Draw, normal: Draw) -> None:
    vector, x = normal(*SHAPE).numpy(), uniform(*SHAPE).numpy()
    expected = solvers.solve(LinearProblem(vector, x, [BALL, Box()])).delta
    flipped = solvers.solve(LinearProblem(vector[..., ::-1], x[..., ::-1], [BALL, Box()])).delta
    np.testing.assert_allclose(np.asarray(flipped)[..., ::-1], expected, atol=1e-14)
    foreign = solvers.solve(LinearProblem(vector.astype(">f8"), x.astype(">f8"), [BALL, Box()])).delta
    np.testing.assert_array_equal(foreign, expected)
    x.setflags(write=False)
    np.testing.assert_array_equal(solvers.solve(LinearProblem(vector, x, [BALL, Box()])).delta, expected)


def test_a_problem_in_another_dtype_or_of_fewer_images_needs_no_second_validation(uniform: Draw, normal: Draw) -> None:
    vector, x = normal(*SHAPE), uniform(*SHAPE)
    problem = LinearProblem(vector, x, [LpBall(2, torch.tensor([1.0, 2.0, 3.0])), Box()])
    assert problem.to(dtype=torch.float64) is problem
    narrow = problem.to(dtype=torch.float32)
    assert narrow.gradient.dtype == narrow.reference.dtype == torch.float32
    part = problem.select(torch.tensor([2, 0]))
    assert torch.equal(part.gradient, vector[[2, 0]])
    ball = part.constraints[0]
    assert isinstance(ball, LpBall)
    assert torch.as_tensor(ball.radius).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("order", [1, -1])
def test_elementwise_bounds_are_the_tightest_of_all_sets_in_any_order(order: int, uniform: Draw, normal: Draw) -> None:
    """A pixel outside one of two boxes is no answer, whichever box is listed first."""
    x, vector = uniform(1, 1, 4, 5), normal(1, 1, 4, 5)
    sets: list[solvers.Constraint] = [solvers.Box(0.0, 1.0), solvers.LpBall(math.inf, 0.05), solvers.Box(0.03, 2.0)]
    problem = LinearProblem(vector, x, sets[::order])
    bounds = elementwise_bounds(problem, [constraint.bind(x) for constraint in problem.constraints])
    np.testing.assert_allclose(bounds[0], np.maximum(-0.05, 0.03 - x.numpy()), atol=1e-12)
    np.testing.assert_allclose(bounds[1], np.minimum(0.05, 1 - x.numpy()), atol=1e-12)


@kinds
@pytest.mark.parametrize("which", [0, 1])
def test_a_tensor_that_requires_a_gradient_is_refused_with_the_remedy(
    kind: Any, which: int, uniform: Draw, normal: Draw
) -> None:
    given = [normal(*SHAPE), uniform(*SHAPE)]
    given[which].requires_grad_()
    name = "reference" if which else {LinearProblem: "gradient", ProjectionProblem: "point"}[kind]
    with pytest.raises(ProblemError, match=rf"{name} requires a gradient, .*; give {name}\.detach\(\)"):
        kind(*given, [BALL, Box()])


def test_a_certificate_carries_no_graph(uniform: Draw, normal: Draw) -> None:
    problem = LinearProblem(normal(*SHAPE), uniform(*SHAPE), [BALL, Box()])
    delta = (0.01 * normal(*SHAPE)).requires_grad_()
    certificate = solvers.certify(problem, delta, None)
    assert not certificate.objective.requires_grad
    assert not certificate.delta.requires_grad
