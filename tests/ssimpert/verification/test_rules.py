"""Propagation rules against torch's own layers, automatic differentiation, interval sums and samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssimpert.verification.layer_rules import rule_of_module
from ssimpert.verification.rules.addition import AdditionRule
from ssimpert.verification.rules.base import AffineRule, Interval, NonlinearRule, Shares
from ssimpert.verification.rules.clipping import ClippingRule
from ssimpert.verification.rules.concatenation import ConcatenationRule
from ssimpert.verification.rules.leaky_relu import LeakyReLURule
from ssimpert.verification.rules.lines import ActivationRule
from ssimpert.verification.rules.max_pooling import MaxPoolingRule


def batch_norm(channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 2)
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


AFFINE_LAYERS = {
    "conv": lambda: nn.Conv2d(2, 3, 3),
    "strided conv that misses pixels": lambda: nn.Conv2d(2, 4, (3, 2), stride=(3, 2), padding=(1, 0), bias=False),
    "grouped dilated conv": lambda: nn.Conv2d(2, 4, 3, dilation=2, groups=2, padding=1),
    "same conv": lambda: nn.Conv2d(2, 2, 5, padding="same"),
    "batch norm": lambda: batch_norm(2),
    "average pooling": lambda: nn.AvgPool2d(3, 2, 1),
    "average without padding": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average with ceil": lambda: nn.AvgPool2d(2, 3, ceil_mode=True),
    "average with divisor": lambda: nn.AvgPool2d((2, 3), divisor_override=5),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d((3, 2)),
    "global average": lambda: nn.AdaptiveAvgPool2d(1),
    "flatten": lambda: nn.Flatten(),
}
SHAPE = (2, 7, 8)


def affine_layer(kind: str) -> tuple[nn.Module, AffineRule]:
    torch.manual_seed(0)
    module = AFFINE_LAYERS[kind]().double().eval()
    rule = rule_of_module(module, kind, torch.zeros(1, *SHAPE, dtype=torch.float64)).rule
    assert isinstance(rule, AffineRule)
    return module, rule


def random_interval(*shape: int) -> Interval:
    lower = torch.randn(1, *shape, dtype=torch.float64)
    return Interval(lower, lower + torch.rand_like(lower) * 2)


def samples_in(interval: Interval, count: int) -> Tensor:
    """Random points of an interval, its corners among them."""
    shares = torch.rand(count, *interval.lower.shape[1:], dtype=torch.float64)
    shares[: count // 2] = shares[: count // 2].round()
    return interval.lower + shares * (interval.upper - interval.lower)


@pytest.mark.parametrize("kind", AFFINE_LAYERS)
def test_affine_rule_gives_the_layers_output(kind: str) -> None:
    module, rule = affine_layer(kind)
    images = torch.randn(3, *SHAPE, dtype=torch.float64)
    assert torch.allclose(rule.value(images), module(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", AFFINE_LAYERS)
def test_affine_rule_pulls_rows_back_as_automatic_differentiation_does(kind: str) -> None:
    module, rule = affine_layer(kind)
    images = torch.randn(4, *SHAPE, dtype=torch.float64, requires_grad=True)
    output = module(images)
    rows = torch.randn_like(output)
    (expected,) = torch.autograd.grad(output, images, rows)
    pulled = rule.backward(rows)
    assert torch.allclose(pulled.rows[0], expected, rtol=1e-12, atol=1e-12)
    exact = (rows * output).flatten(1).sum(1) - (expected * images).flatten(1).sum(1)
    assert torch.allclose(pulled.constant, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", AFFINE_LAYERS)
def test_affine_interval_is_the_sum_of_each_coefficients_worse_end(kind: str) -> None:
    module, rule = affine_layer(kind)
    interval = random_interval(*SHAPE)
    zero = torch.zeros(1, *SHAPE, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(module, zero).flatten(-4)  # (1, *output, inputs)
    low, high = interval.lower.flatten(), interval.upper.flatten()
    worst = module(zero) + (torch.minimum(matrix * low, matrix * high)).sum(-1)
    best = module(zero) + (torch.maximum(matrix * low, matrix * high)).sum(-1)
    bounds = rule.interval(interval)
    assert torch.allclose(bounds.lower, worst, rtol=1e-10, atol=1e-10)
    assert torch.allclose(bounds.upper, best, rtol=1e-10, atol=1e-10)


def test_sum_and_concatenation_pull_rows_back_to_both_inputs() -> None:
    first, second = (torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for rule, output in (
        (AdditionRule(-1.0), first - second),
        (ConcatenationRule(1, (2, 2)), torch.cat([first, second], dim=1)),
    ):
        assert torch.equal(rule.value(first, second), output)
        rows = torch.randn_like(output)
        expected = torch.autograd.grad(output, (first, second), rows)
        for given, wanted in zip(rule.backward(rows).rows, expected, strict=True):
            assert torch.allclose(given, wanted)


def test_interval_of_a_difference_takes_the_other_end_of_what_is_subtracted() -> None:
    first = Interval(torch.tensor([[1.0]]), torch.tensor([[2.0]]))
    second = Interval(torch.tensor([[-1.0]]), torch.tensor([[4.0]]))
    bounds = AdditionRule(-1.0).interval(first, second)
    assert (float(bounds.lower), float(bounds.upper)) == (-3.0, 3.0)


ACTIVATIONS = {
    "relu": (LeakyReLURule(), torch.relu),
    "leaky relu": (LeakyReLURule(0.2), lambda z: torch.where(z > 0, z, 0.2 * z)),
    "relu6": (ClippingRule(), lambda z: z.clamp(0, 6)),
    "hardtanh": (ClippingRule(-1.0, 2.0), lambda z: z.clamp(-1, 2)),
}


def intervals_around_kinks() -> Interval:
    """Many intervals, on every side of the kinks, some of width 0."""
    ends = torch.tensor(
        [-9.0, -6.5, -2.0, -1.0, -0.3, 0.0, 0.4, 1.9, 2.0, 3.0, 5.5, 6.0, 6.2, 11.0], dtype=torch.float64
    )
    low, high = torch.meshgrid(ends, ends, indexing="ij")
    keep = low <= high
    return Interval(low[keep][None], high[keep][None])


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("share", [None, 0.0, 0.35, 1.0])
def test_lines_stay_on_their_side_of_the_activation(kind: str, share: float | None) -> None:
    rule, function = ACTIVATIONS[kind]
    assert isinstance(rule, ActivationRule)
    bounds = intervals_around_kinks()
    shares = None
    if share is not None:
        shares = Shares(torch.full_like(bounds.lower, share), torch.full_like(bounds.lower, share))
    lines = rule.relaxation(bounds, shares)
    points = bounds.lower + torch.linspace(0, 1, 241, dtype=torch.float64)[:, None] * (bounds.upper - bounds.lower)
    exact = function(points)
    assert bool((lines.lower_slope * points + lines.lower_offset <= exact + 1e-12).all())
    assert bool((lines.upper_slope * points + lines.upper_offset >= exact - 1e-12).all())


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_lines_are_the_activation_where_it_is_not_loose(kind: str) -> None:
    rule, function = ACTIVATIONS[kind]
    bounds = intervals_around_kinks()
    exact = ~rule.loose(bounds)
    lines = rule.relaxation(bounds)
    for point in (bounds.lower, bounds.upper):
        for slope, offset in (
            (lines.lower_slope, lines.lower_offset),
            (lines.upper_slope, lines.upper_offset),
        ):
            assert torch.allclose((slope * point + offset)[exact], function(point)[exact], atol=1e-12)
    assert bool(exact.any())
    assert not bool(exact.all())


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_usual_shares_give_the_usual_slopes(kind: str) -> None:
    rule, _ = ACTIVATIONS[kind]
    bounds = intervals_around_kinks()
    usual, again = rule.relaxation(bounds), rule.relaxation(bounds, rule.usual_shares(bounds))
    assert torch.allclose(usual.lower_slope, again.lower_slope)
    assert torch.allclose(usual.upper_slope, again.upper_slope)


def test_relu_lines_are_those_of_the_literature() -> None:
    # l = -1, u = 3: above 3/4 (z + 1); below z, since the upper end is farther away (CROWN's adaptive choice).
    lines = LeakyReLURule().relaxation(Interval(torch.tensor([[-1.0, -3.0]]), torch.tensor([[3.0, 1.0]])))
    assert lines.upper_slope.tolist() == [[0.75, 0.25]]
    assert torch.allclose(lines.upper_offset, torch.tensor([[0.75, 0.75]]))
    assert lines.lower_slope.tolist() == [[1.0, 0.0]]


POOLINGS = {
    "plain": nn.MaxPool2d(2),
    "padded, overlapping": nn.MaxPool2d(3, 2, 1),
    "dilated with ceil": nn.MaxPool2d(2, 3, 0, dilation=2, ceil_mode=True),
    "ceil beyond the edge": nn.MaxPool2d(2, 2, 1, ceil_mode=True),
}


@pytest.mark.parametrize("kind", POOLINGS)
def test_max_pooling_is_bounded_by_its_relaxation_at_samples(kind: str) -> None:
    torch.manual_seed(1)
    module = POOLINGS[kind]
    rule = rule_of_module(module, kind, torch.zeros(1, *SHAPE)).rule
    assert isinstance(rule, MaxPoolingRule)
    bounds = random_interval(*SHAPE)
    points = samples_in(bounds, 400)
    outputs = module(points)
    assert torch.equal(rule.value(points), outputs)
    relaxation = rule.relaxation(bounds)
    for sign in (1.0, -1.0):
        rows = sign * torch.rand(1, *outputs.shape[1:], dtype=torch.float64)
        pulled = relaxation.backward(rows)
        below = (pulled.rows[0] * points).flatten(1).sum(1) + pulled.constant
        assert bool((below <= (rows * outputs).flatten(1).sum(1) + 1e-12).all())
    interval = rule.interval(bounds)
    assert bool(((interval.lower <= outputs) & (outputs <= interval.upper)).all())


def test_max_pooling_line_from_above_touches_the_maximum_of_two_pixels() -> None:
    # z_1 in [0, 4], z_2 in [0, 1]: above 1 + 3/4 z_1, which is exact at (0, 1), (4, 0) and (4, 1); below z_1 or z_2.
    rule = MaxPoolingRule((1, 2), (1, 2), (0, 0), (1, 1))
    bounds = Interval(torch.zeros(1, 1, 1, 2), torch.tensor([[[[4.0, 1.0]]]]))
    pulled = rule.relaxation(bounds).backward(-torch.ones(1, 1, 1, 1))
    assert pulled.rows[0].flatten().tolist() == [-0.75, 0.0]
    assert pulled.constant.tolist() == [-1.0]


def test_max_pooling_passes_on_a_pixel_that_is_certainly_the_largest() -> None:
    rule = MaxPoolingRule((1, 3), (1, 3), (0, 0), (1, 1))
    bounds = Interval(torch.tensor([[[[-1.0, 2.0, 0.0]]]]), torch.tensor([[[[1.0, 5.0, 2.0]]]]))
    assert not bool(rule.loose(bounds).any())
    for sign in (1.0, -1.0):
        pulled = rule.relaxation(bounds).backward(torch.full((1, 1, 1, 1), sign))
        assert pulled.rows[0].flatten().tolist() == [0.0, sign, 0.0]
        assert float(pulled.constant) == 0


def test_rows_with_bounds_of_their_own_get_relaxations_of_their_own() -> None:
    rules: list[NonlinearRule] = [LeakyReLURule(), ClippingRule()]
    lower, upper = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[2.0], [1.0]])
    rows = -torch.ones(2, 1)
    for rule in rules:
        both = rule.relaxation(Interval(lower, upper)).backward(rows)
        for k in range(2):
            alone = rule.relaxation(Interval(lower[k : k + 1], upper[k : k + 1])).backward(rows[k : k + 1])
            assert torch.equal(both.rows[0][k], alone.rows[0][0])
            assert both.constant[k] == alone.constant[0]
