"""On a GPU: the same answers as on the CPU, certified, and nothing fetched from the device while iterating."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import solvers
from solvers.backends.cuda_graph import CapturedStep
from solvers.backends.eligibility import triton_serves
from solvers.certificate import Certifier
from solvers.conformance import run_conformance, standard_problems
from solvers.constraints import Constraint
from solvers.constraints.dual_blocks import map_dual_block
from solvers.methods.conjugate_gradients import inner_by_channel, maximise_quadratic
from solvers.methods.dual.anderson import AndersonAcceleration
from solvers.methods.dual.lagrangian import Lagrangian
from solvers.methods.dual.warm_start import initial_multipliers
from solvers.windows import Window, WindowOperator
from solvers.windows.quadratic import Bounds
from tests.solvers.conftest import Photos

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")

CUDA = torch.device("cuda")
TILES, DENSE = Window.uniform(8, stride=8), Window.uniform(7)
# Small, unlike one another, and every method has some.
PROBLEMS = (
    "tiles", "tiles-batch", "tiles-defect", "tiles-float32", "tiles-preserve", "stride-4", "stride-4-batch",
    "stride-4-float32", "stride-1", "gaussian-dense", "l2", "linf-box", "global-box", "feature-l2-box",
    "project:tiles", "project:stride-4",
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "window",
    [DENSE, Window.uniform(7, stride=4), TILES, Window.gaussian(), Window.gaussian(border="valid")],
    ids=["7", "7 by 4", "8 by 8", "gaussian", "gaussian valid"],
)
@pytest.mark.parametrize("side", [64, 350], ids=["64", "350"])
def test_window_products_equal_those_of_the_cpu(window: Window, dtype: torch.dtype, side: int) -> None:
    here = window.operator(side, side + 3, dtype=dtype, device=torch.device("cpu"))
    there = window.operator(side, side + 3, dtype=dtype, device=CUDA)
    generator = torch.Generator().manual_seed(0)
    image, slope = torch.randn(2, 2, 3, side, side + 3, generator=generator, dtype=torch.float64).to(dtype)
    values = torch.rand(2, 3, *here.shape, generator=generator, dtype=torch.float64).to(dtype)
    close = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    for own, other in (
        (here.mean(image), there.mean(image.to(CUDA))),
        (here.adjoint(values), there.adjoint(values.to(CUDA))),
        (here.squared_adjoint(values), there.squared_adjoint(values.to(CUDA))),
        (here.spread_min(values), there.spread_min(values.to(CUDA))),
        (here.normal(image, slope, values), there.normal(image.to(CUDA), slope.to(CUDA), values.to(CUDA))),
        (here.variance(image), there.variance(image.to(CUDA))),
        (here.covariance(image, slope), there.covariance(image.to(CUDA), slope.to(CUDA))),
    ):
        assert other.device.type == "cuda"
        torch.testing.assert_close(other.cpu(), own, **close)


@pytest.mark.parametrize(
    ("dtype", "contrast", "accuracy"), [(torch.float64, 1e-9, 1e-6), (torch.float32, 1e-4, 5e-3)], ids=["64", "32"]
)
def test_variances_of_a_tiny_contrast_upon_an_offset_are_those_of_the_cpu(
    dtype: torch.dtype, contrast: float, accuracy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = (0.5 + contrast * torch.randn(2, 3, 64, 67, generator=generator, dtype=torch.float64)).to(dtype)
    own = Window.gaussian().operator_for(image).variance(image)
    if triton_serves(CUDA):  # torch's way, which is right too, must then not be taken
        monkeypatch.delattr(WindowOperator, "_covariance")
    other = Window.gaussian().operator_for(image.to(CUDA)).variance(image.to(CUDA))
    torch.testing.assert_close(other.cpu(), own, rtol=accuracy, atol=0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_method_passes_its_standard_problems(name: str) -> None:
    chosen = [entry for entry in standard_problems() if entry.name == name]
    assert chosen, name
    own = [info.name for info in solvers.methods() if "cvxpy" not in info.name and info.name != "frank_wolfe"]
    report = run_conformance(own, chosen, device=CUDA)
    assert report.passed, "; ".join(map(str, report.failures))


def posed(photos: Photos, *sets: Constraint) -> solvers.LinearProblem:
    """Three photos' crops of 64 pixels, float32."""
    crops = [photos.crop(name, 80, 80, 64) for name in ("chelsea", "rocket", "camera")]
    reference = torch.cat([crop.reference for crop in crops]).float()
    return solvers.LinearProblem(torch.cat([crop.gradient for crop in crops]).float(), reference, sets)


@pytest.mark.parametrize(
    ("method", "sets"),
    [
        ("tiles", (solvers.WindowSSIM(0.95, TILES), solvers.Box())),
        ("dual", (solvers.WindowSSIM(0.95, DENSE), solvers.Box())),
        ("dual", (solvers.WindowSSIM(0.95, Window.gaussian()), solvers.Box(), solvers.LpBall(2, 0.5))),
        ("admm", (solvers.WindowSSIM(0.95, DENSE), solvers.Box())),
        ("pdhg", (solvers.WindowSSIM(0.95, DENSE), solvers.Box())),
        ("closed_form", (solvers.GlobalSSIM(0.02),)),
        ("mean_tiles", (solvers.MeanSSIM(0.95, TILES), solvers.Box())),
        ("mean_windows", (solvers.MeanSSIM(0.95, Window.gaussian(border="valid")), solvers.Box())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers_are_those_of_the_cpu(photos: Photos, method: str, sets: tuple[Constraint, ...]) -> None:
    problem = posed(photos, *sets)
    settings = solvers.Settings(eps_rel=1e-2, max_iter=500)
    own = solvers.solve(problem, method, settings)
    other = solvers.solve(problem.to(device=CUDA), method, settings)
    assert isinstance(other.delta, Tensor)
    assert other.delta.device.type == "cuda"
    assert [status.is_failure for status in other.status] == [status.is_failure for status in own.status]
    # Both are within the tolerance of the optimum.
    torch.testing.assert_close(
        torch.as_tensor(other.objective).cpu(), torch.as_tensor(own.objective), rtol=2.1e-2, atol=0
    )
    assert max(other.max_violation) <= 2e-6


def test_the_certificate_is_the_same_wherever_it_is_computed(photos: Photos) -> None:
    problem = posed(photos, solvers.WindowSSIM(0.95, DENSE), solvers.Box()).to(device=CUDA)
    result = solvers.solve(problem, "dual", solvers.Settings(eps_rel=3e-2))
    there = solvers.certify(problem, result.delta, result.dual)
    dual = [None if block is None else map_dual_block(lambda part: part.cpu(), block) for block in result.dual]
    here = solvers.certify(problem.to(device=torch.device("cpu")), torch.as_tensor(result.delta).cpu(), dual)
    for name in ("objective", "bound", "rel_gap", "max_violation"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-9, atol=1e-11)


def test_a_warm_start_and_the_selection_of_images_stay_on_the_device(photos: Photos) -> None:
    problem = posed(photos, solvers.WindowSSIM(0.95, DENSE), solvers.Box()).to(device=CUDA)
    settings = solvers.Settings(eps_rel=1e-2)
    cold = solvers.solve(problem, "dual", settings)
    warm = solvers.solve(problem, "dual", settings, warm_start=cold)
    assert max(warm.iterations) == 0
    one = solvers.solve(problem.select(torch.tensor([1], device=CUDA)), "dual", settings)
    assert float(one.objective[0]) == pytest.approx(float(cold.objective[1]), rel=2e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_compiled_gradients_equal_torchs(photos: Photos, dtype: torch.dtype) -> None:
    problem = posed(photos, solvers.WindowSSIM(0.95, DENSE), solvers.Box()).to(device=CUDA, dtype=dtype)
    limits = torch.full_like(problem.reference, -0.01), torch.full_like(problem.reference, 0.01)
    model = Lagrangian(problem, Bounds(*limits))
    model.set(initial_multipliers(model).flat())
    start = torch.randn_like(problem.reference).clamp(*limits)
    steps = torch.tensor([8, 5, 0], device=CUDA)
    own = model.maximise(start, steps, 8)
    other = maximise_quadratic(model.product, model.quadratic, start, model.bounds, inner_by_channel, steps, 8)
    torch.testing.assert_close(
        own, other, rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-4 * float(own.abs().max())
    )


def test_bounds_that_windows_imply_are_those_of_the_cpu(photos: Photos) -> None:
    problem = posed(photos, solvers.WindowSSIM(0.95, Window.gaussian()), solvers.Box())
    here, there = Certifier(problem), Certifier(problem.to(device=CUDA))
    torch.testing.assert_close(there.implied_lower.cpu(), here.implied_lower, rtol=0, atol=1e-12)
    torch.testing.assert_close(there.implied_upper.cpu(), here.implied_upper, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_mixing_is_that_of_the_cpu(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    here, there = AndersonAcceleration(5), AndersonAcceleration(5)
    for _ in range(12):
        values = torch.randn(3, 2, 5000, generator=generator, dtype=torch.float64).to(dtype)
        values[2].abs_()
        own, other = here.step(*values), there.step(*values.to(CUDA))
        torch.testing.assert_close(other.cpu(), own, rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-3)


class Rotation:
    def __init__(self) -> None:
        self.state, self.count = torch.arange(5.0, device=CUDA), 0

    def turn(self) -> None:
        self.state.copy_(torch.cos(self.state) + 0.1 * self.state.sum())

    def ask_and_count(self) -> None:
        if float(self.state.sum()) >= 0:  # what is recorded must not ask
            self.count += 1


def test_a_replayed_function_is_that_function() -> None:
    one, other = Rotation(), Rotation()
    repeated = CapturedStep(one.turn, one.state)
    for _ in range(6):
        repeated()
        other.turn()
    assert repeated.recorded
    assert torch.equal(one.state, other.state)


def test_the_memory_of_recordings_goes_with_their_owners(photos: Photos) -> None:
    problem = posed(photos, solvers.WindowSSIM(0.95, DENSE), solvers.Box()).to(device=CUDA)
    reserved = []
    for _ in range(4):
        solvers.solve(problem, "dual", solvers.Settings(eps_rel=1e-3, max_iter=150))
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] <= reserved[1] + 2**24


def test_what_cannot_be_recorded_runs_as_it_is() -> None:
    one = Rotation()
    repeated = CapturedStep(one.ask_and_count, one.state)
    repeated()
    with pytest.warns(UserWarning, match="recorded"):
        repeated()
    repeated()
    assert not repeated.recorded
    assert one.count == 3


@pytest.fixture
def unsynchronised() -> Callable[[], None]:
    """Calls it: from then on, asking the device for a number is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")  # type: ignore[misc]
    torch.cuda.set_sync_debug_mode("default")


def test_inner_iterations_of_dual_fetch_nothing(photos: Photos, unsynchronised: Callable[[], None]) -> None:
    problem = posed(photos, solvers.WindowSSIM(0.95, DENSE), solvers.Box()).to(device=CUDA)
    limits = torch.full_like(problem.reference, -1.0), torch.full_like(problem.reference, 1.0)
    model = Lagrangian(problem, Bounds(*limits))
    multipliers, delta = initial_multipliers(model).flat(), torch.zeros_like(problem.reference)
    steps = torch.full((3,), 8, device=CUDA)
    model.set(multipliers)
    model.maximise(delta, steps, 8)  # compiles, allocates
    unsynchronised()
    model.set(multipliers)
    model.ratios(model.maximise(delta, steps, 8))
