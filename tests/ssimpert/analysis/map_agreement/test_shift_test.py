"""The shift null against rolled maps one by one, its uniformity, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ssimpert.analysis.map_agreement.agreement import agreement, kl_divergence, pearson
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS
from ssimpert.analysis.map_agreement.shift_test import shift_null
from ssimpert.errors import InputError


def smooth_fields(count: int, size: int = 24, seed: int = 0) -> Tensor:
    """Smooth fields, stationary on the torus, each min-max normalised."""
    noise = np.random.default_rng(seed).standard_normal((count, size, size))
    smooth = np.stack([gaussian_filter(field, 2.0, mode="wrap") for field in noise])
    low, high = smooth.min(axis=(1, 2), keepdims=True), smooth.max(axis=(1, 2), keepdims=True)
    return torch.from_numpy((smooth - low) / (high - low))


def coarse_fields(count: int, seed: int = 0) -> Tensor:
    """Fields of 16 x 15 with half the pixels zero and five values: many ties."""
    return (8 * smooth_fields(count, 16, seed)[..., :15] - 4).clamp(min=0).round() / 4


@pytest.mark.parametrize("name", AGREEMENT_METRICS)
@pytest.mark.parametrize("ties", [False, True])
def test_every_shift_equals_the_metric_of_the_rolled_map(name: str, ties: bool) -> None:
    make = coarse_fields if ties else smooth_fields
    maps, cam = make(2, seed=1), make(2, seed=2)
    found = shift_null(maps, cam, name, shifts=210)
    assert found.null.shape == (2, 210)
    torch.testing.assert_close(found.observed, agreement(maps, cam).values[name], rtol=0, atol=0)
    better = 0 if name == "kl_divergence" else 1
    for image in range(2):
        stack = [np.roll(maps[image].numpy(), move, axis=(0, 1)) for move in found.shifts.tolist()]
        rolled, fixed = torch.from_numpy(np.stack(stack)), cam[image].expand(210, -1, -1)
        values = agreement(rolled, fixed).values[name].tolist()
        assert found.null[image].tolist() == pytest.approx(values, abs=1e-12)
        seen = found.observed[image].item()
        as_good = sum(v >= seen - 1e-12 if better else v <= seen + 1e-12 for v in values)
        assert found.p_value[image].item() == (1 + as_good) / 211
    assert found.higher_is_better == bool(better)


def test_pairs_counted_by_the_fourier_transform_are_exact() -> None:
    maps, cam = coarse_fields(4, seed=3), coarse_fields(4, seed=4)
    found = shift_null(maps, cam, "auc", shifts=None)
    for column in range(0, 239, 17):
        rolled = maps.roll(found.shifts[column].tolist(), dims=(1, 2))
        assert torch.equal(found.null[:, column], agreement(rolled, cam).values["auc"])


def test_ties_taken_in_reading_order_do_not_make_the_overlap_significant() -> None:
    """Both maps fill their top 20% from the first zeros, whatever the shift: that overlap is no agreement."""
    maps, cam = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    maps[0, 15, 3] = cam[0, 11, 14] = 1.0
    found = shift_null(maps, cam, "top20_iou", shifts=None)
    assert found.observed.item() > 0.9
    assert found.p_value.item() > 0.5


@pytest.mark.parametrize("name", AGREEMENT_METRICS)
def test_p_values_are_uniform_for_independent_fields(name: str) -> None:
    maps, cam = smooth_fields(160, 20, seed=5), smooth_fields(160, 20, seed=6)
    p_value = shift_null(maps, cam, name, seed=1).p_value
    assert stats.kstest(p_value.numpy(), "uniform").pvalue > 0.01
    assert (p_value < 0.1).double().mean().item() == pytest.approx(0.1, abs=0.07)


@pytest.mark.parametrize("name", AGREEMENT_METRICS)
def test_equal_maps_have_the_least_p_value_and_shifting_both_changes_nothing(name: str) -> None:
    maps = smooth_fields(2, seed=7)
    found = shift_null(maps, maps, name)
    assert found.p_value.tolist() == [1 / 201] * 2
    both = shift_null(maps.roll((3, 5), dims=(1, 2)), maps.roll((3, 5), dims=(1, 2)), name)
    torch.testing.assert_close(both.null, found.null, rtol=0, atol=1e-9)


def test_shifts_that_restore_a_periodic_map_count_against_it() -> None:
    """The map has period 4 across: 5 of its 575 shifts give the observed value again."""
    period = torch.rand(1, 24, 4, generator=torch.Generator().manual_seed(0))
    maps = period.repeat(1, 1, 6)
    for name in AGREEMENT_METRICS:
        assert shift_null(maps, maps, name, shifts=None).p_value.item() == 6 / (24 * 24)


def test_p_values_of_the_three_alternatives_fit_one_another() -> None:
    maps, cam = smooth_fields(5, seed=8), smooth_fields(5, seed=9)
    for name in ("pearson", "kl_divergence"):
        closer, farther, both = (
            shift_null(maps, cam, name, alternative=side).p_value for side in ("closer", "farther", "two-sided")
        )
        torch.testing.assert_close(closer + farther, torch.full((5,), 202 / 201, dtype=torch.float64))
        torch.testing.assert_close(both, (2 * torch.minimum(closer, farther)).clamp(max=1))
    opposite = shift_null(-maps, maps, "pearson", alternative="two-sided")
    assert opposite.p_value.tolist() == [2 / 201] * 5


def test_a_function_equals_the_named_metric() -> None:
    maps, cam = smooth_fields(2, seed=8), smooth_fields(2, seed=9)
    for name, function, better in (("pearson", pearson, None), ("kl_divergence", kl_divergence, False)):
        named = shift_null(maps, cam, name)
        called = shift_null(maps, cam, function, higher_is_better=better)
        assert called.metric == name
        assert torch.equal(named.p_value, called.p_value)
        torch.testing.assert_close(named.null, called.null, rtol=0, atol=1e-12)


def test_shifts_are_distinct_seeded_and_far_enough() -> None:
    maps = smooth_fields(1)
    found = shift_null(maps, maps, shifts=300, minimum_distance=5.0, seed=4)
    pairs = [tuple(pair) for pair in found.shifts.tolist()]
    assert len(set(pairs)) == 300
    assert min(min(a, 24 - a) ** 2 + min(b, 24 - b) ** 2 for a, b in pairs) >= 25
    assert found.seed == 4
    assert torch.equal(shift_null(maps, maps, shifts=300, minimum_distance=5.0, seed=4).shifts, found.shifts)
    assert not torch.equal(shift_null(maps, maps, shifts=300, minimum_distance=5.0, seed=5).shifts, found.shifts)
    everything = shift_null(maps, maps, shifts=None)
    assert everything.seed is None
    assert {tuple(pair) for pair in everything.shifts.tolist()} == {
        (a, b) for a in range(24) for b in range(24) if (a, b) != (0, 0)
    }


def test_a_batch_equals_its_images() -> None:
    maps, cam = smooth_fields(8, seed=1), smooth_fields(8, seed=2)
    for name in ("spearman", "similarity"):
        together = shift_null(maps, cam, name)
        alone = [shift_null(maps[i : i + 1], cam[i : i + 1], name) for i in range(8)]
        assert torch.equal(together.p_value, torch.cat([a.p_value for a in alone]))
        assert torch.equal(together.null, torch.cat([a.null for a in alone]))


def test_undefined_images_have_a_reason_and_no_p_value() -> None:
    maps, cam = smooth_fields(3, seed=1), smooth_fields(3, seed=2)
    maps[1] = 0.5
    for name in AGREEMENT_METRICS:
        found = shift_null(maps, cam, name)
        assert found.p_value.isnan().tolist() == [False, True, False]
        assert found.null[1].isnan().all()
        assert found.reasons == ("", "map is constant", "")
    found = shift_null(maps, cam, pearson)
    assert found.p_value.isnan().tolist() == [False, True, False]
    assert found.reasons == ("", "metric is NaN", "")


def test_a_function_that_fails_under_a_shift_gives_no_p_value() -> None:
    def corner(maps: Tensor, cam: Tensor) -> Tensor:
        return torch.where(maps[:, 0, 0] == maps.amax(dim=(1, 2)), float("nan"), maps[:, 0, 0])

    maps = smooth_fields(1)
    found = shift_null(maps, maps, corner, shifts=None)
    assert found.reasons == ("metric is NaN under a shift",)
    assert found.p_value.isnan().all()


def test_leaves_the_random_state_alone_and_takes_float32_that_needs_gradients() -> None:
    maps = smooth_fields(1).float().requires_grad_()
    state = torch.get_rng_state()
    with torch.inference_mode():
        found = shift_null(maps, maps)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.null.dtype == found.p_value.dtype == torch.float64
    assert not found.null.requires_grad


def test_all_metrics_on_a_photos_size_take_a_few_seconds() -> None:
    maps, cam = smooth_fields(1, 224, seed=1), smooth_fields(1, 224, seed=2)
    start = time.process_time()
    for name in AGREEMENT_METRICS:
        shift_null(maps, cam, name)
    assert time.process_time() - start < 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shifts": 199}, "a null of 199 shifts is coarse: take 200 or more, or say few_shifts=True"),
        ({"shifts": 576}, "maps of 24x24 pixels have 575 shifts of length 1 or more; 576 shifts can't be taken"),
        ({"shifts": None, "minimum_distance": 17}, "have 0 shifts of length 17 or more; any shift can't be taken"),
        ({"shifts": None, "minimum_distance": 16}, r"a null of \d+ shifts is coarse"),
        ({"shifts": 0}, "shifts must be a positive integer or None"),
        ({"shifts": 200.0}, "shifts must be a positive integer or None"),
        ({"minimum_distance": 0}, "minimum_distance must be a positive number of pixels, got 0"),
        ({"minimum_distance": float("nan")}, "minimum_distance must be a positive number of pixels, got nan"),
        ({"seed": 1.5}, r"seed must be an integer from 0 .*, got 1\.5"),
        ({"metric": "pearsn"}, "unknown agreement metric 'pearsn'; did you mean pearson"),
        ({"metric": 3}, "metric must be a name or a function of two maps, got 3"),
        ({"metric": "nss", "higher_is_better": True}, "higher_is_better is for functions; 'nss' knows its own"),
        ({"metric": lambda a, b: a, "higher_is_better": 0}, "higher_is_better must be True, False or None, got 0"),
        ({"alternative": "close"}, "unknown alternative 'close'; did you mean closer"),
        ({"metric": lambda a, b: a}, r"one value an image, shape \(1,\), got \(1, 24, 24\)"),
    ],
)
def test_errors_name_the_value(options: dict[str, object], message: str) -> None:
    maps = smooth_fields(1)
    with pytest.raises(InputError, match=message):
        shift_null(maps, maps, **options)  # type: ignore[arg-type]


def test_a_null_of_few_shifts_is_refused_unless_asked_for() -> None:
    maps = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    run: Callable[..., object] = shift_null
    with pytest.raises(InputError, match="a null of 15 shifts is coarse"):
        run(maps, maps, shifts=None)
    assert shift_null(maps, maps, shifts=None, few_shifts=True).p_value.item() == 1 / 16
