"""Random small networks and sets, and points of a set that try to lie below a claimed bound.

``python -m tests.ssimpert.verification.random_networks --networks 1000`` checks so many (``make verify-fuzz``).
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

import solvers
import ssimpert
from solvers.constraints import Constraint
from ssimpert.verification import outer_index_set

# What rounding may do: a claimed bound is one of exact arithmetic, up to the rounding of float64.
ROUNDING = 1e-9


class RandomNetwork(nn.Module):
    """Layers of every kind that has a rule, in a random order, with random weights."""

    def __init__(self, seed: int, channels: int, side: int, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def draw(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        width = 2 + draw(3)
        self.first = nn.Conv2d(channels, width, 3, stride=1 + draw(2), padding=draw(2))
        self.norm = nn.BatchNorm2d(width) if draw(2) else nn.Identity()
        self.activation = [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.Hardtanh(-0.5, 0.5)][draw(4)]
        self.branch = [nn.Conv2d(width, width, 3, padding=1), nn.Identity()][draw(2)]
        self.joined = draw(2)
        joined = 2 * width if self.joined else width
        self.pooling = [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.MaxPool2d(3, 1, 1)][draw(4)]
        with torch.no_grad():
            features = self.maps(torch.zeros(1, channels, side, side))
        hidden = 3 + draw(5)
        self.middle, self.head = nn.Linear(features.numel(), hidden), nn.Linear(hidden, classes)
        assert features.shape[1] == joined
        with torch.no_grad():
            for name, value in [*self.named_parameters(), *self.named_buffers()]:
                if value.is_floating_point():
                    value.copy_(torch.randn(value.shape, generator=generator) * (0.5 if value.ndim < 2 else 0.4))
                if name.endswith("running_var"):
                    value.copy_(value.abs() + 0.3)
        self.double().eval()

    def maps(self, images: Tensor) -> Tensor:
        maps = self.activation(self.norm(self.first(images)))
        other = self.branch(maps)
        maps = torch.cat([maps, other], dim=1) if self.joined else maps + other
        return self.pooling(functional.relu(maps))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(functional.relu(self.middle(self.maps(images).flatten(1))))


def random_set(seed: int, side: int) -> Constraint:
    """A set of some kind and size."""
    generator = torch.Generator().manual_seed(seed)
    loss = 10.0 ** float(-3 + 2.5 * torch.rand((), generator=generator))
    size = 3 + int(torch.randint(min(3, side - 3), (), generator=generator))
    window, tiles = solvers.Window.uniform(size), solvers.Window.uniform(size, stride=size)
    kinds = [
        solvers.WindowSSIM(1 - loss, window, luminance=loss / 4),
        solvers.WindowSSIM(1 - loss, window, luminance="split"),
        solvers.ProductSSIM(1 - loss, window),
        solvers.ProductSSIM(1 - loss, tiles),
        outer_index_set(1 - loss, window),
        solvers.MeanSSIM(1 - loss / 4, tiles),
        solvers.GlobalSSIM(loss / 2),
        solvers.LpBall(2, 4 * loss),
        solvers.LpBall(torch.inf, loss / 2),
        solvers.LpBall(1, 4 * loss),
        solvers.Intersection([solvers.WindowSSIM(1 - loss, window, luminance=loss / 4), solvers.LpBall(2, 4 * loss)]),
    ]
    return kinds[seed % len(kinds)]


def inside(constraint: Constraint, image: Tensor, delta: Tensor) -> Tensor:
    """Perturbations (M, C, H, W) moved into the set and the pixel box."""
    reference = image.expand(len(delta), -1, -1, -1).contiguous()
    problem = solvers.LinearProblem(delta, reference, [constraint, solvers.Box(0, 1)])
    return solvers.certify(problem, delta).delta


def lowest_margins(
    model: nn.Module, image: Tensor, label: int, constraint: Constraint, generator: torch.Generator
) -> Tensor:
    """The least margin to each class, (K,), that samples and projected gradient steps within the set reach."""
    scales = torch.logspace(-2, 1, 16, dtype=torch.float64)[:, None, None, None]
    noise = torch.randn(16, *image.shape[1:], generator=generator, dtype=torch.float64)
    points = [inside(constraint, image, noise * scales), torch.zeros_like(image)]
    classes = int(model(image).shape[1])
    delta = inside(constraint, image, 0.1 * torch.randn(classes, *image.shape[1:], generator=generator).double())
    for _ in range(3):
        leaf = (image + delta).requires_grad_(True)
        logits = model(leaf)
        margins = logits[:, label] - logits.diagonal()
        (gradient,) = torch.autograd.grad(margins.sum(), leaf)
        size = gradient.flatten(1).abs().amax(dim=1).clamp_min(1e-12)[:, None, None, None]
        delta = inside(constraint, image, delta - gradient / size)
        points.append(delta)
    with torch.no_grad():
        logits = model(image + torch.cat(points))
    return (logits[:, label : label + 1] - logits).amin(dim=0)


def check_network(seed: int, effort: str) -> float:
    """The least distance of a found margin to its bound, as a share of the margins; an error where it is negative."""
    generator = torch.Generator().manual_seed(seed)
    channels, side = 1 + seed % 3, 6 + seed % 3
    model = RandomNetwork(seed, channels, side, classes=2 + seed % 4)
    image = 0.1 + 0.8 * torch.rand(1, channels, side, side, generator=generator, dtype=torch.float64)
    constraint = random_set(seed, side)
    result = ssimpert.verify(
        model,
        image,
        constraint,
        effort=effort,
        attack=False,
        stop_when_decided=bool(seed % 2),
        settings={"eps_rel": 0.03, "max_iter": 50},
    )
    label = int(result.label)
    found = lowest_margins(model, image, label, constraint, generator)
    bound = result.class_bound[0]
    others = [k for k in range(len(bound)) if k != label]
    slack = (found - bound)[others]
    size = 1 + float(found[others].abs().max())
    if not bool((slack >= -ROUNDING * size).all()):
        raise AssertionError(f"network {seed}, {constraint.kind}, {effort}: a margin lies {-float(slack.min())} below")
    if float(result.least_margin_found) < float(result.bound) - ROUNDING * size:
        raise AssertionError(f"network {seed}: the margin found lies below the bound")
    return float(slack.min()) / size


def main() -> None:
    parser = argparse.ArgumentParser(description="Look for points of a set below a claimed bound.")
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, least = time.perf_counter(), float("inf")
    for count, seed in enumerate(range(options.first_seed, options.first_seed + options.networks), start=1):
        effort = "standard" if seed % 4 == 0 else "cheap"
        least = min(least, check_network(seed, effort))
        if count % 50 == 0:
            print(f"{count} networks, least slack {least:.2e}, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{options.networks} networks: no point lies below a bound; least slack {least:.2e}")


if __name__ == "__main__":
    main()
