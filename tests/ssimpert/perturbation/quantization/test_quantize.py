"""Perturbed images on the 8-bit grid: judged by Pillow, scikit-image and fresh forward passes."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.perturbation import PerturbResult, QuantizedResult, minimal_budget, perturb, quantize
from ssimpert.perturbation.quantization.pixel_grid import keep_sum
from tests.ssimpert.perturbation.linear_classifier import TwoClasses

SHAPE = (3, 24, 24)
WINDOWS = solvers.WindowSSIM(0.95, solvers.Window.uniform(7))


def grey(count: int = 1, *, on_grid: bool = True, low: float = 0.4, spread: float = 0.2) -> Tensor:
    noise = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pixels = low + spread * noise
    return (pixels * 255).round() / 255 if on_grid else pixels


def barely(image: Tensor, gain: float) -> TwoClasses:
    """A classifier that ``gain`` more of ``w'x`` fools, for every image."""
    model = TwoClasses(0.0, SHAPE)
    model.offset = float(model(image).detach()[:, 1].max()) + gain
    return model


def global_excess(delta: np.ndarray, image: np.ndarray) -> float:
    """Of GlobalSSIM(0.05), in the pixels of [-1, 1]."""
    x = 2 * (image - image.mean())
    d = 2 * (delta - delta.mean())
    distance = np.sqrt((d**2).sum() / ((x**2).sum() + ((x + d) ** 2).sum() + 9e-4))
    return max(abs(delta.mean()), distance - 0.05)


def single(result: PerturbResult, k: int) -> PerturbResult:
    """Image number ``k`` of a batch's result."""
    names = [entry.name for entry in fields(result) if isinstance(getattr(result, entry.name), Tensor)]
    parts = {name: getattr(result, name)[k : k + 1] for name in names}
    return replace(result, **parts, messages=result.messages[k : k + 1])


def reloaded(adversarial: Tensor, path: Path) -> np.ndarray:
    """(H, W, C) float64 pixels of the PNG, through Pillow alone."""
    ssimpert.save_image(adversarial, path)
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.float64) / 255


def window_ssim(image: Tensor, other: np.ndarray) -> np.ndarray:
    """scikit-image's map of whole 7x7 windows, (H - 6, W - 6, C)."""
    clean = image[0].double().permute(1, 2, 0).numpy()
    _, full = structural_similarity(
        clean,
        other,
        win_size=7,
        use_sample_covariance=False,
        gaussian_weights=False,
        data_range=1,
        channel_axis=-1,
        full=True,
    )
    return full[3:-3, 3:-3]


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return ssimpert.load_image("rocket", size=112)  # most of it is a dark sky, where a grid step is much


@pytest.fixture(scope="module")
def perturbed(model: Classifier, photo: Tensor) -> PerturbResult:
    return perturb(model, photo, WINDOWS, steps=1, shrink=False, settings={"eps_rel": 3e-2})


@pytest.fixture(scope="module")
def quantized(model: Classifier, photo: Tensor, perturbed: PerturbResult) -> QuantizedResult:
    return quantize(model, photo, perturbed)


# -- on a photo --------------------------------------------------------------------------------------------


def test_the_file_fools_and_keeps_every_window(
    model: Classifier, photo: Tensor, perturbed: PerturbResult, quantized: QuantizedResult, tmp_path: Path
) -> None:
    assert perturbed.success.all()
    pixels = reloaded(quantized.adversarial, tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        assert model(tensor).argmax(dim=1) != perturbed.label
    assert window_ssim(photo, pixels).min() >= 0.95
    # What plain rounding does, so that the test can fail.
    assert window_ssim(photo, reloaded(perturbed.adversarial, tmp_path / "b.png")).min() < 0.95
    assert quantized.verdict == ("kept",)
    assert quantized.feasible.all()
    assert quantized.windows_outside.tolist() == [0]
    assert quantized.notes == ("",)


def test_the_tensor_is_the_file_to_the_last_bit(quantized: QuantizedResult, tmp_path: Path) -> None:
    levels = np.rint(reloaded(quantized.adversarial, tmp_path / "a.png") * 255).transpose(2, 0, 1)
    exact = torch.from_numpy(levels.astype(np.float32)) / 255
    assert torch.equal(quantized.adversarial[0], exact)
    assert torch.equal(ssimpert.load_image(tmp_path / "a.png"), quantized.adversarial)


def test_the_numbers_are_of_the_quantized_image(
    model: Classifier, photo: Tensor, perturbed: PerturbResult, quantized: QuantizedResult, tmp_path: Path
) -> None:
    with torch.no_grad():
        logits = model(quantized.adversarial)[0]
    own = int(perturbed.label)
    others = torch.cat([logits[:own], logits[own + 1 :]])
    assert float(quantized.margin_after) == pytest.approx(float(others.max() - logits[own]), abs=1e-5)
    # It costs little: here moving along the gradient even gains.
    assert float(quantized.margin_after) > float(perturbed.margin_after) - 0.3
    least = window_ssim(photo, reloaded(quantized.adversarial, tmp_path / "a.png")).min()
    assert float(quantized.min_window_ssim) == pytest.approx(least, abs=1e-6)
    assert torch.equal(quantized.delta, quantized.adversarial - photo)
    (row,) = quantized.rows()
    assert row["verdict"] == "kept"
    assert row["float_margin"] == float(perturbed.margin_after)
    assert quantized.settings["quantized"] is True


def test_same_call_same_result_bit_for_bit(
    model: Classifier, photo: Tensor, perturbed: PerturbResult, quantized: QuantizedResult
) -> None:
    assert torch.equal(quantize(model, photo, perturbed).adversarial, quantized.adversarial)


# -- against a linear classifier ------------------------------------------------------------------------------


def test_a_batch_equals_its_images_alone() -> None:
    image = grey(3)
    model = barely(image, 0.2)
    together = perturb(model, image, WINDOWS, steps=1)
    joint = quantize(model, image, together)
    for k in range(3):
        alone = quantize(model, image[k : k + 1], single(together, k))
        assert torch.equal(joint.adversarial[k], alone.adversarial[0])
        assert joint.verdict[k] == alone.verdict[0] == "kept"
    assert joint.success.all()


@pytest.mark.parametrize(
    "window",
    [solvers.Window.gaussian(1.5, 11), solvers.Window.uniform(8, stride=8), solvers.Window.uniform(7, border="valid")],
    ids=["gaussian", "tiles", "valid"],
)
def test_every_kind_of_window_is_kept(window: solvers.Window) -> None:
    image = grey()
    limit = solvers.WindowSSIM(0.98, window)
    model = barely(image, 0.1)
    result = quantize(model, image, perturb(model, image, limit, steps=1))
    assert result.success.all()
    assert result.verdict == ("kept",)
    # By vectors of every window, not by the sums that quantisation keeps.
    delta, bound = result.adversarial - image, limit.bind(image)
    vectors, reference = bound.operator.vectors(delta), bound.operator.vectors(image)
    root = bound.operator.root_weights

    def centred(values: Tensor) -> Tensor:
        return values - (values * root).sum(dim=-1, keepdim=True) * root

    ball = (centred(vectors) - bound.ball_center * centred(reference)).norm(dim=-1)
    assert (ball <= bound.radius).all()
    mean = (vectors * root).sum(dim=-1)
    assert ((mean >= bound.mean_lower - 1e-12) & (mean <= bound.mean_upper + 1e-12)).all()


def test_a_lost_margin_is_regained_where_there_is_room() -> None:
    image = grey()
    model = barely(image, 0.02)
    result = perturb(model, image, WINDOWS, steps=1, shrink=False)
    # A perturbation that fools by a hair, all of it lost in rounding: no pixel moves by half a grid step.
    small = 0.02 * model.weight.detach() + 1e-4 * model.weight.detach()
    assert small.abs().max() < 0.5 / 255
    faint = replace(result, adversarial=image + small, delta=small[None], margin_after=torch.tensor([1e-4]))
    assert model(image + small).argmax() == 1
    assert model(((image + small) * 255).round() / 255).argmax() == 0
    regained = quantize(model, image, faint)
    assert regained.success.all()
    assert regained.verdict == ("kept",)
    given_up = quantize(model, image, faint, rounds=0)
    assert not given_up.success.any()
    assert "the margin fell" in given_up.notes[0]
    assert given_up.verdict == ("kept",)


@pytest.mark.parametrize(
    ("limit", "distance"),
    [
        (solvers.LpBall(2, 0.4), lambda d, x: np.linalg.norm(d) - 0.4),
        (solvers.LpBall(math.inf, 3.4 / 255), lambda d, x: np.abs(d).max() - 3.4 / 255),
        (solvers.LpBall(1, 12.0), lambda d, x: np.abs(d).sum() - 12.0),
        (solvers.GlobalSSIM(0.05), global_excess),
        (lambda reference: solvers.LpBall(2, 0.4), lambda d, x: np.linalg.norm(d) - 0.4),
    ],
    ids=["l2", "linf", "l1", "global", "rule"],
)
@pytest.mark.parametrize("on_grid", [True, False])
def test_any_other_set_is_kept_by_its_excess(limit, distance, on_grid: bool) -> None:  # type: ignore[no-untyped-def]
    image = grey(on_grid=on_grid)
    model = barely(image, 0.08)
    result = quantize(model, image, perturb(model, image, limit, steps=1, stop_at_success=False))
    levels = result.adversarial * 255
    assert (levels - levels.round()).abs().max() < 1e-9
    assert distance((result.adversarial - image).numpy(), image.numpy()) <= 1e-6
    assert result.verdict == ("kept",)
    assert result.success.all()
    assert result.windows_outside.tolist() == [0]


def test_without_a_set_around_the_original_only_the_goal_counts() -> None:
    image = grey()
    model = barely(image, 0.2)
    moved = perturb(model, image, solvers.LpBall(2, 0.05), recentred=True, steps=20)
    result = quantize(model, image, moved)
    assert moved.success.all()
    assert result.success.all()
    assert result.verdict == ("no constraint",)
    assert not result.feasible.any()
    assert result.excess.isnan().all()
    assert result.violation.isnan().all()


def test_rounding_keeps_the_sum_of_the_pixels() -> None:
    pixels = grey(on_grid=False)
    levels = keep_sum(pixels)
    assert (levels - pixels * 255).abs().max() < 1
    assert float(levels.sum() - (pixels * 255).sum()) == pytest.approx(0, abs=0.5)


# -- what can't be kept is reported ---------------------------------------------------------------------------


def test_a_set_smaller_than_a_grid_step_loses_the_margin_and_says_so() -> None:
    image = grey()
    limit = solvers.WindowSSIM(0.99999, solvers.Window.uniform(7), luminance=1e-6)
    model = barely(image, 0.001)
    fooling = perturb(model, image, limit, steps=1)
    assert fooling.success.all()
    result = quantize(model, image, fooling)
    assert not result.success.any()
    assert result.verdict == ("kept",)
    assert "the margin fell from" in result.notes[0]
    assert window_ssim(image, result.adversarial[0].permute(1, 2, 0).numpy()).min() >= 0.99999


def test_a_reference_off_the_grid_may_leave_windows_outside() -> None:
    # Flat, dark and halfway between two levels: a mean is kept by as many ups as downs only, and then not the ball.
    image = torch.full((1, *SHAPE), 0.5 / 255, dtype=torch.float64)
    limit = solvers.WindowSSIM(0.9999, solvers.Window.uniform(7), luminance=1e-6)
    model = barely(image, 0.001)
    result = quantize(model, image, perturb(model, image, limit, steps=1))
    assert result.verdict == ("outside",)
    assert not result.feasible.any()
    assert result.excess > 1e-6
    assert int(result.windows_outside) > 0
    assert "outside: the excess over the constraint set is" in result.notes[0]
    assert window_ssim(image, result.adversarial[0].permute(1, 2, 0).numpy()).min() < 0.9999 - 1 / 255


def test_an_image_that_did_not_fool_before_is_only_rounded() -> None:
    image = grey()
    model = barely(image, 50.0)
    failed = perturb(model, image, WINDOWS, steps=1)
    result = quantize(model, image, failed)
    assert not result.success.any()
    assert result.notes == ("the goal was not reached before quantisation either",)
    assert result.verdict == ("kept",)


def test_the_allowance_is_a_verdict_of_its_own() -> None:
    from ssimpert.perturbation.quantization.quantize import _verdict

    bound = WINDOWS.bind(grey())
    assert _verdict(bound, 0.0, 0.95) == "kept"
    assert _verdict(bound, 1e-3, 0.95 - 0.99 / 255) == "within allowance"
    assert _verdict(bound, 1e-3, 0.95 - 1.01 / 255) == "outside"
    assert _verdict(solvers.LpBall(2, 1.0).bind(grey()), 1e-3, 0.99) == "outside"


# -- errors ---------------------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit_the_result_are_refused() -> None:
    image = grey(2)
    model = barely(image, 0.2)
    result = perturb(model, image, solvers.LpBall(2, 0.4), steps=1)
    with pytest.raises(InputError, match=r"rounds must be an integer of at least 0, got -1"):
        quantize(model, image, result, rounds=-1)
    with pytest.raises(InputError, match=r"got True"):
        quantize(model, image, result, rounds=True)
    with pytest.raises(InputError, match=r"result has images of shape \(2, 3, 24, 24\), image has \(1, 3, 24, 24\)"):
        quantize(model, image[:1], result)
    with pytest.raises(InputError, match=r"torch.float32.*torch.float64"):
        quantize(model, image.float(), result)
    with pytest.raises(InputError, match="must be a PerturbResult, got Tensor"):
        quantize(model, image, image)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="result was made from other images: image 0 differs"):
        quantize(model, image.flip(0), result)
    with pytest.raises(InputError, match="must lie in"):
        quantize(model, image + 1, result)


def test_pixels_that_no_file_holds_come_to_its_ends() -> None:
    image = grey(low=0.0, spread=0.3)
    model = barely(image, 0.2)
    result = perturb(model, image, solvers.LpBall(2, 0.4), steps=1)
    beyond = result.adversarial - 0.02
    assert float(beyond.min()) < 0
    found = quantize(model, image, replace(result, adversarial=beyond, delta=beyond - image, constraint=None))
    assert float(found.adversarial.min()) == 0
    assert found.verdict == ("no constraint",)


def test_a_ball_of_features_keeps_its_radius(model: Classifier) -> None:
    image = 0.99 * ssimpert.load_image("chelsea", size=64)  # off the grid
    result = ssimpert.perceptual_ball_constrained(
        model, image, 0.3, layers=["blocks.0"], steps=1, stop_at_success=False
    )
    distance = ssimpert.metrics.feature_distance
    for radius, verdict in ((0.3, "kept"), (0.05, "kept"), (1e-7, "outside")):
        tighter = replace(result, settings={**result.settings, "radius": [radius]})
        found = quantize(model, image, tighter, rounds=0)
        features = ssimpert.deep_features(model, result.layers, result.settings["normalization"])
        reached = float(distance(features, image.double(), found.adversarial.double()))
        assert found.verdict == (verdict,)
        assert float(found.excess) == pytest.approx(reached - radius, abs=1e-9)
        assert float(found.violation) == pytest.approx(max(reached - radius, 0), abs=1e-6)


def test_perturb_quantizes_on_request() -> None:
    image = grey(2)
    model = barely(image, 0.05)
    asked = perturb(model, image, WINDOWS, quantize=True)
    assert isinstance(asked, QuantizedResult)
    after = quantize(model, image, perturb(model, image, WINDOWS))
    assert torch.equal(asked.adversarial, after.adversarial)
    assert asked.verdict == after.verdict == ("kept", "kept")
    levels = asked.adversarial * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-10)


def test_a_minimal_budget_is_refused_as_its_level_leaves_no_room() -> None:
    image = grey()
    model = barely(image, 0.05)
    result = minimal_budget(model, image, solvers.LpBall(2, 0.1), tolerance=0.1)
    with pytest.raises(InputError, match=r"no room for rounding.*above result.level"):
        quantize(model, image, result)
