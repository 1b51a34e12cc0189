"""Numbers and blocks are checked where they come in, numpy's like Python's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import solvers
from solvers.errors import MethodError, ProblemError


def image(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: solvers.GlobalSSIM("0.1"), "GlobalSSIM distance must be a number, got '0.1'"),  # type: ignore[arg-type]
        (lambda: solvers.Box("0", 1), "Box lower must be a number, got '0'"),  # type: ignore[arg-type]
        (lambda: solvers.LpBall([1], 1), r"LpBall p must be a number, got \[1\]"),  # type: ignore[arg-type]
        (lambda: solvers.LpBall(2, "a"), "LpBall radius must be a positive number"),  # type: ignore[arg-type]
        (lambda: solvers.LpBall(2, True), "LpBall radius must be a number, got True"),
        (lambda: solvers.WindowSSIM(0.9, data_range="1"), "data_range must be a number"),  # type: ignore[arg-type]
        (lambda: solvers.FeatureBall(1, lambda v: v), "must be a solvers.LinearOperator"),  # type: ignore[arg-type]
        (lambda: solvers.Settings(force="no"), "force must be True or False, got 'no'"),  # type: ignore[arg-type]
        (lambda: solvers.Settings(seed=-1), "seed must be an integer of at least 0, got -1"),
    ],
)
def test_wrong_kinds_of_values_are_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        build()


def test_numpy_scalars_are_numbers() -> None:
    assert solvers.WindowSSIM(np.float32(0.9)).threshold == pytest.approx(0.9)  # type: ignore[arg-type]
    settings = solvers.Settings(max_iter=np.int64(3), eps_rel=np.float32(0.5))  # type: ignore[arg-type]
    assert (settings.max_iter, settings.eps_rel) == (3, 0.5)


@pytest.mark.parametrize("radii", [np.array([0.1, 0.2]), [0.1, 0.2], torch.tensor([0.1, 0.2])])
@pytest.mark.parametrize("method", ["closed_form", "cvxpy:clarabel"])
def test_radii_per_image_may_be_array_list_or_tensor(radii: object, method: str) -> None:
    x = image()
    problem = solvers.LinearProblem(torch.randn_like(x), x, [solvers.LpBall(2, radii)])  # type: ignore[arg-type]
    delta = torch.as_tensor(solvers.solve(problem, method=method).delta)
    assert delta.flatten(1).norm(dim=1).tolist() == pytest.approx([0.1, 0.2], rel=1e-3)


def test_a_defective_image_is_not_certified() -> None:
    x, g = image(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    x[1] += 1
    problem = solvers.LinearProblem(g, x, [solvers.Box()])
    with pytest.raises(ProblemError, match=r"image 1 can't be certified: reference reaches .* outside the box"):
        solvers.certify(problem, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((torch.zeros(1, 1, 8, 8), None), r"LpBall must have shape \(2, 1, 8, 8\), got \(1, 1, 8, 8\)"),
        ((None, torch.zeros(2, 1, 8, 8)), "Box has no dual block"),
    ],
)
def test_dual_blocks_that_do_not_fit_are_refused(blocks: tuple[torch.Tensor | None, ...], message: str) -> None:
    x = image()
    problem = solvers.LinearProblem(torch.randn_like(x), x, [solvers.LpBall(2, 0.5), solvers.Box()])
    with pytest.raises(ProblemError, match=message):
        solvers.certify(problem, torch.zeros_like(x), blocks)


def test_a_window_dual_of_another_lattice_is_refused() -> None:
    x = image()
    problem = solvers.LinearProblem(
        torch.randn_like(x), x, [solvers.WindowSSIM(0.9, solvers.Window.uniform(4, stride=4))]
    )
    block = solvers.WindowDual(torch.zeros(2, 1, 3, 3), torch.zeros_like(x), torch.zeros(2, 1, 2, 2))
    with pytest.raises(ProblemError, match=r"WindowDual ball must have shape \(2, 1, 2, 2\), got \(2, 1, 3, 3\)"):
        solvers.certify(problem, torch.zeros_like(x), (block,))


def test_single_precision_products_are_asked_for_their_dtype() -> None:
    x, matrix = image(), torch.ones(3, 64)
    products = (lambda v: v.flatten(1) @ matrix.t()), (lambda u: (u @ matrix).reshape(-1, 1, 8, 8))
    with pytest.raises(ProblemError, match=r"fails on float64 images .*dtype=torch.float32"):
        solvers.LinearProblem(x, x, [solvers.FeatureBall(1.0, solvers.LinearOperator(*products)), solvers.Box()])
    ball = solvers.FeatureBall(1.0, solvers.LinearOperator(*products, dtype=torch.float32))
    solvers.LinearProblem(x, x, [ball, solvers.Box()])


def test_a_tiny_gradient_is_no_excuse_for_a_wide_gap() -> None:
    x = image(1)
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e-12
    limit = solvers.WindowSSIM(0.9, solvers.Window.uniform(4, stride=2))
    problem = solvers.LinearProblem(g, x, [limit, solvers.Box()])
    rough = solvers.solve(problem, method="cvxpy:scs", settings={"max_iter": 1})
    assert float(rough.rel_gap[0]) > 1e-2
    assert not rough.status[0].is_optimal


def test_a_method_that_registers_or_returns_nonsense_is_named() -> None:
    x = image(1)
    problem = solvers.LinearProblem(x, x, [solvers.Box()])
    with pytest.raises(MethodError, match="windows must be 'any' or 'tiles', got 'Tiles'"):
        solvers.register_method("odd", problems=(solvers.LinearProblem,), windows="Tiles")
    output = solvers.MethodOutput(delta=torch.zeros_like(x), dual=(), status=(solvers.Status.OPTIMAL,), iterations=(1,))
    for returned, message in (
        (output, "0 dual blocks for 1 constraints"),
        (None, "must return a solvers.MethodOutput"),
    ):
        name = f"odd-{message[:1]}"

        @solvers.register_method(name, problems=(solvers.LinearProblem,), any_of={"Box"})
        def odd(problem, settings, warm_start=None, returned=returned):  # type: ignore[no-untyped-def]
            return returned

        try:
            with pytest.raises(MethodError, match=message):
                solvers.solve(problem, method=name)
        finally:
            solvers.unregister_method(name)
