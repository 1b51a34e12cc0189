"""The conformance suite: shipped methods pass it, wrong ones don't, and its known optima are optimal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import solvers
from solvers.conformance import (
    KnownOptimum,
    Outcome,
    StandardProblem,
    Verdict,
    check_result,
    default_settings,
    known_optimum,
    photo,
    photo_names,
    run_conformance,
    standard_problems,
)
from solvers.conformance.oracles.naive_windows import NaiveWindows

PROBLEMS = {problem.name: problem for problem in standard_problems()}
EXACT = [info.name for info in solvers.methods() if info.exact]
CHEAP = [problem for problem in PROBLEMS.values() if not problem.slow]


def tight(name: str) -> solvers.Settings:
    return next(default_settings(info) for info in solvers.methods() if info.name == name)


def failing(outcomes: tuple[Outcome, ...]) -> set[str]:
    return {outcome.name for outcome in outcomes if not outcome.passed}


# -- shipped methods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EXACT)
def test_exact_methods_pass_everything_they_claim(method: str) -> None:
    report = run_conformance([method])
    assert report.passed, "\n".join(map(str, report.failures))
    claimed = [row for row in report.rows if row.verdict.ran]
    assert len(claimed) >= 10
    assert {row.verdict for row in report.rows} <= {Verdict.PASS, Verdict.NOT_CLAIMED}


@pytest.mark.parametrize("problem", CHEAP, ids=lambda problem: problem.name)
def test_clarabel_passes_all_problems_that_take_it_no_longer_than_a_second(problem: StandardProblem) -> None:
    report = run_conformance(["cvxpy:clarabel"], [problem])
    assert report.passed, "\n".join(map(str, report.failures))


def test_scs_passes_one_problem_of_each_kind() -> None:
    names = ["tiles", "stride-4", "l1-box", "global-box", "feature-box", "project:tiles", "project:l2-box"]
    report = run_conformance(["cvxpy:scs"], [PROBLEMS[name] for name in names])
    assert report.passed, "\n".join(map(str, report.failures))


@pytest.mark.parametrize("method", ["admm", "pdhg"])
def test_splitting_methods_pass_everything_that_has_something_to_split(method: str) -> None:
    report = run_conformance([method])
    assert report.passed, "\n".join(map(str, report.failures))
    left_out = {row.problem for row in report.rows if not row.verdict.ran}
    assert left_out == {"box", "linf", "linf-box", "project:box", "project:linf-box"}


def test_dual_passes_everything_with_one_set_of_overlapping_windows() -> None:
    report = run_conformance(["dual"])
    assert report.passed, "\n".join(map(str, report.failures))
    assert sum(row.verdict.ran for row in report.rows) > 20


def test_ellipsoid_passes_all_feature_balls() -> None:
    report = run_conformance(["ellipsoid"])
    assert report.passed, "\n".join(map(str, report.failures))
    ran = {row.problem for row in report.rows if row.verdict.ran}
    assert ran == {name for name in PROBLEMS if "feature" in name}
    assert len(ran) == 10


def test_frank_wolfe_passes_where_it_has_an_oracle() -> None:
    # These two take it 1,000 calls and more.
    slow = {"project:tiles-gaussian", "project:tiles-batch"}
    report = run_conformance(["frank_wolfe"], [problem for name, problem in PROBLEMS.items() if name not in slow])
    assert report.passed, "\n".join(map(str, report.failures))
    assert {row.problem for row in report.rows if row.verdict.ran} >= {"project:tiles-dark", "project:global-box"}
    assert not any(row.verdict.ran for row in report.rows if not row.problem.startswith("project:"))


# -- the checks see what is wrong ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved() -> tuple[solvers.Problem, solvers.SolveResult]:
    problem = PROBLEMS["stride-4"].build().problem
    settings = tight("cvxpy:clarabel")
    result = solvers.solve(problem, "cvxpy:clarabel", settings)
    assert not failing(check_result(problem, result, settings))
    return problem, result


def judged(solved: tuple[solvers.Problem, solvers.SolveResult], **changes: object) -> set[str]:
    problem, result = solved
    tampered = replace(result, **changes)  # type: ignore[arg-type]
    return failing(check_result(problem, tampered, tight("cvxpy:clarabel")))


def test_infeasible_delta_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    _, result = solved
    assert {"feasible", "violation"} <= judged(solved, delta=1.001 * result.delta)


def test_pixel_beyond_the_box_is_seen() -> None:
    problem = PROBLEMS["tiles-dark"].build().problem
    result = solvers.solve(problem, "tiles", tight("tiles"))
    delta = result.delta.clone()
    dark = (problem.reference == 0).nonzero()[0]
    delta[tuple(dark)] = -1e-6
    assert "feasible" in failing(check_result(problem, replace(result, delta=delta), tight("tiles")))


def test_moved_mean_is_seen() -> None:
    problem = PROBLEMS["tiles-preserve"].build().problem
    result = solvers.solve(problem, "tiles", tight("tiles"))
    # Shrunk, so that only the means are wrong.
    moved = 0.9 * result.delta + 1e-6
    assert "equalities" in failing(check_result(problem, replace(result, delta=moved), tight("tiles")))


def test_suboptimal_delta_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    problem, result = solved
    shrunk = 0.99 * torch.as_tensor(result.delta)
    found = judged(solved, delta=shrunk, objective=problem.objective(shrunk))
    assert {"gap", "slackness"} <= found
    assert "feasible" not in found


def test_objective_that_is_not_attained_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    _, result = solved
    assert judged(solved, objective=1.001 * result.objective) == {"objective"}


def test_bound_that_the_dual_does_not_prove_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    _, result = solved
    assert judged(solved, bound=0.99 * result.bound) == {"bound"}


def test_wrong_sign_of_the_dual_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    _, result = solved
    found = judged(solved, dual=tuple(None if block is None else -block for block in result.dual))
    assert {"dual sign", "slackness", "gap"} <= found


def test_absent_dual_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    assert "gap" in judged(solved, dual=(None, None))


def test_multiplier_of_a_slack_window_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    _, result = solved
    block = torch.as_tensor(result.dual[0]).clone()
    size = block.norm(dim=-1)
    idle = tuple((size == size.min()).nonzero()[0])
    block[idle] = size.max() / block.shape[-1] ** 0.5
    assert {"slackness", "dual sign"} & judged(solved, dual=(block, None))


def test_wrong_shape_and_nan_are_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    _, result = solved
    delta = torch.as_tensor(result.delta)
    assert judged(solved, delta=delta[:, :1]) == {"shape"}
    assert judged(solved, delta=delta.float()) == {"shape"}
    assert judged(solved, delta=delta * float("nan")) == {"shape"}


def test_unfinished_status_is_seen(solved: tuple[solvers.Problem, solvers.SolveResult]) -> None:
    assert judged(solved, status=(solvers.Status.MAX_ITER,)) == {"status"}


def test_numpy_results_are_judged_alike() -> None:
    torch_problem = PROBLEMS["tiles"].build().problem
    problem = solvers.LinearProblem(
        torch_problem.vector.numpy(), torch_problem.reference.numpy(), torch_problem.constraints
    )
    result = solvers.solve(problem, "tiles")
    assert isinstance(result.delta, np.ndarray)
    assert not failing(check_result(problem, result, tight("tiles")))


# -- a method of one's own ----------------------------------------------------------------------------------------


@pytest.fixture
def own_methods() -> Iterator[None]:
    def register(name: str, change: str) -> None:
        @solvers.register_method(
            name, problems=(solvers.LinearProblem,), required={"WindowSSIM"}, optional={"Box"}, windows="tiles"
        )
        def method(
            problem: solvers.Problem, settings: solvers.Settings, warm_start: solvers.SolveResult | None = None
        ) -> solvers.MethodOutput:
            if change == "raises":
                raise RuntimeError("no luck")
            result = solvers.solve(problem, "tiles", settings)
            block = result.dual[0]
            delta = 0.9 * result.delta if change == "shrinks" else result.delta
            if change == "flips":
                block = replace(block, ball=-block.ball)
            return solvers.MethodOutput(
                delta=delta, dual=(block, None), status=result.status, iterations=result.iterations
            )

    names = ("raises", "shrinks", "flips", "right")
    for name in names:
        register(f"own-{name}", name)
    yield
    for name in names:
        solvers.unregister_method(f"own-{name}")


@pytest.mark.usefixtures("own_methods")
def test_own_methods_pass_only_if_their_answers_are_right() -> None:
    problems = [PROBLEMS["tiles"], PROBLEMS["stride-4"], PROBLEMS["project:tiles"]]
    report = run_conformance(["own-right", "own-shrinks", "own-flips", "own-raises"], problems)
    assert [row.verdict for row in report.rows if row.method == "own-right"] == [
        Verdict.PASS,
        Verdict.NOT_CLAIMED,
        Verdict.NOT_CLAIMED,
    ]
    assert {row.method for row in report.failures} == {"own-shrinks", "own-flips", "own-raises"}
    assert not report.passed
    assert "gap" in {outcome.name for outcome in report.find("own-shrinks", "tiles").failing}
    assert "dual sign" in {outcome.name for outcome in report.find("own-flips", "tiles").failing}
    assert report.find("own-raises", "tiles").note == "raised RuntimeError: no luck"
    rows = report.table()
    assert len(rows) == len(report.rows) == 12
    assert rows[0]["outcome"] == "pass"
    assert set(report.methods) == {"own-right", "own-shrinks", "own-flips", "own-raises"}


def test_unknown_method_is_named() -> None:
    with pytest.raises(solvers.MethodError, match="did you mean tiles"):
        run_conformance(["tles"])


def test_solver_that_is_not_installed_is_said_to_be() -> None:
    report = run_conformance(["cvxpy:nothing"], [PROBLEMS["tiles"]])
    assert report.rows[0].verdict is Verdict.NOT_INSTALLED
    assert not report.passed


def test_settings_given_set_the_limits_and_on_row_sees_every_row() -> None:
    seen = []
    loose = solvers.Settings(eps_rel=0.5)
    report = run_conformance(["tiles"], [PROBLEMS["tiles"]], {"tiles": loose}, on_row=seen.append)
    assert report.rows == tuple(seen)
    gap = next(outcome for outcome in report.rows[0].outcomes if outcome.name == "gap")
    assert gap.limit > 0.1


# -- known optima ---------------------------------------------------------------------------------------------------

WINDOWS = {
    "tiles": solvers.Window.uniform(8, stride=8),
    "cut tiles": solvers.Window.uniform(5, stride=5),
    "Gaussian tiles": solvers.Window.gaussian(stride=11),
    "stride 4": solvers.Window.uniform(7, stride=4),
    "stride 4 valid": solvers.Window.uniform(7, stride=4, border="valid"),
    "stride 1": solvers.Window.uniform(7),
    "stride 1 valid": solvers.Window.uniform(7, border="valid"),
    "Gaussian stride 3": solvers.Window.gaussian(stride=3),
    "Gaussian stride 1": solvers.Window.gaussian(),
}


def assert_certified(known: KnownOptimum, tolerance: float) -> None:
    certificate = solvers.certify(known.problem, known.delta, known.dual)
    assert float(certificate.rel_gap.max()) <= tolerance
    assert float(certificate.max_violation.max()) <= 1e-12
    assert certificate.objective.tolist() == pytest.approx(known.values, rel=1e-9)


@pytest.mark.parametrize("projection", [False, True], ids=["linear", "projection"])
@pytest.mark.parametrize("name", WINDOWS)
def test_known_optimum_is_certified(name: str, projection: bool) -> None:
    known = known_optimum(WINDOWS[name], shape=(2, 44, 47), batch=2, projection=projection, seed=3)
    assert_certified(known, 1e-11)
    assert all(balls > 0 for balls, _ in known.tight)


@pytest.mark.parametrize(
    "options",
    [{"luminance": "split"}, {"luminance": "preserve"}, {"sample_covariance": True}, {"threshold": 0.8}],
    ids=str,
)
@pytest.mark.parametrize("name", ["tiles", "stride 4 valid", "stride 1 valid"])
def test_known_optimum_of_every_formulation_is_certified(name: str, options: dict[str, object]) -> None:
    known = known_optimum(WINDOWS[name], shape=(3, 40, 40), **options)  # type: ignore[arg-type]
    assert_certified(known, 1e-11)
    assert known.at_box[0] > 0


@pytest.mark.parametrize("projection", [False, True], ids=["linear", "projection"])
def test_tiles_finds_known_optima(projection: bool) -> None:
    known = known_optimum(WINDOWS["cut tiles"], shape=(3, 44, 44), batch=4, projection=projection)
    result = solvers.solve(known.problem, "tiles", solvers.Settings(eps_rel=1e-9))
    assert result.all_optimal
    assert result.objective.tolist() == pytest.approx(known.values, rel=1e-9)
    if projection:
        assert torch.allclose(torch.as_tensor(result.delta), known.delta, atol=1e-9)


@pytest.mark.parametrize("name", ["stride 4", "stride 1 valid", "Gaussian stride 3"])
def test_clarabel_finds_known_optima(name: str) -> None:
    known = known_optimum(WINDOWS[name], shape=(1, 33, 33), projection=name == "stride 4")
    result = solvers.solve(known.problem, "cvxpy:clarabel", solvers.Settings(eps_rel=1e-6))
    assert result.objective.tolist() == pytest.approx(known.values, rel=1e-6)


def test_known_optimum_at_full_size_is_certified_with_windows_active_together() -> None:
    known = known_optimum(WINDOWS["stride 1"], shape=(3, 224, 224))
    assert_certified(known, 1e-9)
    # Overlapping windows by the ten thousand are active together.
    assert known.tight[0][0] > 50_000


def test_known_optimum_in_float32_is_optimal_to_its_precision() -> None:
    known = known_optimum(WINDOWS["stride 1"], shape=(3, 48, 48), dtype=torch.float32)
    assert known.problem.reference.dtype == torch.float32
    assert float(solvers.certify(known.problem, known.delta, known.dual).rel_gap) <= 1e-5


def test_worse_points_than_the_known_optimum_are_not_certified() -> None:
    known = known_optimum(WINDOWS["stride 1"], shape=(1, 40, 40))
    assert float(solvers.certify(known.problem, 0.999 * known.delta, known.dual).rel_gap) > 1e-4
    other = replace(known.dual[0], ball=known.dual[0].ball * 1.01)
    assert float(solvers.certify(known.problem, known.delta, (other, None)).rel_gap) > 1e-6


def test_impossible_known_optima_are_refused() -> None:
    with pytest.raises(solvers.ProblemError, match="whole window"):
        known_optimum(solvers.Window.uniform(7), shape=(1, 5, 5))
    with pytest.raises(solvers.ProblemError, match="keeps means"):
        known_optimum(WINDOWS["stride 1"], luminance="preserve")


# -- data and the naive windows ---------------------------------------------------------------------------------------


def test_standard_problems_are_distinct_and_reproducible() -> None:
    assert len(PROBLEMS) == len(standard_problems())
    for name in ("tiles-batch", "known-stride-4", "feature-box"):
        first, second = PROBLEMS[name].build(), PROBLEMS[name].build()
        assert torch.equal(first.problem.vector, second.problem.vector)
        assert first.optimum == second.optimum


def test_photos_have_pixels_between_0_and_1_and_gradients_of_a_real_size() -> None:
    assert {"chelsea-32", "dark-32", "chelsea-64"} <= set(photo_names())
    for name in photo_names():
        entry = photo(name)
        assert entry.image.shape == entry.gradient.shape
        assert 0 <= float(entry.image.min()) <= float(entry.image.max()) <= 1
        assert float(entry.gradient.abs().max()) > 1e-3
    assert float((photo("dark-32").image == 0).double().mean()) > 0.5
    with pytest.raises(KeyError, match="chelsea-32"):
        photo("nobody")


@pytest.mark.parametrize("name", WINDOWS)
def test_naive_windows_sum_pixel_by_pixel(name: str) -> None:
    """The suite's own windows against loops over pixels, from nothing but the description."""
    window = WINDOWS[name]
    height, width = 13, 15
    image = np.random.default_rng(1).random((1, height, width))
    naive = NaiveWindows(window, height, width)
    means, variances = naive.means(image), naive.variance(image)
    if window.border == "valid":
        tops, lefts = (range(0, side - window.size + 1, window.stride) for side in (height, width))
    else:
        first = -((window.size - window.stride) // 2)
        tops, lefts = (
            range(first, first + window.stride * -(-side // window.stride), window.stride) for side in (height, width)
        )
    assert naive.lattice == (len(tops), len(lefts))
    half = (window.size - 1) / 2
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            total, values, weights = 0.0, [], []
            for i in range(max(top, 0), min(top + window.size, height)):
                for j in range(max(left, 0), min(left + window.size, width)):
                    far = (i - top - half) ** 2 + (j - left - half) ** 2
                    weight = 1.0 if window.sigma is None else float(np.exp(-far / (2 * window.sigma**2)))
                    total += weight
                    weights.append(weight)
                    values.append(image[0, i, j])
            mean = float(np.dot(weights, values)) / total
            variance = float(np.dot(weights, (np.array(values) - mean) ** 2)) / total
            assert means[0, row, column] == pytest.approx(mean, abs=1e-14)
            assert variances[0, row, column] == pytest.approx(variance, abs=1e-14)
            assert naive.pixels[row, column] == len(values)
