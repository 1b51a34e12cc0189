"""Insertion and deletion against a naive loop in normalised space, the blur against scipy, the area by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from ssimpert.analysis.faithfulness.blurred_image import blur_kernel, blurred
from ssimpert.analysis.faithfulness.insertion_deletion import (
    MODEL_NOT_FINITE,
    deletion,
    insertion,
    insertion_deletion,
)
from ssimpert.analysis.faithfulness.pixel_replacement import pixel_ranks
from ssimpert.data import composites
from ssimpert.errors import InputError
from ssimpert.models import Classifier
from tests.ssimpert.analysis.example import SmallClassifier, example_images

CURVES = {"insertion": insertion, "deletion": deletion}
MEAN, STD = (0.48, 0.45, 0.4), (0.23, 0.22, 0.25)


class Normalised(nn.Module):
    """The small classifier behind a normalisation, as the package's models are; remembers its batches' sizes."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallClassifier()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.seen: list[int] = []
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return self.network((images - self.mean.to(images)) / self.std.to(images))


class Brightness(nn.Module):
    """Two classes on one channel; the logit of class 0 is the sum of the pixels, of class 1 it is 0."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.flatten(1).sum(dim=1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def naive(kind: str, network: nn.Module, image: Tensor, saliency: Tensor, step: int) -> NDArray[np.float64]:
    """RISE's procedure for one image, pixel by pixel, in normalised space, without the code under test."""
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    normalised = (image.double().numpy() - mean) / std
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = ndimage.gaussian_filter(delta, 5)
    blur = np.stack([ndimage.convolve(plane, kernel, mode="constant", cval=0.0) for plane in normalised])
    current, goal = (normalised, np.zeros_like(normalised)) if kind == "deletion" else (blur, normalised)
    current = current.copy()

    def probability(pixels: NDArray[np.float64], label: int | None = None) -> tuple[int, float]:
        logits = network(torch.from_numpy(pixels)[None].float())[0].double().numpy()
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        chosen = int(logits.argmax()) if label is None else label
        return chosen, float(shares[chosen])

    label, _ = probability(normalised)
    values = saliency.flatten().tolist()
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    scores = [probability(current, label)[1]]
    while order:
        for place in order[:step]:
            row, column = divmod(place, saliency.shape[1])
            current[:, row, column] = goal[:, row, column]
        order = order[step:]
        scores.append(probability(current, label)[1])
    return np.array(scores)


@pytest.mark.parametrize("kind", CURVES)
def test_equals_the_naive_loop_on_50_maps(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(50, 3, 12, 15, generator=generator)
    maps = torch.randint(0, 40, (50, 12, 15), generator=generator).float()  # with ties
    model = Normalised()
    curve = CURVES[kind](model, images, maps, step=32)
    assert curve.scores.shape == (50, 7)  # ceil(180/32) = 6 steps
    for index in range(50):
        expected = naive(kind, model.network, images[index], maps[index], 32)
        torch.testing.assert_close(curve.scores[index], torch.from_numpy(expected), atol=2e-6, rtol=0)
        area = (expected.sum() - expected[0] / 2 - expected[-1] / 2) / 6
        assert float(curve.auc[index]) == pytest.approx(area, abs=2e-6)
    assert torch.equal(curve.target, model(images).argmax(dim=1))
    assert curve.reasons == (None,) * 50


def test_scores_and_area_are_those_computed_by_hand() -> None:
    image = torch.tensor([[[[1.0, -2.0, 0.5], [0.25, 3.0, -1.0], [0.0, 2.0, -0.5]]]])
    order = torch.tensor([[[9.0, 8.0, 7.0], [6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]])
    curve = deletion(Brightness().eval(), image, order, step=4, baseline=0.0)
    expected = [sigmoid(3.25), sigmoid(3.25 - (1 - 2 + 0.5 + 0.25)), sigmoid(-0.5), 0.5]
    assert curve.scores[0].tolist() == pytest.approx(expected, abs=1e-7)
    assert curve.fractions.tolist() == pytest.approx([0, 4 / 9, 8 / 9, 1])
    assert float(curve.auc) == pytest.approx((sum(expected) - expected[0] / 2 - expected[3] / 2) / 3, abs=1e-7)
    true_area = (
        (expected[0] + expected[1]) / 2 * 4 / 9
        + (expected[1] + expected[2]) / 2 * 4 / 9
        + (expected[2] + expected[3]) / 2 / 9
    )
    assert float(curve.auc_over_fractions) == pytest.approx(true_area, abs=1e-7)
    assert float(curve.start) == pytest.approx(expected[0])
    assert float(curve.end) == pytest.approx(0.5)


def test_both_areas_agree_where_the_step_divides_the_pixels() -> None:
    curve = insertion(Normalised(), example_images(), torch.rand(2, 32, 32), step=128)
    torch.testing.assert_close(curve.auc, curve.auc_over_fractions)


def test_the_kernel_is_scipys_over_a_delta() -> None:
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    expected = torch.from_numpy(ndimage.gaussian_filter(delta, 5))
    torch.testing.assert_close(blur_kernel(), expected, atol=1e-15, rtol=1e-12)
    assert float(blur_kernel().sum()) == pytest.approx(1, abs=1e-12)
    # Not a Gaussian cut at 11 pixels: that one's centre stands much higher over its corner.
    assert float(blur_kernel()[5, 5] / blur_kernel()[0, 0]) < math.exp(1) / 1.5


def test_the_blur_is_around_the_mean_colour_with_zeros_beyond_the_edge() -> None:
    mean = torch.tensor(MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float64).view(1, 3, 1, 1)
    image = example_images(1).double()
    normalised = ((image - mean) / std)[0].numpy()
    kernel = blur_kernel().numpy()
    expected = np.stack([ndimage.convolve(plane, kernel, mode="constant", cval=0.0) for plane in normalised])
    found = (blurred(image, mean) - mean) / std
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-12)
    flat = mean.expand(1, 3, 20, 20).contiguous()
    torch.testing.assert_close(blurred(flat, mean), flat)


def test_equal_values_rank_in_row_major_order() -> None:
    maps = torch.tensor([[[1.0, 2.0, 1.0], [2.0, 0.0, 2.0]]])
    assert pixel_ranks(maps).tolist() == [[[3, 0, 4], [1, 5, 2]]]


@pytest.mark.parametrize("kind", CURVES)
def test_ends_are_the_clean_the_blurred_and_the_mean_image(kind: str) -> None:
    model, images = Normalised(), example_images()
    curve = CURVES[kind](model, images, torch.rand(2, 32, 32), step=500)
    clean = model(images).double().softmax(dim=1).gather(1, curve.target[:, None])[:, 0]
    other = model.mean.expand_as(images) if kind == "deletion" else blurred(images, model.mean)
    changed = model(other).double().softmax(dim=1).gather(1, curve.target[:, None])[:, 0]
    first, last = (clean, changed) if kind == "deletion" else (changed, clean)
    torch.testing.assert_close(curve.start, first, atol=1e-6, rtol=0)
    torch.testing.assert_close(curve.end, last, atol=1e-6, rtol=0)


class WithNorms(Normalised):
    """Its batch norms are folded for the passes, if nothing forbids it."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(6).eval().requires_grad_(False)
        norm.weight.data, norm.bias.data = torch.linspace(0.5, 2, 6), torch.linspace(-1, 1, 6)
        self.network.features.insert(1, norm)
        self.network.head.weight.mul_(0.02)  # probabilities neither 0 nor 1
        self.eval()


@pytest.mark.parametrize("kind", CURVES)
def test_passes_through_a_copy_change_the_curve_by_rounding_alone(kind: str) -> None:
    model, images, maps = WithNorms(), example_images(3), torch.rand(3, 32, 32)
    found = CURVES[kind](model, images, maps, step=32)
    assert not model.network.features[1]._forward_hooks
    with_hook = model.network.features[1].register_forward_hook(lambda *_: None)  # then the model itself does them
    expected = CURVES[kind](model, images, maps, step=32)
    torch.testing.assert_close(found.scores, expected.scores, atol=2e-6, rtol=0)
    assert expected.scores.std() > 1e-3
    assert not torch.equal(found.scores, expected.scores)  # or there was no copy
    with_hook.remove()
    model.network.features[1].register_forward_hook(lambda _module, _inputs, output: 0 * output)
    assert float(CURVES[kind](model, images, maps, step=32).scores.std(dim=1).max()) < 1e-6


@pytest.mark.parametrize("steps", [4, 9, 31])
def test_a_batch_equals_its_images_to_the_bit_through_copies(steps: int) -> None:
    model, images, maps = WithNorms(), example_images(5), torch.rand(5, 32, 32)
    together = insertion(model, images, maps, step=32 * 32 // steps)
    for index in range(5):
        alone = insertion(model, images[index : index + 1], maps[index : index + 1], step=32 * 32 // steps)
        assert torch.equal(together.scores[index], alone.scores[0])


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_equals_its_images_to_the_bit(kind: str, dtype: torch.dtype) -> None:
    model, images, maps = Normalised().to(dtype), example_images(8).to(dtype), torch.rand(8, 32, 32).to(dtype)
    together = CURVES[kind](model, images, maps, step=300)
    for index in range(8):
        alone = CURVES[kind](model, images[index : index + 1], maps[index : index + 1], step=300)
        assert torch.equal(together.scores[index], alone.scores[0])
        assert torch.equal(together.auc[index], alone.auc[0])


def test_the_batch_size_bounds_the_batches_and_changes_nothing_else() -> None:
    model, images, maps = Normalised(), example_images(3), torch.rand(3, 32, 32)
    expected = insertion(model, images, maps, step=100)
    for batch_size in (1, 4, 7, 1000):
        model.seen.clear()
        curve = insertion(model, images, maps, step=100, batch_size=batch_size)
        assert max(model.seen) == min(batch_size, 3 * 11)
        assert sum(model.seen) == 3 + 3 * 11  # the clean image's probability is not computed twice
        torch.testing.assert_close(curve.scores, expected.scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [Normalised, WithNorms])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_both_together_are_each_by_itself(make: type[Normalised], batch_size: int | None) -> None:
    model, images, maps = make(), example_images(3), torch.rand(3, 32, 32)
    maps[1] = 0.5  # without a ranking
    both = insertion_deletion(model, images, maps, step=60, batch_size=batch_size)
    assert list(both) == list(CURVES)
    for kind, curve in both.items():
        alone = CURVES[kind](model, images, maps, step=60, batch_size=batch_size)
        assert curve.kind == kind
        assert torch.equal(curve.scores.nan_to_num(-1), alone.scores.nan_to_num(-1))
        assert torch.equal(curve.target, alone.target)
        assert curve.reasons == alone.reasons
    model.seen.clear()
    insertion_deletion(model, images, maps, step=1024)
    assert model.seen == [1, 1, 1, *[1] * 4]  # one clean pass an image; one step each of two images and two curves


def test_on_the_cpu_no_pass_holds_two_images_unless_told() -> None:
    model, images, maps = Normalised(), example_images(3), torch.rand(3, 32, 32)
    insertion(model, images, maps, step=16)
    assert model.seen == [1, 1, 1, *[64] * 3]  # the clean images, then each image's steps, at most 98 at this size
    model.seen.clear()
    insertion(model, images, maps, step=8)
    assert model.seen == [1, 1, 1, *[98, 30] * 3]


def test_given_classes_are_followed() -> None:
    model, images, maps = Normalised(), example_images(2), torch.rand(2, 32, 32)
    curve = deletion(model, images, maps, target=torch.tensor([3, 1]), step=1024)
    expected = model(images).double().softmax(dim=1)[[0, 1], [3, 1]]
    torch.testing.assert_close(curve.start, expected, atol=1e-6, rtol=0)
    assert torch.equal(deletion(model, images, maps, target=2, step=1024).target, torch.tensor([2, 2]))


def test_default_step_is_eight_rows_and_a_given_baseline_overrules_the_models() -> None:
    model, images, maps = Normalised(), example_images(1), torch.rand(1, 32, 32)
    assert insertion(model, images, maps).scores.shape == (1, 1 + 4)
    white = deletion(model, images, maps, baseline=1.0)
    expected = model(torch.ones_like(images)).double().softmax(dim=1)[0, white.target]
    torch.testing.assert_close(white.end, expected, atol=1e-6, rtol=0)
    same = deletion(model, images, maps, baseline=torch.tensor(MEAN))
    assert torch.equal(same.scores, deletion(model, images, maps).scores)


def test_a_map_without_a_ranking_has_a_reason_and_no_area() -> None:
    model, images = Normalised(), example_images(4)
    maps = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(2))
    whole = insertion(model, images, maps, step=256)
    maps[0, 3, 4] = float("nan")
    maps[2] = 0.5
    curve = insertion(model, images, maps, step=256)
    assert curve.auc.isnan().tolist() == [True, False, True, False]
    assert curve.scores.isnan().any(dim=1).tolist() == [True, False, True, False]
    assert curve.reasons == (
        "the map has values that are not finite",
        None,
        "the map is constant",
        None,
    )
    assert torch.equal(curve.scores[[1, 3]], whole.scores[[1, 3]])
    assert [row["reason"] for row in curve.records()] == list(curve.reasons)
    nothing = insertion(model, images, torch.zeros(4, 32, 32), step=256)
    assert nothing.auc.isnan().all()


def test_a_model_without_a_finite_probability_is_named() -> None:
    class Broken(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * float("nan")

    curve = deletion(Broken().eval(), torch.rand(1, 1, 4, 4), torch.rand(1, 4, 4), step=8, baseline=0.0)
    assert curve.reasons == (MODEL_NOT_FINITE,)
    assert curve.auc.isnan().all()


def test_records_are_the_curve_in_figures() -> None:
    curve = insertion(Normalised(), example_images(), torch.rand(2, 32, 32), step=400)
    rows = curve.records()
    assert [row["image"] for row in rows] == [0, 1]
    assert {row["kind"] for row in rows} == {"insertion"}
    assert [row["auc"] for row in rows] == curve.auc.tolist()
    assert [row["end"] for row in rows] == curve.scores[:, -1].tolist()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradient_mode_changes_nothing_and_nothing_is_left_behind(mode: Any) -> None:
    model, images = Normalised(), example_images().requires_grad_()
    maps = torch.rand(2, 32, 32)
    before = torch.get_rng_state()
    curve = deletion(model, images, maps, step=512)
    with mode():
        again = deletion(model, images.detach(), maps, step=512)
    assert torch.equal(curve.scores, again.scores)
    assert not curve.scores.requires_grad
    assert images.grad is None
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": torch.rand(2, 8, 8)}, r"maps must have shape \(2, 32, 32\), .* got \(2, 8, 8\)"),
        ({"images": torch.rand(3, 32, 32)}, r"images must have shape \(B, C, H, W\), got \(3, 32, 32\)"),
        ({"maps": torch.ones(2, 32, 32, dtype=torch.int64)}, r"maps must be float32 or float64, got torch\.int64"),
        ({"step": 0}, "step must be an integer of at least 1, got 0"),
        ({"step": 2.5}, r"step must be an integer of at least 1, got 2\.5"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"target": 4}, "target class 4 does not exist; the model has classes 0 to 3"),
        ({"target": -1}, "target class -1 does not exist; the model has classes 0 to 3"),
        ({"target": torch.tensor([0])}, r"target must have shape \(2,\), one class an image, got \(1,\)"),
        (
            {"target": torch.tensor([0.0, 1.0])},
            r"a class number or a tensor of 2 integers, got torch\.float32",
        ),
        ({"target": "cat"}, "target must be a class number or a tensor of 2 integers, got 'cat'"),
        ({"baseline": torch.rand(2)}, "baseline must be 1 or 3 finite numbers"),
        ({"baseline": float("nan")}, "baseline must be 1 or 3 finite numbers"),
        ({"model": SmallClassifier()}, "SmallClassifier has no mean colour; give baseline="),
    ],
)
def test_errors_name_the_value_before_work_starts(changes: dict[str, Any], message: str) -> None:
    arguments = {"model": Normalised(), "images": example_images(), "maps": torch.rand(2, 32, 32)} | changes
    with pytest.raises(InputError, match=message):
        deletion(**arguments)


def test_the_objects_pixels_first_beat_a_random_order_on_composites(model: Classifier) -> None:
    chosen = composites(2, seed=2, model=model)
    noise = torch.rand(chosen.masks.shape, generator=torch.Generator().manual_seed(0))
    ordered = chosen.masks.float() + 0.5 * noise  # the object's pixels first, in random order
    settings = {"step": 224 * 45, "target": chosen.labels}
    by_object = insertion(model, chosen.images, ordered, **settings)
    at_random = insertion(model, chosen.images, noise, **settings)
    assert (by_object.auc > at_random.auc + 0.05).all()
