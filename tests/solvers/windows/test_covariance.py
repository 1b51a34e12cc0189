"""Windowed covariances in two passes, by torch, numba and Triton: against naive sums and exact rational arithmetic.

Triton's kernels run on a GPU where there is one, and elsewhere on the CPU in Triton's interpreter. The interpreter
takes about a third of a second for a covariance, so the images are small.
"""

from __future__ import annotations

from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from solvers import Window, WindowOperator
from solvers.windows import operator as operator_module
from tests.solvers import oracles
from tests.solvers.exact_arithmetic.rational_arrays import Integers, exact
from tests.solvers.exact_arithmetic.windows import exact_windows

CPU = torch.device("cpu")
TRITON_DEVICE = torch.device("cuda") if torch.cuda.is_available() else CPU
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
every_backend = pytest.mark.parametrize("backend", ["torch", "numba", pytest.param("triton", marks=needs_triton)])
every_compiler = pytest.mark.parametrize("backend", ["numba", pytest.param("triton", marks=needs_triton)])
every_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)

WINDOWS = [
    Window.uniform(5),
    Window.uniform(4, stride=3),
    Window.uniform(3, stride=3, border="valid"),
    Window.gaussian(1.0, 5, border="valid"),
    Window.gaussian(0.8, 6, stride=5),
]
# Odd sides, so that nothing divides evenly, and unlike ones, so that rows and columns can't be swapped.
SHAPE = (13, 18)


def covariance(backend: str, window: Window, u: Tensor, v: Tensor) -> Tensor:
    """Covariances of planes (N, H, W) on the CPU: (N, P_h, P_w) on the CPU. The variance where ``v`` is ``u``."""
    device = TRITON_DEVICE if backend == "triton" else CPU
    op = window.operator(*u.shape[-2:], dtype=u.dtype, device=device)
    first = u.to(device)
    second = first if v is u else v.to(device)
    if backend == "torch":
        return op._covariance(first, second)
    planes: Tensor = import_module(f"solvers.windows.covariance_{backend}").covariance_planes(first, second, op)
    assert planes.device.type == device.type
    return planes.cpu()


def pair(dtype: torch.dtype, planes: int = 1, shape: tuple[int, int] = SHAPE) -> Tensor:
    """Two normal images, (2, N, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, planes, *shape, generator=generator, dtype=torch.float64).to(dtype)


def naive(window: Window, u: Tensor, v: Tensor) -> np.ndarray:
    """``sum_k w_k (u_k - m_p(u))(v_k - m_p(v))`` in float64 with every window's weights as an image."""
    weights = oracles.weights(window, *u.shape[-2:])
    first, second = (
        image[:, None, None] - np.einsum("pqij,nij->npq", weights, image)[..., None, None]
        for image in (u.double().numpy(), v.double().numpy())
    )
    return (weights * first * second).sum(axis=(-2, -1))


@every_backend
@every_dtype
@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window.size}-{window.stride}-{window.border}")
def test_variance_and_covariance_equal_naive_centred_sums(backend: str, dtype: torch.dtype, window: Window) -> None:
    u, v = pair(dtype)
    tolerance = 1e-14 if dtype == torch.float64 else 5e-6
    for first, second in ((u, v), (u, u)):
        values = covariance(backend, window, first, second)
        assert values.dtype == dtype
        np.testing.assert_allclose(values, naive(window, first, second), rtol=0, atol=tolerance)


@every_backend
def test_images_larger_than_a_programs_tile_are_covered_whole(backend: str) -> None:
    window = Window.uniform(2)
    u, v = pair(torch.float64, planes=2, shape=(18, 67))
    np.testing.assert_allclose(covariance(backend, window, u, v), naive(window, u, v), rtol=0, atol=1e-14)


def exact_covariance(window: Window, u: Tensor, v: Tensor) -> Integers:
    """Exact covariances of one image each, (H, W) -> (P_h, P_w), as fractions."""
    windows, images = exact_windows(window, *u.shape), exact(torch.stack([u, v]).numpy())
    first, second = images.numerators
    sums = windows.total * windows.sums(first * second) - windows.sums(first) * windows.sums(second)
    fractions: Integers = sums * Fraction(1, images.denominator**2) / windows.total**2
    return fractions


def promised_error(op: WindowOperator, u: Tensor, variance: np.ndarray) -> np.ndarray:
    """The error of a window's deviations that ``relative_error`` promises, as a norm, (P_h, P_w)."""
    return 4 * op.relative_error * (float(u.abs().max()) + np.sqrt(variance))


@every_backend
@pytest.mark.parametrize("window", [Window.uniform(5), Window.gaussian(1.0, 6, stride=4)], ids=["dense", "strided"])
@pytest.mark.parametrize(
    ("dtype", "contrast", "accuracy"), [(torch.float64, 1e-9, 3e-7), (torch.float32, 1e-4, 2e-3)], ids=["64", "32"]
)
def test_a_tiny_contrast_upon_an_offset_is_right_to_the_contrasts_own_digits(
    backend: str, window: Window, dtype: torch.dtype, contrast: float, accuracy: float
) -> None:
    # A contrast of 1e-9 upon 0.5 has 23 bits left in float64, and 1e-4 has 10 bits in float32. One pass has none.
    u, v = (offset + contrast * image for offset, image in zip((0.5, -0.25), pair(torch.float64), strict=True))
    u, v = u.to(dtype), v.to(dtype)
    op = window.operator(*SHAPE, dtype=dtype, device=CPU)
    variances = [exact_covariance(window, image[0], image[0]).astype(float) for image in (u, v)]
    for first, second in ((u, u), (u, v)):
        values = covariance(backend, window, first, second)[0].double().numpy()
        error = np.abs(values - exact_covariance(window, first[0], second[0]).astype(float))
        one, other = variances[0], variances[0 if second is u else 1]
        assert (error <= accuracy * np.sqrt(one * other)).all()
        promised, other_promised = promised_error(op, first, one), promised_error(op, second, other)
        allowed = promised * np.sqrt(other) + other_promised * np.sqrt(one) + promised * other_promised
        assert (error <= allowed).all()
    single_pass = op.mean(u * u) - op.mean(u).square()
    assert float((single_pass[0].double() - torch.from_numpy(variances[0])).abs().max()) > variances[0].max()


@every_backend
def test_a_tiny_image_has_the_covariances_that_fractions_give(backend: str) -> None:
    # Windows of 2x2 pixels at stride 1 of an image of 3x4, whole windows only: 2x3 windows, every weight 1/4.
    u = [[5, 1, 0, 2], [3, -3, 8, 2], [1, 7, 4, 6]]
    v = [[1, 2, 3, 4], [0, -5, 2, 2], [9, 1, 1, 8]]
    expected = []
    for top, left in [(i, j) for i in range(2) for j in range(3)]:
        inside = [(top + i, left + j) for i in (0, 1) for j in (0, 1)]
        mean_u, mean_v = (Fraction(sum(image[i][j] for i, j in inside), 4) for image in (u, v))
        expected.append(sum((u[i][j] - mean_u) * (v[i][j] - mean_v) for i, j in inside) / 4)
    first, second = (torch.tensor([image], dtype=torch.float64) for image in (u, v))
    values = covariance(backend, Window.uniform(2, border="valid"), first, second).flatten().tolist()
    errors = [abs(Fraction(value) - fraction) for value, fraction in zip(values, expected, strict=True)]
    assert max(errors) <= Fraction(1, 2**46)


@every_backend
def test_variance_of_a_constant_image_is_zero_to_rounding_and_never_negative(backend: str) -> None:
    image = torch.full((1, *SHAPE), 0.7, dtype=torch.float64)
    variance = covariance(backend, Window.gaussian(1.0, 5), image, image)
    assert bool((variance >= 0).all())
    assert float(variance.max()) < 1e-30


@every_backend
def test_what_is_not_finite_stays_in_the_windows_over_it(backend: str) -> None:
    # A window that hangs over an edge must not read on: the pixels after a row or a plane are those of the next.
    window, (u, v) = Window.uniform(5, stride=2), pair(torch.float64, planes=2)
    expected, weights = naive(window, u, v), oracles.weights(window, *SHAPE)
    touched = np.zeros(expected.shape, dtype=bool)
    for plane, i, j in ((0, 5, 17), (0, 12, 12), (1, 5, 0), (1, 0, 3)):
        u[plane, i, j] = torch.nan
        touched[plane] |= weights[:, :, i, j] > 0
    values = covariance(backend, window, u, v).numpy()
    assert np.isnan(values[touched]).all()
    np.testing.assert_allclose(values[~touched], expected[~touched], rtol=0, atol=1e-14)


@every_compiler
def test_a_plane_does_not_depend_on_its_batch_nor_a_variance_on_being_one(backend: str) -> None:
    window, (u, v) = Window.uniform(3, stride=2), pair(torch.float32, planes=2, shape=(5, 8))
    assert torch.equal(covariance(backend, window, u[1:], v[1:]), covariance(backend, window, u, v)[1:])
    assert torch.equal(covariance(backend, window, u, u), covariance(backend, window, u, u.clone()))


@every_compiler
def test_a_shape_or_dtype_that_is_not_the_operators_is_refused(backend: str) -> None:
    kernels = import_module(f"solvers.windows.covariance_{backend}")
    op = Window.uniform(5).operator(*SHAPE, dtype=torch.float64, device=CPU)
    u, v = pair(torch.float64)
    for wrong in (v[:, 1:].contiguous(), v.float(), v.mT.contiguous().mT, v.expand(2, *SHAPE).contiguous()):
        with pytest.raises(ValueError, match=r"needs a contiguous torch\.float64 tensor of shape"):
            kernels.covariance_planes(u, wrong, op)


# -- through the operator -------------------------------------------------------------------------------------


def test_the_operators_variance_and_covariance_are_those_of_dense_means_at_any_leading_shape() -> None:
    # At a size where the operator takes the compiled way by itself.
    op = Window.gaussian(1.5, 11, stride=2).operator(70, 90, dtype=torch.float64, device=CPU)
    generator = torch.Generator().manual_seed(0)
    v, s = torch.randn(2, 2, 3, 70, 90, generator=generator, dtype=torch.float64)

    def mean(image: Tensor) -> Tensor:
        return op.rows @ image @ op.columns_t

    torch.testing.assert_close(op.variance(v), mean(v * v) - mean(v) * mean(v))
    torch.testing.assert_close(op.covariance(v, s), mean(v * s) - mean(v) * mean(s))


@needs_triton
def test_the_operator_takes_tritons_kernels_where_they_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = import_module("solvers.windows.conjugate_gradients_triton")
    monkeypatch.setattr(operator_module, "compiled_products", lambda device, pixels: kernels)
    monkeypatch.delattr(WindowOperator, "_covariance")
    window = Window.uniform(5, stride=3)
    op = WindowOperator(window, *SHAPE, dtype=torch.float64, device=TRITON_DEVICE)
    u, v = pair(torch.float64, planes=2).mT.contiguous().mT
    values = op.covariance(u[None].to(TRITON_DEVICE), v[None].to(TRITON_DEVICE))
    assert values.shape == (1, 2, *op.shape)
    np.testing.assert_allclose(values[0].cpu(), naive(window, u, v), rtol=0, atol=1e-14)


@needs_triton
def test_a_window_of_one_pixel_has_variance_zero_by_tritons_kernels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = import_module("solvers.windows.conjugate_gradients_triton")
    monkeypatch.setattr(operator_module, "compiled_products", lambda device, pixels: kernels)
    op = WindowOperator(Window.uniform(3, stride=3), 4, 7, dtype=torch.float64, device=TRITON_DEVICE)
    assert float(op.pixels[-1, -1]) == 1
    image = 0.1 + pair(torch.float64, shape=(4, 7))[0].to(TRITON_DEVICE)
    variance = op.variance(image)
    assert float(variance[0, -1, -1]) == 0
    assert float(variance[0, 0, 0]) > 0
