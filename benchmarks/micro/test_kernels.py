"""Micro-benchmarks of the kernels, at 3x224x224 on one thread. Run with ``make microbench``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import solvers
from solvers.certificate import Certifier

torch.set_num_threads(1)
WINDOWS = {"uniform7": solvers.Window.uniform(7), "gaussian11": solvers.Window.gaussian(1.5, 11)}
Benchmark = Callable[..., Any]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def image(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0), dtype=request.param)


@pytest.mark.parametrize("name", WINDOWS)
def test_mean(benchmark: Benchmark, image: torch.Tensor, name: str) -> None:
    benchmark(WINDOWS[name].operator_for(image).mean, image)


@pytest.mark.parametrize("name", WINDOWS)
def test_adjoint(benchmark: Benchmark, image: torch.Tensor, name: str) -> None:
    op = WINDOWS[name].operator_for(image)
    benchmark(op.adjoint, op.mean(image))


@pytest.mark.parametrize("name", WINDOWS)
def test_normal_product(benchmark: Benchmark, image: torch.Tensor, name: str) -> None:
    op = WINDOWS[name].operator_for(image)
    benchmark(op.normal, image, image, op.mean(image))


def test_vectors(benchmark: Benchmark, image: torch.Tensor) -> None:
    benchmark(WINDOWS["uniform7"].operator_for(image).vectors, image)


def test_fold(benchmark: Benchmark, image: torch.Tensor) -> None:
    op = WINDOWS["uniform7"].operator_for(image)
    benchmark(op.fold, op.vectors(image))


def test_projection_onto_tiles(benchmark: Benchmark, image: torch.Tensor) -> None:
    tiles = solvers.WindowSSIM(0.95, solvers.Window.uniform(8, stride=8)).bind(image)
    benchmark(tiles.project, 0.1 * image)


def test_certificate(benchmark: Benchmark, image: torch.Tensor) -> None:
    sets = [solvers.WindowSSIM(0.95, WINDOWS["uniform7"]), solvers.Box()]
    certifier = Certifier(solvers.LinearProblem(torch.randn_like(image), image, sets))
    benchmark(certifier.certify, 1e-4 * image)
