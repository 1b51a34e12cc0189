"""Compiled and blocked window products: against dense matrices, on threads, and beside torch's own machinery."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from solvers import Window, WindowOperator
from solvers.backends import numba_jit
from solvers.windows import choose_backend
from solvers.windows import operator as operator_module
from solvers.windows.covariance_numba import covariance_planes
from solvers.windows.kernels_numba import adjoint_planes, mean_planes, normal_planes, spread_min_planes

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def draw(seed: int) -> tuple[Window, int, int]:
    """A window and an image that it fits into, down to the window itself."""
    chance = random.Random(seed)
    size = chance.randint(2, 15)
    window = Window(
        size=size,
        stride=chance.choice([1, chance.randint(1, size), size]),
        border=chance.choice(["full", "valid"]),
        sigma=chance.choice([None, chance.uniform(0.3, 4) * size / 6]),
    )
    return window, size + chance.randint(0, 40), size + chance.randint(0, 40)


def case(seed: int, dtype: torch.dtype, planes: int = 3) -> tuple[WindowOperator, Tensor, Tensor, Tensor]:
    """An operator with images v, s (N, H, W) and window values t (N, P_h, P_w)."""
    window, height, width = draw(seed)
    op = window.operator(height, width, dtype=dtype, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    v, s = torch.randn(2, planes, height, width, generator=generator, dtype=torch.float64).to(dtype)
    return op, v, s, torch.randn(planes, *op.shape, generator=generator, dtype=torch.float64).to(dtype)


def dense_mean(op: WindowOperator, v: Tensor) -> Tensor:
    return op.rows @ v @ op.columns_t


def dense_adjoint(op: WindowOperator, q: Tensor) -> Tensor:
    return op.rows_t @ q @ op.columns


every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@every_dtype
@pytest.mark.parametrize("seed", range(40))
def test_compiled_products_equal_dense_ones(seed: int, dtype: torch.dtype) -> None:
    op, v, s, t = case(seed, dtype)
    close = {"rtol": 0, "atol": TOLERANCE[dtype]}
    mean, spread = mean_planes(v, op), adjoint_planes(t, op)
    torch.testing.assert_close(mean, dense_mean(op, v), **close)
    torch.testing.assert_close(spread, dense_adjoint(op, t), **close)
    # To rounding the one is the other's transpose, whatever either is.
    scale = float(mean.double().norm() * t.double().norm())
    gap = float((mean * t).double().sum() - (v * spread).double().sum())
    assert abs(gap) <= TOLERANCE[dtype] / 10 * scale + 1e-15
    normal, dots = normal_planes(v, s, t, op)
    expected = s * v + dense_adjoint(op, t * dense_mean(op, v))
    torch.testing.assert_close(normal, expected, **close)
    torch.testing.assert_close(dots, (expected * v).double().sum(dim=(1, 2)), rtol=0, atol=TOLERANCE[dtype] * 100)


@pytest.mark.parametrize("seed", range(40))
def test_compiled_minimum_is_that_of_the_windows_over_each_pixel(seed: int) -> None:
    op, _, _, t = case(seed, torch.float64)
    t[1, 0, -1] = torch.nan
    expected = torch.full((3, op.height, op.width), torch.inf, dtype=torch.float64)
    size = op.window.size
    for p, top in enumerate(op.row_starts):
        for q, left in enumerate(op.column_starts):
            over = expected[:, max(top, 0) : top + size, max(left, 0) : left + size]
            over.copy_(torch.minimum(over, t[:, p, q, None, None]))
    torch.testing.assert_close(spread_min_planes(t, op), expected, rtol=0, atol=0, equal_nan=True)


@every_dtype
def test_products_are_written_into_the_tensors_given(dtype: torch.dtype) -> None:
    op, v, s, t = case(3, dtype)
    mean, spread, normal = torch.full_like(t, 7), torch.full_like(v, 7), torch.full_like(v, 7)
    assert mean_planes(v, op, mean) is mean
    assert adjoint_planes(t, op, spread) is spread
    assert normal_planes(v, s, t, op, normal)[0] is normal
    assert torch.equal(mean, mean_planes(v, op))
    assert torch.equal(spread, adjoint_planes(t, op))
    assert torch.equal(normal, normal_planes(v, s, t, op)[0])


def test_a_shape_or_dtype_that_is_not_the_operators_is_refused() -> None:
    op, v, s, t = case(3, torch.float64)
    wrong: list[Callable[[], object]] = [
        lambda: mean_planes(v[:, 1:].contiguous(), op),
        lambda: mean_planes(v.float(), op),
        lambda: mean_planes(v.mT.contiguous().mT, op),
        lambda: adjoint_planes(t, op, v[:2]),
        lambda: normal_planes(v, s[:1], t, op),
        lambda: covariance_planes(v, s[..., 1:].contiguous(), op),
        lambda: spread_min_planes(t[..., 1:].contiguous(), op),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r"needs a contiguous torch\.float64 tensor of shape"):
            call()


# -- through the operator -------------------------------------------------------------------------------------


@pytest.fixture
def always_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_backend, "MIN_COMPILED_PIXELS", 0)


@pytest.fixture
def large() -> tuple[WindowOperator, Tensor, Tensor, Tensor]:
    """At a size where the operator takes the compiled way by itself."""
    window = Window.gaussian(1.5, 11, stride=2)
    op = window.operator(70, 90, dtype=torch.float64, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    v, s = torch.randn(2, 2, 3, 70, 90, generator=generator, dtype=torch.float64)
    return op, v, s, torch.rand(2, 3, *op.shape, generator=generator, dtype=torch.float64)


Large = tuple[WindowOperator, Tensor, Tensor, Tensor]


def test_the_operator_takes_any_layout_and_leading_shape(large: Large) -> None:
    op, v, s, t = large
    expected = s * v + dense_adjoint(op, t * dense_mean(op, v))
    for change in (
        lambda x: x.mT.contiguous().mT,
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: x.contiguous(memory_format=torch.channels_last),
    ):
        torch.testing.assert_close(op.mean(change(v)), dense_mean(op, v))
        torch.testing.assert_close(op.adjoint(change(t)), dense_adjoint(op, t))
        torch.testing.assert_close(op.normal(change(v), change(s), change(t)), expected)
        assert torch.equal(op.spread_min(change(t)), op.spread_min(t))
    torch.testing.assert_close(op.normal(v[0, 1], s[0, 1], t[0, 1]), expected[0, 1])
    assert op.spread_min(t[None]).shape == (1, *v.shape)


def test_the_normal_product_goes_into_out_of_any_layout(large: Large) -> None:
    op, v, s, t = large
    expected = op.normal(v, s, t)
    for out in (torch.empty_like(v), torch.empty_like(v.mT).mT, torch.empty_like(v.float())):
        assert op.normal(v, s, t, out=out) is out
        torch.testing.assert_close(out, expected.to(out.dtype))


@pytest.mark.usefixtures("always_compiled")
def test_gradients_transforms_and_inference_mode_are_served() -> None:
    op, v, s, t = case(8, torch.float64)
    assert op.mean(v.requires_grad_()).requires_grad
    assert torch.autograd.gradcheck(op.variance, (v,))
    assert torch.autograd.gradcheck(op.adjoint, (t.requires_grad_(),))
    assert torch.autograd.gradcheck(op.normal, (v, s.requires_grad_(), t))
    v, s, t = v.detach(), s.detach(), t.detach()
    expected, turned = dense_mean(op, v), dense_mean(op, s)
    torch.testing.assert_close(torch.func.vmap(op.mean)(v), expected)
    torch.testing.assert_close(torch.func.jvp(op.mean, (v,), (s,)), (expected, turned))
    torch.testing.assert_close(torch.func.linearize(op.mean, v)[1](s), turned)
    torch.testing.assert_close(torch.func.vjp(op.mean, v)[1](t)[0], dense_adjoint(op, t))
    with forward_ad.dual_level():
        moved = forward_ad.unpack_dual(op.mean(forward_ad.make_dual(v, s)))
        torch.testing.assert_close(moved.tangent, turned)
    with torch.inference_mode():
        torch.testing.assert_close(op.mean(v + 0), expected)
    with torch.no_grad():
        torch.testing.assert_close(op.mean(torch.nn.Parameter(v)), expected)


@pytest.mark.parametrize("seed", range(20))
def test_blocked_products_equal_dense_ones_and_carry_gradients(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solvers.windows.lattice.WINDOWS_PER_BLOCK", 3)
    op, v, _, t = case(seed, torch.float64)
    op = WindowOperator(op.window, op.height, op.width, dtype=torch.float64, device=torch.device("cpu"))
    monkeypatch.setattr(operator_module, "MAX_DENSE_SIDE", 0)
    torch.testing.assert_close(op.mean(v), dense_mean(op, v), rtol=0, atol=1e-13)
    torch.testing.assert_close(op.adjoint(t), dense_adjoint(op, t), rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad((op.mean(v.requires_grad_()) * t).sum(), v)
    torch.testing.assert_close(gradient, dense_adjoint(op, t), rtol=0, atol=1e-13)


# -- threads and compilation ----------------------------------------------------------------------------------


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(numba_jit, "MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def products(op: WindowOperator, v: Tensor, s: Tensor, t: Tensor) -> list[Tensor]:
    linear = mean_planes(v, op), adjoint_planes(t, op), *normal_planes(v, s, t, op)
    return [*linear, covariance_planes(v, s, op), covariance_planes(v, v, op), spread_min_planes(t, op)]


@pytest.mark.parametrize("seed", [1, 4, 11])
def test_threads_change_nothing_to_the_last_bit(seed: int, request: pytest.FixtureRequest) -> None:
    operands = case(seed, torch.float32, planes=5)
    alone = products(*operands)
    request.getfixturevalue("three_threads")
    for value, expected in zip(products(*operands), alone, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.usefixtures("three_threads")
def test_callers_on_several_threads_do_not_disturb_each_other() -> None:
    operands = case(5, torch.float64, planes=4)
    alone = products(*operands)
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: products(*operands), range(40)):
            assert all(torch.equal(value, expected) for value, expected in zip(results, alone, strict=True))


def test_a_plane_does_not_depend_on_its_batch() -> None:
    op, v, s, t = case(6, torch.float32)
    for whole, part in zip(products(op, v, s, t), products(op, v[1:2], s[1:2], t[1:2]), strict=True):
        assert torch.equal(whole[1:2], part)


FORKED = """
import os, torch
from solvers import Window
from solvers.backends import numba_jit
numba_jit.MIN_WORK_PER_THREAD = 1
torch.set_num_threads(2)
op = Window.uniform(7).operator(64, 64, dtype=torch.float64, device=torch.device("cpu"))
image = torch.rand(2, 64, 64, dtype=torch.float64)
mean = op.mean(image)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(op.mean(image), mean) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=120)


def test_a_kernel_compiles_where_nothing_can_be_kept() -> None:
    names: dict[str, Callable[[int], int]] = {}
    exec("def double(x):\n    return 2 * x", names)  # without a file there is no cache
    assert numba_jit.compiled(names["double"])(21) == 42


def test_the_squared_adjoint_is_the_diagonal_of_the_normal_product() -> None:
    op = Window.gaussian(1.0, 5).operator(9, 8, dtype=torch.float64, device=torch.device("cpu"))
    weights = torch.rand(op.shape, dtype=torch.float64)
    units = torch.eye(72, dtype=torch.float64).reshape(72, 9, 8)
    products = op.normal(units, torch.zeros_like(units), weights.expand(72, *op.shape))
    torch.testing.assert_close(op.squared_adjoint(weights).flatten(), torch.diagonal(products.reshape(72, 72)))
