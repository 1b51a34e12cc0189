"""Agreement metrics against scipy.stats and naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ssimpert.analysis.map_agreement.agreement import (
    agreement,
    auc,
    energy_share,
    kl_divergence,
    nss,
    pearson,
    similarity,
    spearman,
    top_iou,
)
from ssimpert.errors import InputError

METRICS = [pearson, spearman, top_iou]


def map_pair(*, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Two correlated (4, 13, 17) float64 maps; with ``ties`` about 60% zeros and few distinct values."""
    generator = torch.Generator().manual_seed(11)
    a = torch.rand(4, 13, 17, generator=generator, dtype=torch.float64)
    b = 0.5 * a + torch.rand(4, 13, 17, generator=generator, dtype=torch.float64)
    if ties:
        a, b = ((10 * (v - 0.6 * v.max())).clamp(min=0).round() for v in (a, b))
    return a, b


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_equal_scipy(ties: bool) -> None:
    a, b = map_pair(ties=ties)
    ours_pearson, ours_spearman = pearson(a, b), spearman(a, b)
    assert ours_pearson.shape == ours_spearman.shape == (4,)
    for index in range(4):
        first, second = a[index].numpy().ravel(), b[index].numpy().ravel()
        assert ours_pearson[index].item() == pytest.approx(stats.pearsonr(first, second)[0], abs=1e-12)
        assert ours_spearman[index].item() == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-12)


def naive_top(values: np.ndarray, count: int) -> set[int]:
    flat = values.ravel().tolist()
    return set(sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:count])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.05, 0.5, 0.999])
def test_top_iou_equals_sets_of_pixels(share: float, ties: bool) -> None:
    a, b = map_pair(ties=ties)
    ours = top_iou(a, b, share)
    for index in range(4):
        count = math.ceil(share * 13 * 17)
        first, second = naive_top(a[index].numpy(), count), naive_top(b[index].numpy(), count)
        assert ours[index].item() == pytest.approx(len(first & second) / len(first | second), abs=1e-15)


def test_top_iou_counts_pixels_exactly() -> None:
    """share * pixels is 7.000000000000001 in binary; seven pixels must be taken, not eight."""
    a = torch.arange(100, dtype=torch.float64).reshape(1, 10, 10)
    b = a.clone()
    b.view(-1)[92] = -1.0  # the eighth from the top moves to the bottom: unseen when seven are taken
    assert top_iou(a, b, 0.07).item() == 1.0
    assert top_iou(a, b, 0.08).item() == pytest.approx(7 / 9)


def test_top_iou_breaks_ties_in_reading_order() -> None:
    a = torch.zeros(1, 5, 5)
    a[0, 4, 4] = 1.0
    b = torch.zeros(1, 5, 5)
    b[0, 0, 0] = 1.0
    # of five pixels a takes (4,4) and the first four zeros, b takes the first five of row 0
    assert top_iou(a, b, 0.2).item() == pytest.approx(4 / 6)


@pytest.mark.parametrize("metric", METRICS)
def test_identical_maps_score_1_and_opposite_maps_the_least(metric: object) -> None:
    a, _ = map_pair()
    assert metric(a, a).tolist() == pytest.approx([1.0] * 4, abs=1e-12)  # type: ignore[operator]
    opposite = metric(a, -a).tolist()  # type: ignore[operator]
    assert opposite == pytest.approx([0.0 if metric is top_iou else -1.0] * 4, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-30, 1e-200, 1e200])
def test_the_scale_of_a_map_does_not_matter(metric: object, scale: float) -> None:
    a, b = map_pair()
    expected = metric(a, b)  # type: ignore[operator]
    torch.testing.assert_close(metric(scale * a, b), expected, rtol=0, atol=1e-12)  # type: ignore[operator]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", ["constant", "zero", "nan", "inf"])
def test_a_map_without_a_ranking_gives_nan_for_its_image_alone(metric: object, bad: str) -> None:
    a, b = map_pair()
    good = metric(a, b)  # type: ignore[operator]
    spoiled = a.clone()
    if bad in ("constant", "zero"):
        spoiled[2] = 0.1 if bad == "constant" else 0.0
    else:
        spoiled[2, 3, 3] = float(bad)
    for first, second in ((spoiled, b), (b, spoiled)):
        values = metric(first, second)  # type: ignore[operator]
        assert values.isnan().tolist() == [False, False, True, False]
        assert torch.equal(values[[0, 1, 3]], metric(a, b)[[0, 1, 3]])  # type: ignore[operator]
    assert good.isfinite().all()


@pytest.mark.parametrize("metric", METRICS)
def test_empty_maps_give_nan_and_empty_batches_nothing(metric: object) -> None:
    empty = torch.zeros(2, 0, 5)
    assert metric(empty, empty).isnan().tolist() == [True, True]  # type: ignore[operator]
    assert metric(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4)).shape == (0,)  # type: ignore[operator]
    assert metric(torch.ones(1, 1, 1), torch.ones(1, 1, 1)).isnan().all()  # type: ignore[operator]


def test_agreement_holds_every_metric_by_name() -> None:
    a, b = map_pair()
    b = b / b.amax()
    found = agreement(a, b)
    functions = [pearson, spearman, similarity, kl_divergence, nss, auc, top_iou, energy_share]
    names = ["pearson", "spearman", "similarity", "kl_divergence", "nss", "auc", "top20_iou", "energy_share"]
    assert list(found.values) == list(found.reasons) == names
    for name, function in zip(names, functions, strict=True):
        assert torch.equal(found.values[name], function(a, b))
        assert found.values[name].isfinite().all()
        assert found.reasons[name] == ("",) * 4
    assert all(v.dtype == torch.float64 for v in agreement(a.float(), b.float()).values.values())


def test_errors_name_the_value() -> None:
    a, b = map_pair()
    for share in (0, 1, -0.2, 1.5, float("nan"), "0.2"):
        with pytest.raises(InputError, match="share must lie strictly between 0 and 1, got"):
            top_iou(a, b, share)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"same shape, got \(4, 13, 17\) and \(3, 13, 17\)"):
        pearson(a, b[:3])
    with pytest.raises(InputError, match=r"a must have shape \(B, H, W\), got \(13, 17\)"):
        spearman(a[0], b[0])
    with pytest.raises(InputError, match=r"float32 or float64, got torch\.float16"):
        pearson(a.half(), b.half())
