"""The SSIM index against scikit-image, and the contrast distance against its textbook form in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data, img_as_float64
from skimage.metrics import structural_similarity
from torch import Tensor

from solvers import Window
from solvers.errors import ProblemError
from ssimpert.errors import InputError
from ssimpert.metrics import (
    contrast_distance,
    dissimilarity_map,
    min_window_ssim,
    ssim,
    ssim_map,
)

UNIFORM = {"win_size": 7}
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5}
VARIANTS = [
    pytest.param(Window.uniform(7), False, UNIFORM, id="uniform"),
    pytest.param(Window.uniform(7), True, UNIFORM, id="uniform-sample"),
    pytest.param(Window.gaussian(1.5, 11), False, GAUSSIAN, id="gaussian"),
    pytest.param(Window.gaussian(1.5, 11), True, GAUSSIAN, id="gaussian-sample"),
]


def photo_pair(channels: int, *, height: int = 61, width: int = 48, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """A crop of a real photo and a noisy copy in [0, 1], (1, C, H, W) float64."""
    crop = img_as_float64(data.astronaut())[100 : 100 + height, 150 : 150 + width, :channels]
    noisy = np.clip(crop + noise * np.random.default_rng(0).standard_normal(crop.shape), 0, 1)
    first, second = (torch.from_numpy(v).permute(2, 0, 1)[None].contiguous() for v in (crop, noisy))
    return first, second


def random_pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return (
        torch.rand(*shape, generator=generator, dtype=dtype),
        torch.rand(*shape, generator=generator, dtype=dtype),
    )


def skimage_ssim(x: Tensor, y: Tensor, sample: bool, data_range: float, options: dict) -> tuple[float, np.ndarray]:
    """scikit-image's value and its map cut to the valid region, channels first."""
    value, full = structural_similarity(
        x[0].permute(1, 2, 0).numpy(),
        y[0].permute(1, 2, 0).numpy(),
        data_range=data_range,
        use_sample_covariance=sample,
        channel_axis=-1,
        full=True,
        **options,
    )
    cut = 3 if options is UNIFORM else 5
    return value, full[cut:-cut, cut:-cut].transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("data_range", [1.0, 255])
@pytest.mark.parametrize(("window", "sample", "options"), VARIANTS)
def test_value_and_map_equal_scikit_image(
    window: Window, sample: bool, options: dict, data_range: float, channels: int
) -> None:
    x, y = (data_range * v for v in photo_pair(channels))
    value, full_map = skimage_ssim(x, y, sample, data_range, options)
    settings = {"data_range": data_range, "window": window, "sample_covariance": sample}
    ours = ssim_map(x, y, **settings)[0].numpy()
    assert ours.shape == full_map.shape
    assert np.abs(ours - full_map).max() < 1e-10
    assert abs(ssim(x, y, **settings).item() - value) < 1e-10
    assert abs(min_window_ssim(x, y, **settings).item() - full_map.min()) < 1e-10
    assert value < 0.95  # the pair differs enough for the comparison to mean something


def test_default_is_the_published_index() -> None:
    x, y = photo_pair(3)
    value, _ = skimage_ssim(x, y, False, 1.0, GAUSSIAN)
    assert ssim(x, y, data_range=1.0).item() == pytest.approx(value, abs=1e-10)


def test_negative_structure_agrees_with_scikit_image() -> None:
    x, _ = photo_pair(1)
    value, full_map = skimage_ssim(x, 1 - x, False, 1.0, GAUSSIAN)
    assert value < 0
    assert np.abs(ssim_map(x, 1 - x, data_range=1.0)[0].numpy() - full_map).max() < 1e-10


def test_border_and_stride_of_the_window_are_ignored() -> None:
    x, y = photo_pair(3)
    expected = ssim_map(x, y, data_range=1.0, window=Window.uniform(7, border="valid"))
    tiled = ssim_map(x, y, data_range=1.0, window=Window.uniform(7, stride=7, border="full"))
    assert expected.shape == (1, 3, 55, 42)
    assert torch.equal(tiled, expected)


def test_full_border_dissimilarity_covers_every_pixel_and_contains_the_valid_map() -> None:
    x, y = photo_pair(3)
    window = Window.uniform(7, border="full")
    full = dissimilarity_map(x, y, data_range=1.0, window=window)
    assert full.shape == x.shape
    valid = ssim_map(x, y, data_range=1.0, window=window)
    torch.testing.assert_close(1 - full[..., 3:-3, 3:-3], valid, rtol=0, atol=1e-13)
    # the top left window is cut to 4 x 4 pixels: the formula by hand, with plain numpy statistics
    a, b = x[0, 0, :4, :4].numpy(), y[0, 0, :4, :4].numpy()
    c1, c2 = 1e-4, 9e-4
    luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
    for sample in (False, True):
        covariance = np.cov(a.ravel(), b.ravel(), ddof=int(sample))
        structure = (2 * covariance[0, 1] + c2) / (covariance[0, 0] + covariance[1, 1] + c2)
        corner = dissimilarity_map(x, y, data_range=1.0, window=window, sample_covariance=sample)[0, 0, 0, 0]
        assert corner.item() == pytest.approx(1 - luminance * structure, abs=1e-12)


def test_window_cut_to_one_pixel_keeps_the_sample_index_finite() -> None:
    x, y = random_pair(1, 1, 6, 6)
    values = dissimilarity_map(x, y, data_range=1.0, window=Window.uniform(2, border="full"), sample_covariance=True)
    a, b = x[0, 0, -1, -1].item(), y[0, 0, -1, -1].item()
    assert values[0, 0, -1, -1].item() == pytest.approx((a - b) ** 2 / (a * a + b * b + 1e-4), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sample", [False, True])
def test_identical_images_give_exactly_one(dtype: torch.dtype, sample: bool) -> None:
    x = 1e3 * random_pair(2, 3, 20, 24, dtype=dtype)[0]
    for window in (Window.uniform(7), Window.gaussian()):
        settings = {"data_range": 1e3, "window": window, "sample_covariance": sample}
        assert (ssim_map(x, x.clone(), **settings) == 1).all()
        assert ssim(x, x.clone(), **settings).tolist() == [1.0, 1.0]
        assert min_window_ssim(x, x.clone(), **settings).tolist() == [1.0, 1.0]
    assert contrast_distance(x, x.clone(), pixel_scale=2e-3).tolist() == [0.0, 0.0]


def test_images_of_a_batch_do_not_mix() -> None:
    pairs = [photo_pair(3, noise=noise) for noise in (0.01, 0.1)]
    x, y = (torch.cat(v) for v in zip(*pairs, strict=True))
    for function in (ssim, min_window_ssim):
        together = function(x, y, data_range=1.0)
        assert together.tolist() == pytest.approx([function(*pair, data_range=1.0).item() for pair in pairs])
        assert together[0] > together[1]


@pytest.mark.parametrize("window", [Window.uniform(3), Window.gaussian(1.0, 5)])
@pytest.mark.parametrize("sample", [False, True])
def test_gradients_pass_gradcheck(window: Window, sample: bool) -> None:
    x, y = (v.requires_grad_() for v in random_pair(2, 2, 6, 5))
    settings = {"data_range": 1.0, "window": window, "sample_covariance": sample}
    assert torch.autograd.gradcheck(lambda a, b: ssim_map(a, b, **settings), (x, y))
    assert torch.autograd.gradcheck(lambda a, b: ssim(a, b, **settings), (x, y))
    assert torch.autograd.gradcheck(lambda a, b: min_window_ssim(a, b, **settings), (x, y))
    assert torch.autograd.gradcheck(contrast_distance, (x, y))


def test_gradient_at_identical_images_is_zero() -> None:
    x = random_pair(1, 3, 12, 12)[0]
    for function in (lambda a: ssim(a, x, data_range=1.0), lambda a: contrast_distance(a, x)):
        y = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(y).sum(), y)
        assert gradient.abs().max() == 0


def test_float32_is_evaluated_in_float64() -> None:
    x, y = (v.float() for v in photo_pair(3, noise=1e-4))
    value = ssim(x, y, data_range=1.0)
    assert value.dtype == torch.float32
    assert value == ssim(x.double(), y.double(), data_range=1.0).float()
    # 1 - SSIM keeps its digits: in float32 arithmetic the variances' rounding alone is as large as this
    small = dissimilarity_map(x, y, data_range=1.0)
    exact = dissimilarity_map(x.double(), y.double(), data_range=1.0)
    assert exact.max() < 1e-3
    torch.testing.assert_close(small.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_pixel_that_is_not_finite_gives_nan_for_its_image_alone(bad: float) -> None:
    x, y = random_pair(2, 3, 16, 16)
    clean = ssim(x, y, data_range=1.0)
    y[1, 2, 8, 8] = bad
    for function in (ssim, min_window_ssim):
        values = function(x, y, data_range=1.0)
        assert torch.isfinite(values).tolist() == [True, False]
        assert values[1].isnan()
    assert ssim(x, y, data_range=1.0)[0] == clean[0]
    assert contrast_distance(x, y).isnan().tolist() == [False, True]


def numpy_d2(x: np.ndarray, y: np.ndarray, constant: float = 9e-4) -> float:
    """sqrt(1 - S2) from S2 itself, for pixels in [-1, 1]."""
    a, b = x - x.mean(), y - y.mean()
    s2 = (2 * (a * b).sum() + constant) / ((a * a).sum() + (b * b).sum() + constant)
    return float(np.sqrt(1 - s2))


def test_contrast_distance_equals_the_textbook_form() -> None:
    x, y = photo_pair(3)
    first, second = 2 * x.numpy() - 1, 2 * y.numpy() - 1
    expected = numpy_d2(first, second)
    assert 0.05 < expected < 1
    assert contrast_distance(x, y).item() == pytest.approx(expected, rel=1e-9)
    signed = contrast_distance(2 * x - 1, 2 * y - 1, pixel_scale=1.0)
    assert signed.item() == pytest.approx(expected, rel=1e-9)
    heavy = contrast_distance(x, y, constant=100.0)
    assert heavy.item() == pytest.approx(numpy_d2(first, second, 100.0), rel=1e-9)
    assert abs(heavy.item() - expected) > 1e-3


def test_contrast_distance_keeps_its_digits_for_tiny_differences() -> None:
    """d2 is linear in a small difference; 1 - S2 formed by subtraction loses all digits below 1e-8."""
    x, _ = photo_pair(3)
    step = random_pair(1, 3, 61, 48)[1]
    near = contrast_distance(x, x + 1e-10 * step).item()
    assert near == pytest.approx(1e-5 * contrast_distance(x, x + 1e-5 * step).item(), rel=1e-4)


def test_contrast_distance_is_blind_to_the_mean_and_bounded() -> None:
    x, y = photo_pair(3)
    assert contrast_distance(x, x + 0.25).item() < 1e-12
    assert contrast_distance(x, y).item() == pytest.approx(contrast_distance(x, y - 0.3).item(), rel=1e-9)
    assert 1.4 < contrast_distance(x, 1 - x).item() <= 2**0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int64])
@pytest.mark.parametrize("function", [ssim, ssim_map, min_window_ssim, contrast_distance])
def test_half_precision_and_integers_are_refused(function: object, dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 16, 16, dtype=dtype)
    settings = {} if function is contrast_distance else {"data_range": 1.0}
    with pytest.raises(InputError, match=f"float32 or float64, got {dtype}"):
        function(x, x, **settings)  # type: ignore[operator]


@pytest.mark.parametrize("data_range", [0, -1.0, float("nan"), float("inf"), "1", True, None])
def test_data_range_must_be_a_positive_number(data_range: object) -> None:
    x, y = random_pair(1, 1, 16, 16)
    with pytest.raises(InputError, match=r"data_range must be .*positive.*got"):
        ssim(x, y, data_range=data_range)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [ssim, ssim_map, min_window_ssim, dissimilarity_map])
@pytest.mark.parametrize(("top", "data_range"), [(255, 1.0), (4095, 1.0), (65535, 1.0), (65535, 255)])
def test_a_data_range_that_can_not_be_right_is_refused(function: object, top: float, data_range: float) -> None:
    x, y = (top * v - 1000 for v in random_pair(2, 1, 16, 16))
    x[0] /= top  # of pair 0 one image alone is wide: nothing has clipped a perturbed image, say
    with pytest.raises(InputError, match=f"of pair 1 lie .* apart, too far for data_range={data_range:g}; give 1 for"):
        function(x, y, data_range=data_range)  # type: ignore[operator]
    assert torch.isfinite(function(x[:1], y[:1], data_range=data_range)).all()  # type: ignore[operator]
    assert torch.isfinite(function(x, y, data_range=top)).all()  # type: ignore[operator]


def test_a_pixel_scale_that_can_not_be_right_is_refused() -> None:
    x, y = (255 * v for v in random_pair(1, 3, 16, 16))
    with pytest.raises(InputError, match=r"apart, too far for pixel_scale=2; give 2/255 for 8 bits"):
        contrast_distance(x, y)
    scaled = contrast_distance(x, y, pixel_scale=2 / 255)
    assert scaled.item() == pytest.approx(contrast_distance(x / 255, y / 255).item(), rel=1e-12)
    assert contrast_distance(x, y, constant=9e-4 * 127.5**2, pixel_scale=1).item() == pytest.approx(scaled.item())


def test_data_range_is_never_guessed() -> None:
    x, y = random_pair(1, 1, 16, 16)
    with pytest.raises(TypeError, match="data_range"):
        ssim(x, y)  # type: ignore[call-arg]


def test_wrong_inputs_are_named_in_one_line() -> None:
    x, y = random_pair(1, 3, 16, 16)
    cases = {
        r"y must have shape \(B, C, H, W\), got \(3, 16, 16\)": (x, y[0]),
        r"same shape, got \(1, 3, 16, 16\) and \(1, 1, 16, 16\)": (x, y[:, :1]),
        r"same dtype, got torch.float64 and torch.float32": (x, y.float()),
        r"x must have shape \(B, C, H, W\), got \(0, 3, 16, 16\)": (x[:0], y[:0]),
        r"torch tensor \(B, C, H, W\), got ndarray": (x.numpy(), y),
    }
    for message, (first, second) in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            ssim(first, second, data_range=1.0)
        assert "\n" not in str(caught.value)
    with pytest.raises(ProblemError, match=r"11x11 pixels is larger than the image of 10x16"):
        ssim(x[..., :10, :], y[..., :10, :], data_range=1.0)
    for option in ("constant", "pixel_scale"):
        with pytest.raises(InputError, match=f"{option} must be positive and finite, got -1.0"):
            contrast_distance(x, y, **{option: -1.0})
