"""SIM, KL, NSS, AUC and energy share against loops over pixels, and the reasons for every NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import mean, median, stdev

import pytest
import torch
from torch import Tensor

from ssimpert.analysis.map_agreement.agreement import (
    Agreement,
    agreement,
    auc,
    energy_share,
    kl_divergence,
    nss,
    pearson,
    similarity,
)
from ssimpert.errors import InputError

Metric = Callable[[Tensor, Tensor], Tensor]


def naive_similarity(p: list[float], q: list[float]) -> float:
    return math.fsum(min(a / math.fsum(p), b / math.fsum(q)) for a, b in zip(p, q, strict=True))


def naive_kl(p: list[float], q: list[float]) -> float:
    eps = 2.220446049250313e-16
    p, q = [a / math.fsum(p) for a in p], [b / math.fsum(q) for b in q]
    return math.fsum(b * math.log(eps + b / (a + eps)) for a, b in zip(p, q, strict=True))


def naive_nss(p: list[float], q: list[float]) -> float:
    centre, spread, middle = mean(p), stdev(p), median(q)
    return mean((a - centre) / spread for a, b in zip(p, q, strict=True) if b > middle)


def naive_auc(p: list[float], q: list[float]) -> float:
    middle = median(q)
    positive = [a for a, b in zip(p, q, strict=True) if b > middle]
    negative = [a for a, b in zip(p, q, strict=True) if b <= middle]
    wins = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    return wins / (len(positive) * len(negative))


def naive_energy(p: list[float], q: list[float]) -> float:
    return math.fsum(a for a, b in zip(p, q, strict=True) if b >= 0.5) / math.fsum(p)


NAIVE = {
    "similarity": naive_similarity,
    "kl_divergence": naive_kl,
    "nss": naive_nss,
    "auc": naive_auc,
    "energy_share": naive_energy,
}


def random_pairs(kind: str) -> tuple[Tensor, Tensor]:
    """50 pairs of related maps, 6 x 7 or 5 x 7, in [0, 1]; ``ties``: most of them zero and few distinct values."""
    generator = torch.Generator().manual_seed(31)
    size = (50, 5, 7) if kind == "odd" else (50, 6, 7)
    maps = torch.rand(size, generator=generator, dtype=torch.float64)
    cam = 0.5 * maps + 0.5 * torch.rand(size, generator=generator, dtype=torch.float64)
    if kind == "ties":
        maps, cam = ((8 * v - 4).clamp(min=0).round() / 4 for v in (maps, cam))
    return maps, cam


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("kind", ["even", "odd", "ties"])
def test_equals_a_loop_over_pixels(name: str, kind: str) -> None:
    maps, cam = random_pairs(kind)
    ours = agreement(maps, cam).values[name]
    assert ours.isfinite().all()
    for index in range(50):
        expected = NAIVE[name](maps[index].flatten().tolist(), cam[index].flatten().tolist())
        assert ours[index].item() == pytest.approx(expected, abs=1e-12)


def test_a_batch_equals_its_images_bit_for_bit() -> None:
    maps, cam = random_pairs("ties")
    together = agreement(maps[:8], cam[:8]).values
    for index in range(8):
        alone = agreement(maps[index : index + 1], cam[index : index + 1]).values
        assert all(torch.equal(alone[name][0], together[name][index]) for name in alone)


def test_equal_maps_score_best() -> None:
    """Ranks are distinct, so the AUC is 1; KL is 0 up to rounding."""
    maps, _ = random_pairs("even")
    assert similarity(maps, maps).tolist() == pytest.approx([1.0] * 50, abs=1e-12)
    assert kl_divergence(maps, maps).tolist() == pytest.approx([0.0] * 50, abs=1e-12)
    assert torch.equal(auc(maps, maps), torch.ones(50, dtype=torch.float64))
    assert torch.equal(auc(-maps, maps), torch.zeros(50, dtype=torch.float64))


def test_kl_is_of_the_cam_from_the_map() -> None:
    """P misses half of what Q has, which costs dearly; Q misses nothing of P's, which does not."""
    half = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)
    most = torch.tensor([[[1.0, 1.0], [1.0, 2.0]]], dtype=torch.float64)
    assert kl_divergence(half, most).item() > 10
    assert kl_divergence(most, half).item() == pytest.approx(math.log(0.5 / 0.2))


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("scale", [1e-30, 1e-200, 1e200, 1e307])
def test_the_scale_of_the_map_does_not_matter(name: str, scale: float) -> None:
    maps, cam = random_pairs("even")
    ours = agreement(scale * maps, cam).values[name]
    torch.testing.assert_close(ours, agreement(maps, cam).values[name], rtol=1e-12, atol=1e-12)


def spoiled(**changes: Callable[[Tensor], Tensor]) -> Agreement:
    """Three pairs; ``map`` or ``cam`` of the middle one changed."""
    maps, cam = (values[:3].clone() for values in random_pairs("even"))
    for name, values in (("map", maps), ("cam", cam)):
        if name in changes:
            values[1] = changes[name](values[1])
    return agreement(maps, cam)


def one_pixel(value: float) -> Callable[[Tensor], Tensor]:
    def change(values: Tensor) -> Tensor:
        values = values.clone()
        values[2, 3] = value
        return values

    return change


@pytest.mark.parametrize(("argument", "who"), [("map", "map"), ("cam", "CAM")])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (one_pixel(math.nan), "is not finite"),
        (one_pixel(math.inf), "is not finite"),
        (one_pixel(-math.inf), "is not finite"),
        (torch.zeros_like, "is zero everywhere"),
        (lambda v: torch.full_like(v, 0.7), "is constant"),
    ],
)
def test_a_map_that_says_nothing_of_where_is_nan_in_every_metric(
    argument: str, who: str, change: Callable[[Tensor], Tensor], reason: str
) -> None:
    found = spoiled(**{argument: change})
    good = spoiled()
    for name, values in found.values.items():
        assert values.isnan().tolist() == [False, True, False]
        assert found.reasons[name] == ("", f"{who} {reason}", "")
        assert torch.equal(values[[0, 2]], good.values[name][[0, 2]])


@pytest.mark.parametrize(
    ("argument", "change", "reasons"),
    [
        (
            "map",
            one_pixel(-0.1),
            dict.fromkeys(("similarity", "kl_divergence", "energy_share"), "map has negative values"),
        ),
        (
            "cam",
            one_pixel(-0.1),
            {
                **dict.fromkeys(("similarity", "kl_divergence"), "CAM has negative values"),
                "energy_share": "CAM leaves [0, 1]",
            },
        ),
        ("cam", one_pixel(1.1), {"energy_share": "CAM leaves [0, 1]"}),
        ("cam", lambda v: 0.4 * v, {"energy_share": "no CAM pixel reaches 0.5"}),
        ("cam", lambda v: 0.5 + 0.4 * v, {"energy_share": "every CAM pixel reaches 0.5"}),
        (
            "cam",
            lambda v: (v > v.quantile(0.2)).to(v),
            dict.fromkeys(("nss", "auc"), "no CAM pixel is above the median"),
        ),
    ],
)
def test_what_one_metric_cannot_take_is_nan_in_that_metric_alone(
    argument: str, change: Callable[[Tensor], Tensor], reasons: dict[str, str]
) -> None:
    found = spoiled(**{argument: change})
    for name, values in found.values.items():
        assert found.reasons[name] == ("", reasons.get(name, ""), "")
        assert values.isnan().tolist() == [False, name in reasons, False]


def test_a_single_pixel_and_no_pixels_are_undefined_and_no_images_is_nothing() -> None:
    for size, reason in (((2, 1, 1), "map is constant"), ((2, 0, 5), "map has no pixels")):
        found = agreement(torch.ones(size), torch.ones(size))
        assert all(values.isnan().tolist() == [True, True] for values in found.values.values())
        assert set(found.reasons.values()) == {(reason, reason)}
    none = agreement(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4))
    assert all(values.shape == (0,) for values in none.values.values())
    assert set(none.reasons.values()) == {()}


def test_metrics_of_two_pixels_are_those_computed_by_hand() -> None:
    maps, cam = torch.tensor([[[0.25, 0.75]]]), torch.tensor([[[0.0, 1.0]]])
    found = {name: values.item() for name, values in agreement(maps, cam).values.items()}
    assert found["similarity"] == found["energy_share"] == pytest.approx(0.75)
    assert found["kl_divergence"] == pytest.approx(math.log(4 / 3))
    assert found["nss"] == pytest.approx(math.sqrt(0.5))  # (0.75 - 0.5) / (0.25 sqrt(2))
    assert found["auc"] == 1.0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_in_any_gradient_mode_and_takes_maps_that_need_gradients(context: Callable[[], object]) -> None:
    maps, cam = (values[:2].float().requires_grad_() for values in random_pairs("even"))
    expected = agreement(maps, cam).values
    with context():  # type: ignore[attr-defined]
        ours = agreement(maps, cam).values
    for name, values in expected.items():
        assert not values.requires_grad
        assert torch.equal(values, ours[name])


@pytest.mark.parametrize("metric", [similarity, kl_divergence, nss, auc, energy_share])
def test_errors_name_the_value(metric: Metric) -> None:
    maps, cam = random_pairs("even")
    with pytest.raises(InputError, match=r"same shape, got \(50, 6, 7\) and \(3, 6, 7\)"):
        metric(maps, cam[:3])
    with pytest.raises(InputError, match=r"maps must have shape \(B, H, W\), got \(6, 7\)"):
        metric(maps[0], cam)
    with pytest.raises(InputError, match=r"cam must be float32 or float64, got torch\.bool"):
        metric(maps, cam > 0.5)
    assert pearson(maps, cam).isfinite().all()
