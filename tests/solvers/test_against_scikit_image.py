"""The promise of WindowSSIM, checked with scikit-image's own map and never with our code (protocols, section 7)."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import structural_similarity
from torch import Tensor

import solvers
from ssimpert.data import load_image
from ssimpert.linearization import Untargeted, linearize
from ssimpert.models import Classifier

PHOTOS = ("chelsea", "coffee", "camera", "rocket", "astronaut", "motorcycle")
UNIFORM, GAUSSIAN = solvers.Window.uniform(7), solvers.Window.gaussian(1.5, 11)
# Far from optimal will do: the promise must hold for whatever solve returns.
ROUGH = solvers.Settings(eps_rel=0.1, max_iter=400)


def smallest_window(x: Tensor, delta: Tensor, window: solvers.Window, *, sample_covariance: bool) -> float:
    """The least value of scikit-image's full map, `(size - 1)//2` pixels cut at each edge."""
    _, whole = structural_similarity(
        x[0].numpy(),
        (x + delta)[0].numpy(),
        win_size=window.size,
        gaussian_weights=window.sigma is not None,
        sigma=window.sigma or 1.5,
        use_sample_covariance=sample_covariance,
        data_range=1.0,
        channel_axis=0,
        full=True,
    )
    cut = (window.size - 1) // 2
    return float(whole[:, cut:-cut, cut:-cut].min())


@pytest.fixture(scope="module")
def crops(model: Classifier) -> dict[str, tuple[Tensor, Tensor]]:
    """Real photos and gradients, the green channel, 32x32 around the centre, float64."""
    found = {}
    for name in PHOTOS:
        image = load_image(name, size=224)
        gradient = linearize(model, image, model.predict(image), Untargeted()).gradient
        cut = (..., slice(96, 128), slice(96, 128))
        # One channel: the set treats channels alike.
        found[name] = (image[cut][:, 1:2].double(), gradient[cut][:, 1:2].double())
    return found


@pytest.mark.parametrize("border", ["full", "valid"])
@pytest.mark.parametrize("threshold", [0.99, 0.95, 0.9, 0.8])
@pytest.mark.parametrize(("window", "sample"), [(UNIFORM, False), (UNIFORM, True), (GAUSSIAN, False)])
def test_every_window_of_scikit_images_map_reaches_the_threshold(
    crops: dict[str, tuple[Tensor, Tensor]],
    window: solvers.Window,
    sample: bool,
    threshold: float,
    border: solvers.windows.window.Border,
) -> None:
    x, g = (value[..., 4:28, 4:28] for value in crops["coffee"])
    limit = solvers.WindowSSIM(threshold, replace(window, border=border), sample_covariance=sample)
    result = solvers.solve(solvers.LinearProblem(g, x, [limit, solvers.Box()]), settings=ROUGH)
    delta = torch.as_tensor(result.delta)
    least = smallest_window(x, delta, window, sample_covariance=sample)
    assert least >= threshold - 1e-6
    assert least <= 1 - 0.5 * (1 - threshold)  # and the budget is spent, not saved


def test_stride_one_full_border_keeps_edges_no_looser_than_the_inside(crops: dict[str, tuple[Tensor, Tensor]]) -> None:
    ratios: dict[str, list[float]] = {"full": [], "valid": []}
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[5:-5, 5:-5] = True
    for name in ("chelsea", "coffee", "camera"):
        x, g = crops[name]
        for border in ("full", "valid"):
            limit = solvers.WindowSSIM(0.95, replace(GAUSSIAN, border=border))
            problem = solvers.LinearProblem(g, x, [limit, solvers.Box()])
            size = torch.as_tensor(solvers.solve(problem, settings=ROUGH).delta).abs()
            ratios[border].append(float(size[..., ~inside].mean() / size[..., inside].mean()))
    assert statistics.median(ratios["full"]) <= 1.5
    assert statistics.median(ratios["valid"]) >= 2  # the loophole that the full border closes


def test_tiles_keep_every_tile_at_the_full_size_of_a_photo() -> None:
    x = torch.as_tensor(data.chelsea()[:224, :224].copy()).permute(2, 0, 1)[None].double() / 255
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    limit = solvers.WindowSSIM(0.9, solvers.Window.uniform(7, stride=7))
    delta = torch.as_tensor(solvers.solve(solvers.LinearProblem(g, x, [limit, solvers.Box()])).delta)
    _, whole = structural_similarity(
        x[0].numpy(),
        (x + delta)[0].numpy(),
        win_size=7,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=0,
        full=True,
    )
    at_tiles = np.asarray(whole)[:, 3::7, 3::7]  # scikit-image's windows that are our tiles
    assert at_tiles.min() >= 0.9 - 1e-6
    assert at_tiles.min() == pytest.approx(0.9, abs=2e-3)
