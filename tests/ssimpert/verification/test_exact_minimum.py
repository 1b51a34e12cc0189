"""Bounds against the exact minimum: every pattern of ReLU signs is a conic problem of its own, solved by CVXPY."""

from __future__ import annotations

import itertools

import cvxpy as cp
import numpy as np
import pytest
import torch
from torch import nn

import solvers
import ssimpert
from solvers.constraints import Constraint
from ssimpert.verification.effort import EFFORTS, Effort

SIDE = 4
WINDOW = solvers.Window.uniform(3, stride=1)


def toy(seed: int, hidden: int = 3) -> nn.Sequential:
    """Two linear layers on 4x4 images, with two classes."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, hidden), nn.ReLU(), nn.Linear(hidden, 2)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        # The ReLUs' kinks lie close to the middle of the image's range, so that most signs are open.
        network[1].bias.copy_(-0.5 * network[1].weight.sum(dim=1) + 0.05 * network[1].bias)
    return network.eval()


def set_in_cvxpy(constraint: Constraint, image: torch.Tensor, delta: cp.Variable) -> list[cp.Constraint]:
    """The set and the pixel box, written down independently: windows are cut out by hand."""
    x = image.flatten().numpy()
    rows: list[cp.Constraint] = [delta >= -x, delta <= 1 - x]
    if isinstance(constraint, solvers.LpBall):
        return [*rows, cp.norm(delta, constraint.p) <= constraint.radius]
    assert isinstance(constraint, solvers.WindowSSIM)
    a, b = (level / (1 - level) for level in (constraint.alpha, constraint.beta))
    index = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    c1, c2 = 0.01**2, 0.03**2
    for top, left in itertools.product(range(-1, SIDE - 1), repeat=2):
        window = index[max(top, 0) : top + 3, max(left, 0) : left + 3].flatten()
        v, d = x[window], delta[window]
        mean, variance = v.mean(), v.var()
        radius = np.sqrt(a * (2 * variance + c2) + a**2 * variance)
        half_width = np.sqrt(b * (2 * mean**2 + c1) + b**2 * mean**2)
        shift = cp.sum(d) / len(window)
        rows.append(cp.norm(d - shift - a * (v - mean)) <= np.sqrt(len(window)) * radius)
        rows.append(cp.abs(shift - b * mean) <= half_width)
    return rows


def exact_minimum(network: nn.Sequential, image: torch.Tensor, label: int, constraint: Constraint) -> float:
    """The least margin over the set, over all patterns of signs."""
    first, last = network[1], network[3]
    weight, bias = first.weight.detach().numpy(), first.bias.detach().numpy()
    row = (last.weight[label] - last.weight[1 - label]).detach().numpy()
    constant = float((last.bias[label] - last.bias[1 - label]).detach())
    x = image.flatten().numpy()
    delta = cp.Variable(SIDE * SIDE)
    z = weight @ delta + (weight @ x + bias)
    sets, least = set_in_cvxpy(constraint, image, delta), np.inf
    for signs in itertools.product((-1.0, 1.0), repeat=len(bias)):
        pattern = np.array(signs)
        active = (pattern > 0) * row
        problem = cp.Problem(cp.Minimize(active @ z + constant), [*sets, cp.multiply(pattern, z) >= 0])
        problem.solve(solver=cp.CLARABEL)
        if problem.status in ("optimal", "optimal_inaccurate"):
            least = min(least, float(problem.value))
    return least


SETS = [
    solvers.WindowSSIM(0.8, WINDOW, luminance=0.1),
    solvers.LpBall(2, 0.5),
    solvers.LpBall(torch.inf, 0.1),
]


@pytest.mark.parametrize(("number", "effort"), [(0, "standard"), (1, "thorough"), (2, "thorough")])
def test_efforts_rise_to_the_exact_minimum(number: int, effort: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "standard", Effort(numbers=(9,), slope_iterations=5, leaves=0))
    constraint, network = SETS[number], toy(number)
    generator = torch.Generator().manual_seed(10 + number)
    image = 0.3 + 0.4 * torch.rand(1, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    label = int(network(image).argmax())
    exact = exact_minimum(network, image, label, constraint)
    bounds = {}
    for name in ("cheap", effort):
        result = ssimpert.verify(
            network,
            image,
            constraint,
            effort=name,
            attack=False,
            stop_when_decided=False,
            settings={"eps_rel": 1e-2, "max_iter": 50},
        )
        bounds[name] = float(result.bound)
        assert bounds[name] <= exact + 1e-6
        assert float(result.least_margin_found) >= exact - 1e-6
    assert bounds["cheap"] <= bounds[effort]
    # How far the margin falls over the set, and which share of that the bound overstates.
    if effort == "thorough":
        assert exact - bounds[effort] <= 0.2 * (float(result.margin) - exact)
