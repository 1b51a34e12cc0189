"""The window operator against naive loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from solvers import ProblemError, Window
from tests.solvers import oracles

Draw = Callable[..., Tensor]

WINDOWS = [
    Window.uniform(7),
    Window.uniform(7, border="valid"),
    Window.uniform(4, stride=3),
    Window.uniform(5, stride=2, border="valid"),
    Window.uniform(5, stride=5),
    Window.uniform(5, stride=5, border="valid"),
    Window.uniform(2, stride=1),
    Window.gaussian(1.5, 11),
    Window.gaussian(1.5, 11, stride=4, border="valid"),
    Window.gaussian(0.8, 6, stride=5),
]
# Odd sides, so that nothing divides evenly, and unlike ones, so that rows and columns can't be swapped.
SHAPE = (13, 18)


def build(window: Window, dtype: torch.dtype = torch.float64, shape: tuple[int, int] = SHAPE) -> solvers.WindowOperator:
    return window.operator(*shape, dtype=dtype, device=torch.device("cpu"))


def name(window: Window) -> str:
    kind = "uniform" if window.sigma is None else "gaussian"
    return f"{kind}{window.size}-stride{window.stride}-{window.border}"


every_window = pytest.mark.parametrize("window", WINDOWS, ids=name)


@every_window
def test_windows_lie_where_a_walk_along_the_axes_puts_them(window: Window) -> None:
    op = build(window)
    assert op.row_starts == oracles.starts(window, 13)
    assert op.column_starts == oracles.starts(window, 18)
    assert op.shape == (len(op.row_starts), len(op.column_starts))


@every_window
def test_means_equal_naive_weighted_sums(window: Window, normal: Draw) -> None:
    image = normal(2, 3, *SHAPE)
    expected = np.einsum("pqij,bcij->bcpq", oracles.weights(window, *SHAPE), image.numpy())
    np.testing.assert_allclose(build(window).mean(image), expected, rtol=0, atol=1e-14)


@every_window
def test_variance_and_covariance_equal_naive_centred_sums(window: Window, normal: Draw) -> None:
    u, v = normal(*SHAPE), normal(*SHAPE)
    w = oracles.weights(window, *SHAPE)
    cu = u.numpy() - np.einsum("pqij,ij->pq", w, u.numpy())[..., None, None]
    cv = v.numpy() - np.einsum("pqij,ij->pq", w, v.numpy())[..., None, None]
    op = build(window)
    np.testing.assert_allclose(op.variance(u), (w * cu**2).sum(axis=(2, 3)), rtol=0, atol=1e-13)
    np.testing.assert_allclose(op.covariance(u, v), (w * cu * cv).sum(axis=(2, 3)), rtol=0, atol=1e-13)


def test_variance_of_a_constant_image_is_zero_and_never_negative() -> None:
    image = torch.full((1, 1, *SHAPE), 0.7, dtype=torch.float64)
    variance = build(Window.gaussian()).variance(image)
    assert bool((variance >= 0).all())
    assert float(variance.max()) < 1e-15


@every_window
def test_adjoint_is_exactly_the_transpose_of_the_mean(window: Window, normal: Draw) -> None:
    op = build(window)
    values = normal(2, 3, *op.shape)
    expected = np.einsum("pqij,bcpq->bcij", oracles.weights(window, *SHAPE), values.numpy())
    np.testing.assert_allclose(op.adjoint(values), expected, rtol=0, atol=1e-14)
    image = normal(2, 3, *SHAPE)
    assert float((op.mean(image) * values).sum()) == pytest.approx(float((image * op.adjoint(values)).sum()), rel=1e-12)


@every_window
def test_window_vectors_have_the_variance_as_their_squared_norm(window: Window, normal: Draw) -> None:
    op, image = build(window), normal(2, 1, *SHAPE)
    roots, vectors = op.root_weights, op.vectors(image)
    np.testing.assert_allclose((roots * vectors).sum(dim=-1), op.mean(image), rtol=0, atol=1e-13)
    centred = vectors - op.mean(image)[..., None] * roots
    np.testing.assert_allclose(centred.square().sum(dim=-1), op.variance(image), rtol=0, atol=1e-13)


@every_window
def test_window_vectors_hold_the_weighted_pixels(window: Window, normal: Draw) -> None:
    op, image = build(window), normal(*SHAPE)
    vectors = op.vectors(image).numpy().reshape(*op.shape, window.size, window.size)
    w = oracles.weights(window, *SHAPE)
    for p, top in enumerate(op.row_starts):
        for q, left in enumerate(op.column_starts):
            for i in range(window.size):
                for j in range(window.size):
                    row, column = top + i, left + j
                    inside = 0 <= row < SHAPE[0] and 0 <= column < SHAPE[1]
                    expected = np.sqrt(w[p, q, row, column]) * float(image[row, column]) if inside else 0.0
                    assert vectors[p, q, i, j] == pytest.approx(expected, abs=1e-14)


@every_window
def test_fold_is_exactly_the_transpose_of_the_vectors(window: Window, normal: Draw) -> None:
    op = build(window)
    image, block = normal(2, 3, *SHAPE), normal(2, 3, *op.shape, window.size**2)
    assert float((op.vectors(image) * block).sum()) == pytest.approx(float((image * op.fold(block)).sum()), rel=1e-12)
    # A'A is diagonal: each pixel's total weight.
    total = oracles.weights(window, *SHAPE).sum(axis=(0, 1))
    np.testing.assert_allclose(op.fold(op.vectors(image)), image.numpy() * total, rtol=0, atol=1e-13)
    np.testing.assert_allclose(op.coverage, total, rtol=0, atol=1e-14)


@every_window
def test_spread_min_takes_the_smallest_value_of_the_windows_over_a_pixel(window: Window, normal: Draw) -> None:
    op = build(window)
    values = normal(2, *op.shape)
    spread = op.spread_min(values)
    over = oracles.weights(window, *SHAPE) > 0
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            candidates = values[:, torch.from_numpy(over[:, :, row, column])]
            if candidates.shape[1]:
                assert torch.equal(spread[:, row, column], candidates.amin(dim=1))
            else:
                assert bool(torch.isposinf(spread[:, row, column]).all())


@every_window
def test_weights_of_every_window_cut_or_not_sum_to_one(window: Window) -> None:
    op = build(window)
    ones = torch.ones(SHAPE, dtype=torch.float64)
    np.testing.assert_allclose(op.mean(ones), np.ones(op.shape), rtol=0, atol=1e-14)
    np.testing.assert_allclose(op.root_weights.square().sum(dim=-1), np.ones(op.shape), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(op.pixels, (oracles.weights(window, *SHAPE) > 0).sum(axis=(2, 3)))


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 6, 7])
def test_full_border_leaves_no_pixel_uncovered_and_valid_uses_whole_windows_only(stride: int) -> None:
    assert bool(build(Window.uniform(7, stride=stride)).covered.all())
    valid = build(Window.uniform(7, stride=stride, border="valid"))
    assert bool((valid.pixels == 49).all())
    assert bool(valid.covered.all()) == ((13 - 7) % stride == 0 and (18 - 7) % stride == 0)


@pytest.mark.parametrize("size", [2, 6, 7])
def test_full_border_at_stride_1_contains_every_valid_window(size: int) -> None:
    full = oracles.weights(Window.uniform(size), *SHAPE).reshape(-1, 13 * 18)
    assert set(Window.uniform(size, border="valid").starts(18)) <= set(Window.uniform(size).starts(18))
    op, valid = build(Window.uniform(size)), build(Window.uniform(size, border="valid"))
    eye = torch.eye(13 * 18, dtype=torch.float64).reshape(-1, *SHAPE)
    rows = op.mean(eye).flatten(1).T
    np.testing.assert_allclose(rows, full, atol=1e-15)
    for row in valid.mean(eye).flatten(1).T:
        assert float((rows - row).abs().amax(dim=1).min()) < 1e-15


def test_stride_equal_to_size_tiles_with_partial_windows_at_the_far_edge() -> None:
    op = build(Window.uniform(5, stride=5))
    assert op.row_starts == [0, 5, 10]
    assert op.column_starts == [0, 5, 10, 15]
    assert op.pixels.tolist() == [[25, 25, 25, 15], [25, 25, 25, 15], [15, 15, 15, 9]]
    assert Window.uniform(5, stride=5).is_tiling
    assert not Window.uniform(5, stride=4).is_tiling


def test_operator_is_built_once_for_a_size_dtype_and_device() -> None:
    window = Window.gaussian()
    first = build(window)
    assert build(Window.gaussian(1.5, 11)) is first
    assert build(window, torch.float32) is not first
    image = torch.zeros(1, 1, *SHAPE, dtype=torch.float64)
    assert window.operator_for(image) is first
    pointers = [first.rows.data_ptr(), first.columns_t.data_ptr()]
    first.mean(image)
    assert [first.rows.data_ptr(), first.columns_t.data_ptr()] == pointers


def test_float32_operators_compute_in_float32_to_its_precision(normal: Draw) -> None:
    image = normal(2, 3, *SHAPE)
    for window in WINDOWS:
        wide, narrow = build(window), build(window, torch.float32)
        single = image.float()
        for method in ("mean", "variance", "vectors"):
            value = getattr(narrow, method)(single)
            assert value.dtype == torch.float32
            np.testing.assert_allclose(value, getattr(wide, method)(image), rtol=0, atol=2e-6)
        assert narrow.fold(narrow.vectors(single)).dtype == torch.float32
        assert narrow.adjoint(narrow.mean(single)).dtype == torch.float32


@every_window
def test_memory_layout_of_the_input_does_not_matter(window: Window, normal: Draw) -> None:
    image = normal(2, 3, *SHAPE)
    channels_last = image.contiguous(memory_format=torch.channels_last)
    sliced = torch.stack([image, -image], dim=-1)[..., 0]
    assert not channels_last.is_contiguous()
    assert not sliced.is_contiguous()
    op = build(window)
    block = op.vectors(image)
    for other in (channels_last, sliced):
        for method in ("mean", "variance", "vectors"):
            np.testing.assert_allclose(getattr(op, method)(other), getattr(op, method)(image), rtol=0, atol=1e-15)
    spread = torch.stack([block, block], dim=-1)[..., 0]
    np.testing.assert_allclose(op.fold(spread), op.fold(block), rtol=0, atol=1e-15)


def test_any_leading_batch_is_taken(normal: Draw) -> None:
    op, image = build(Window.uniform(5, stride=2)), normal(2, 1, 3, *SHAPE)
    for lead in ((), (6,), (2, 1, 3)):
        flat = image.reshape(6, *SHAPE)[0] if lead == () else image.reshape(*lead, *SHAPE)
        assert op.mean(flat).shape == (*lead, *op.shape)
        assert op.vectors(flat).shape == (*lead, *op.shape, 25)
        assert op.fold(op.vectors(flat)).shape == flat.shape
        assert op.spread_min(op.mean(flat)).shape == flat.shape


def test_smallest_image_is_one_window() -> None:
    op = build(Window.uniform(3, border="valid"), shape=(3, 3))
    image = torch.arange(9, dtype=torch.float64).reshape(3, 3)
    assert op.mean(image).tolist() == [[pytest.approx(4.0)]]
    with pytest.raises(ProblemError, match=r"window of 3x3 pixels is larger than the image of 5x2; .* 2"):
        build(Window.uniform(3), shape=(5, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 1}, "size must be at least 2, got 1"),
        ({"size": 7.0}, "size must be an integer, got 7.0"),
        ({"size": True}, "size must be an integer, got True"),
        ({"size": 7, "stride": 0}, "stride must be between 1 and the size 7, got 0"),
        ({"size": 7, "stride": 8}, "stride must be between 1 and the size 7, got 8"),
        ({"size": 7, "border": "same"}, "border must be 'full' or 'valid', got 'same'"),
        ({"size": 7, "sigma": 0.0}, "sigma must be positive and finite, got 0.0"),
        ({"size": 7, "sigma": float("nan")}, "sigma must be positive and finite, got nan"),
        ({"size": 12, "sigma": 0.01}, "sigma 0.01 is too small for a window of 12 pixels"),
        ({"size": 11, "sigma": 0.2499}, "sigma 0.2499 is too small for a window of 11 pixels"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused_with_its_value(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        Window(**arguments)  # type: ignore[arg-type]


def test_the_corner_of_a_gaussian_window_may_lie_twenty_sigma_from_its_centre() -> None:
    op = build(Window(11, sigma=0.25), shape=(16, 16))  # along each axis; one digit less is refused
    weights = op.vectors(torch.ones(16, 16, dtype=torch.float64)).square().sum(dim=-1)
    assert weights.allclose(torch.ones_like(weights))
