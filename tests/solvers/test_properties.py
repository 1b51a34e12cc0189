"""What must hold of every problem: 500 generated examples in total."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers
from solvers import Box, Constraint, GlobalSSIM, LinearProblem, LpBall, ProjectionProblem, Support, Window, WindowSSIM
from solvers.windows import Border

TIGHT = {"eps_rel": 1e-8, "eps_abs": 1e-10}
hundred = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


@dataclass(frozen=True)
class Example:
    vector: Tensor
    reference: Tensor
    constraints: list[Constraint]
    linear: bool

    def problem(self, vector: Tensor | None = None, reference: Tensor | None = None) -> solvers.Problem:
        kind = LinearProblem if self.linear else ProjectionProblem
        return kind(
            self.vector if vector is None else vector,
            self.reference if reference is None else reference,
            self.constraints,
        )


@st.composite
def images(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    """Photos' troubles on a small scale: noise, flat patches, black and white pixels, one level everywhere."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["noise", "dark", "steps", "binary", "constant", "patch"]))
    if kind == "dark":
        return 0.02 * x * (x > 0.5)
    if kind == "steps":
        return (4 * x).round() / 4
    if kind == "binary":
        return x.round()
    if kind == "constant":
        return torch.full_like(x, draw(st.sampled_from([0.0, 0.25, 1.0])))
    if kind == "patch":
        x[..., : shape[-2] // 2, :] = draw(st.sampled_from([0.0, 0.5, 1.0]))
    return x


@st.composite
def vectors(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    v = torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["noise", "signs", "sparse", "constant", "rising", "zero"]))
    if kind == "signs":
        return v.sign()
    if kind == "sparse":
        return v * (v.abs() > 1)
    if kind == "constant":
        return torch.full_like(v, draw(st.sampled_from([-1.0, 0.5])))
    if kind == "rising":
        return v.abs()
    return 0 * v if kind == "zero" else v


@st.composite
def balls(draw: st.DrawFn) -> Constraint:
    kind = draw(st.sampled_from(["tiles", "tiles", "tiles", "global", "l1", "l2", "linf"]))
    if kind == "global":
        return GlobalSSIM(draw(st.sampled_from([0.005, 0.1, 0.5])))
    if kind != "tiles":
        return LpBall({"l1": 1, "l2": 2, "linf": math.inf}[kind], draw(st.sampled_from([0.05, 0.5, 5.0])))
    size = draw(st.integers(2, 5))
    border: Border = draw(st.sampled_from(["full", "valid"]))
    if draw(st.booleans()):
        window = Window.uniform(size, stride=size, border=border)
    else:
        window = Window.gaussian(1.5, size, stride=size, border=border)
    return WindowSSIM(
        draw(st.sampled_from([0.99, 0.95, 0.8, 0.4])),
        window,
        luminance=draw(st.sampled_from([1e-3, "split", "preserve"])),
        sample_covariance=draw(st.booleans()),
    )


@st.composite
def examples(draw: st.DrawFn, *, mirrored: bool = False, box: bool | None = None) -> Example:
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(5, 9)), draw(st.integers(5, 9)))
    ball = draw(balls())
    linear = draw(st.booleans())
    alone = isinstance(ball, LpBall) and ball.p == 1 and not linear  # no exact method with more beside it
    constraints: list[Constraint] = [ball]
    if not alone and (draw(st.booleans()) if box is None else box):
        constraints.append(Box())
    if not alone and not mirrored and draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        constraints.append(Support(torch.rand(shape[-2:], generator=generator) > 0.3))
    vector = draw(vectors(shape))
    return Example(vector if linear else 0.3 * vector, draw(images(shape)), constraints, linear)


def solve(problem: solvers.Problem) -> solvers.SolveResult:
    result = solvers.solve(problem, settings=TIGHT)
    assert result.method in ("closed_form", "tiles")
    assert result.all_optimal, result.messages
    return result


def array(value: object) -> np.ndarray:
    return np.asarray(value)


@hundred
@given(examples())
def test_delta_is_feasible(example: Example) -> None:
    result = solve(example.problem())
    assert array(result.max_violation).max() < 1e-9
    delta = torch.as_tensor(result.delta)
    for constraint in example.constraints:
        if isinstance(constraint, Box):
            moved = example.reference + delta
            assert float(moved.min()) >= -1e-15
            assert float(moved.max()) <= 1 + 1e-15
        if isinstance(constraint, LpBall):
            sizes = np.linalg.norm(delta.flatten(1), ord=constraint.p, axis=1)
            assert bool((sizes <= constraint.radius * (1 + 1e-12)).all())


@hundred
@given(examples())
def test_bound_is_never_beaten(example: Example) -> None:
    result = solve(example.problem())
    objective, bound = array(result.objective), array(result.bound)
    # Rounding of the sums themselves.
    size = example.vector.abs().flatten(1).sum(dim=1).numpy() if example.linear else 1.0
    gain = bound - objective if example.linear else objective - bound
    assert bool((gain >= -1e-11 * size).all())
    # Nor by any feasible point: the certificate of something else.
    other = solvers.certify(example.problem(), 0.1 * example.vector)
    gain = bound - other.objective.numpy() if example.linear else other.objective.numpy() - bound
    assert bool((gain >= -1e-11 * size).all())


@hundred
@given(examples(mirrored=True))
def test_solving_the_negated_problem_mirrors(example: Example) -> None:
    """Which mirror is true?

    d -> -d maps a problem at x onto the problem at -x: variances, covariances and means squared are even, and the
    ball's centre a R x and the interval's centre b m change sign with x. So with x -> -x, g -> -g (or the point ->
    -point), Box(lo, hi) -> Box(-hi, -lo), the optimum mirrors, for every set that we have. The photographic negative
    x -> 1 - x does not do: variances do not care, but the luminance interval is about the mean's level, and a mean
    of 0.9 may move further than one of 0.1. Where no luminance interval stands (lp balls; GlobalSSIM and "preserve",
    which keep the mean) the negative is a mirror too, since R(1 - x) = -R x.
    """
    constraints = [Box(-1.0, 0.0) if isinstance(c, Box) else c for c in example.constraints]
    mirrored = Example(-example.vector, -example.reference, constraints, example.linear)
    first = solve(example.problem())
    pairs = [solve(mirrored.problem())]
    ball = example.constraints[0]
    if not isinstance(ball, WindowSSIM) or ball.beta == 0:
        pairs.append(
            solve(Example(-example.vector, 1 - example.reference, example.constraints, example.linear).problem())
        )
    for second in pairs:
        np.testing.assert_allclose(first.objective, second.objective, rtol=1e-7, atol=1e-9)
        if not example.linear:  # one solution
            np.testing.assert_allclose(first.delta, -torch.as_tensor(second.delta), atol=1e-6)


@hundred
@given(examples(), st.randoms(use_true_random=False))
def test_permuting_the_batch_permutes_the_result(example: Example, random: np.random.Generator) -> None:
    batch = len(example.reference)
    order = list(range(batch))
    random.shuffle(order)
    first = solve(example.problem())
    second = solve(example.problem(example.vector[order], example.reference[order]))
    np.testing.assert_allclose(array(first.delta)[order], array(second.delta), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(array(first.bound)[order], array(second.bound), rtol=1e-9, atol=1e-12)
    assert [first.status[k] for k in order] == list(second.status)


@hundred
@given(examples())
def test_float32_and_float64_agree_to_1e_4(example: Example) -> None:
    wide = solve(example.problem())
    narrow = solvers.solve(example.problem().to(dtype=torch.float32), settings={"eps_rel": 1e-6, "eps_abs": 1e-8})
    assert narrow.all_optimal
    assert torch.as_tensor(narrow.delta).dtype == torch.float32
    scale = float(example.vector.abs().sum()) * 1e-3
    np.testing.assert_allclose(narrow.objective, wide.objective, rtol=1e-4, atol=1e-4 * scale)
    if not example.linear:  # one solution, and it moves little with the data
        np.testing.assert_allclose(narrow.delta, wide.delta, atol=1e-4)
    assert array(narrow.max_violation).max() < 1e-4
