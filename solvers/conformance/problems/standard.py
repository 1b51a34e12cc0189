"""The standard problems: small, real and unlike one another. A method is run on all problems that it claims to take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from solvers.conformance.problems.data import disc, images, smooth_features
from solvers.conformance.problems.known_optimum import known_optimum
from solvers.constraints import Box, Constraint, FeatureBall, GlobalSSIM, LpBall, Support, WindowSSIM
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.windows import Window

# The root mean square of the points to project, in pixels: far enough from 0 for every set to matter.
POINT_RMS = 0.1
# Unlike images in one batch, and the sizes of their gradients or of the points to project.
_UNLIKE = ("chelsea-32", "dark-32", "grey", "camera-32")
_SIZES = (1.0, 1e-4, 1.0, 1e3)
_STEPS = (1.0, 0.1, 3.0, 0.03)


@dataclass(frozen=True)
class Posed:
    """A problem with its optimal values, one per image, where these are known."""

    problem: Problem
    optimum: tuple[float, ...] | None = None


@dataclass(frozen=True)
class StandardProblem:
    """A problem of the suite, built when it is needed.

    Attributes:
        name: unique; projections begin with ``project:``.
        description: one line.
        build: makes the problem, the same at every call.
        slow: whether an interior-point method takes more than about a second.
    """

    name: str
    description: str
    build: Callable[[], Posed]
    slow: bool = False


def standard_problems() -> tuple[StandardProblem, ...]:
    """All standard problems: linear problems, projections, and generated problems with known optima."""
    return (*_linear_problems(), *_projections(), *_known_optima())


def _linear_problems() -> list[StandardProblem]:
    box, tiles = Box(), Window.uniform(8, stride=8)
    fives, fives_valid = Window.uniform(5, stride=5), Window.uniform(5, stride=5, border="valid")
    dense, dense_valid = Window.uniform(7), Window.uniform(7, border="valid")
    four = Window.uniform(7, stride=4)
    radii = torch.tensor([0.5, 1.0, 2.0, 4.0])

    def entry(name: str, description: str, *sets: Constraint, slow: bool = False, **data: Any) -> StandardProblem:
        return StandardProblem(name, description, partial(_linear, sets, **data), slow)

    return [
        entry("tiles", "8x8 tiles", _ssim(tiles), box),
        entry(
            "tiles-partial",
            "5x5 tiles cut at the far edges",
            _ssim(fives),
            box,
            names="coffee-32",
        ),
        entry("tiles-valid", "5x5 tiles, pixels in none of them", _ssim(fives_valid), box),
        entry("tiles-gaussian", "Gaussian tiles", _ssim(Window.gaussian(stride=11)), box, names="camera-32"),
        entry("tiles-unboxed", "8x8 tiles and nothing else", _ssim(tiles)),
        entry("tiles-split", "budget split between mean and structure", _ssim(tiles, "split"), box),
        entry("tiles-number", "a tenth of the budget for the means", _ssim(tiles, 5e-3), box, names="rocket-32"),
        entry("tiles-preserve", "every tile's mean kept", _ssim(tiles, "preserve"), box),
        entry("tiles-sample", "sample covariance", _ssim(tiles, sample_covariance=True), box, names="rocket-32"),
        entry("tiles-lax", "threshold 0.5", _ssim(tiles, threshold=0.5), box, names="coffee-32"),
        entry("tiles-range", "pixels in [0, 255]", _ssim(tiles, data_range=255.0), Box(0, 255), scale=255.0),
        entry("tiles-dark", "nearly black, box active", _ssim(tiles), box, names="dark-32"),
        entry("tiles-extreme", "half of the pixels at 0 or 1", _ssim(tiles), box, contrast=4.0),
        entry("tiles-plain", "constant images: grey, black, white", _ssim(tiles), box, names="plain"),
        entry("tiles-grey", "one channel", _ssim(tiles), box, channels=1),
        entry("tiles-batch", "unlike images, gradients of unlike size", _ssim(tiles), box, names=_UNLIKE, sizes=_SIZES),
        entry("tiles-defect", "one image has a NaN gradient, one leaves the box", _ssim(tiles), box, names="defect"),
        entry("tiles-float32", "float32", _ssim(tiles), box, dtype=torch.float32),
        entry("tiles-support", "perturbed in a disc only", _ssim(tiles), box, Support(disc(32))),
        entry("tiles-still", "zero gradient", _ssim(tiles), box, sizes=(0.0,)),
        entry("stride-4", "7x7 windows at stride 4", _ssim(four), box),
        entry("stride-4-valid", "whole windows only", _ssim(Window.uniform(7, stride=4, border="valid")), box),
        entry("stride-4-split", "budget split", _ssim(four, "split"), box, names="coffee-32"),
        entry("stride-4-preserve", "overlapping windows keep their means", _ssim(four, "preserve"), box),
        entry("stride-4-dark", "nearly black, box active", _ssim(four), box, names="dark-32"),
        entry("stride-4-batch", "unlike images", _ssim(four), box, names=_UNLIKE, sizes=_SIZES),
        entry("stride-4-float32", "float32", _ssim(four), box, dtype=torch.float32),
        entry("stride-4-unboxed", "no box", _ssim(four)),
        entry("stride-1", "7x7 windows at stride 1", _ssim(dense), box, crop=24, slow=True),
        entry("stride-1-valid", "whole windows only", _ssim(dense_valid), box, crop=24, slow=True),
        entry("stride-1-sample", "sample covariance", _ssim(dense, sample_covariance=True), box, crop=20, slow=True),
        entry("stride-1-dark", "nearly black", _ssim(dense), box, names="dark-32", crop=16, slow=True),
        entry("stride-1-grey", "one channel, stretched", _ssim(dense), box, channels=1, contrast=4.0, slow=True),
        entry("stride-1-still", "zero gradient", _ssim(dense), box, crop=16, sizes=(0.0,)),
        entry("stride-1-plain", "constant images", _ssim(dense), box, names="plain", crop=12),
        entry("gaussian", "Gaussian 11x11 at stride 3", _ssim(Window.gaussian(stride=3)), box, crop=24, slow=True),
        entry("gaussian-dense", "Gaussian 11x11 at stride 1", _ssim(Window.gaussian()), box, crop=16, slow=True),
        entry("box", "the box alone", box),
        entry("l2", "l2 ball", LpBall(2, 1.0)),
        entry("l2-box", "l2 ball, box active", LpBall(2, 4.0), box, names="dark-32"),
        entry("l1", "l1 ball", LpBall(1, 5.0)),
        entry("l1-box", "l1 ball and box", LpBall(1, 20.0), box, names="coffee-32"),
        entry("linf", "l-infinity ball", LpBall(math.inf, 8 / 255)),
        entry("linf-box", "l-infinity ball and box", LpBall(math.inf, 8 / 255), box, names="dark-32"),
        entry(
            "l2-batch",
            "radii per image",
            LpBall(2, radii),
            box,
            names=_UNLIKE,
            sizes=_SIZES,
        ),
        entry("l2-support", "l2 ball in a disc, float32", LpBall(2, 1.0), Support(disc(32)), dtype=torch.float32),
        entry("global", "global SSIM", GlobalSSIM(0.05)),
        entry("global-box", "global SSIM, box active", GlobalSSIM(0.2), box, names="dark-32"),
        entry("global-batch", "unlike images", GlobalSSIM(0.1), box, names=_UNLIKE, sizes=_SIZES),
        entry("window-l2", "8x8 tiles and an l2 ball", _ssim(tiles), LpBall(2, 1.0), box),
        entry("window-linf", "stride 4 and an l-infinity ball", _ssim(four), LpBall(math.inf, 4 / 255), box),
        entry("window-window", "fine and coarse windows", _ssim(four), _ssim(Window.uniform(16, stride=16)), box),
        entry("feature-box", "feature ball and box", FeatureBall(0.5, smooth_features()), box),
        entry("feature-l2", "feature ball and l2 ball", FeatureBall(0.5, smooth_features()), LpBall(2, 2.0)),
        entry(
            "feature-l2-tight", "the feature ball leaves little", FeatureBall(0.02, smooth_features()), LpBall(2, 2.0)
        ),
        entry("feature-l2-lax", "the feature ball is inactive", FeatureBall(50.0, smooth_features()), LpBall(2, 2.0)),
        entry(
            "feature-l2-batch",
            "unlike images, radii per image",
            FeatureBall(0.1 * radii, smooth_features()),
            LpBall(2, radii),
            names=_UNLIKE,
            sizes=_SIZES,
        ),
        entry(
            "feature-l2-support",
            "feature ball and l2 ball in a disc, float32",
            FeatureBall(0.1, smooth_features()),
            LpBall(2, 1.0),
            Support(disc(32)),
            dtype=torch.float32,
        ),
        entry("feature-l2-box", "all three", FeatureBall(0.2, smooth_features()), LpBall(2, 4.0), box, names="dark-32"),
    ]


def _projections() -> list[StandardProblem]:
    box, tiles, fives = Box(), Window.uniform(8, stride=8), Window.uniform(5, stride=5)
    four = Window.uniform(7, stride=4)

    def entry(name: str, description: str, *sets: Constraint, slow: bool = False, **data: Any) -> StandardProblem:
        return StandardProblem(f"project:{name}", description, partial(_projection, sets, **data), slow)

    return [
        entry("tiles", "8x8 tiles", _ssim(tiles), box),
        entry("tiles-partial", "5x5 tiles cut at the far edges", _ssim(fives), box),
        entry("tiles-gaussian", "Gaussian tiles", _ssim(Window.gaussian(stride=11)), box, names="camera-32"),
        entry("tiles-unboxed", "no box", _ssim(tiles)),
        entry("tiles-split", "budget split", _ssim(tiles, "split"), box, names="rocket-32"),
        entry("tiles-preserve", "every tile's mean kept", _ssim(tiles, "preserve"), box),
        entry("tiles-dark", "nearly black, box active", _ssim(tiles), box, names="dark-32"),
        entry("tiles-plain", "constant images", _ssim(tiles), box, names="plain"),
        entry("tiles-batch", "unlike images, steps of unlike length", _ssim(tiles), box, names=_UNLIKE, sizes=_STEPS),
        entry("tiles-inside", "a point that is feasible already", _ssim(tiles), box, sizes=(1e-3,)),
        entry("tiles-float32", "float32", _ssim(tiles), box, dtype=torch.float32),
        entry("stride-4", "7x7 windows at stride 4", _ssim(four), box),
        entry("stride-4-preserve", "overlapping windows keep their means", _ssim(four, "preserve"), box),
        entry("stride-4-dark", "nearly black", _ssim(four), box, names="dark-32"),
        entry("stride-1", "7x7 windows at stride 1", _ssim(Window.uniform(7)), box, crop=20, slow=True),
        entry("gaussian", "Gaussian 11x11 at stride 3", _ssim(Window.gaussian(stride=3)), box, crop=24, slow=True),
        entry("box", "the box alone", box, names="dark-32"),
        entry("l2", "l2 ball", LpBall(2, 1.0)),
        entry("l2-box", "l2 ball and box", LpBall(2, 2.0), box, names="dark-32"),
        entry("l1", "l1 ball", LpBall(1, 5.0)),
        entry("l1-box", "l1 ball and box", LpBall(1, 20.0), box, names="dark-32"),
        entry("linf-box", "l-infinity ball and box", LpBall(math.inf, 8 / 255), box),
        entry("global", "global SSIM", GlobalSSIM(0.05)),
        entry("global-box", "global SSIM, box active", GlobalSSIM(0.2), box, names="dark-32"),
        entry("window-l2", "8x8 tiles and an l2 ball", _ssim(tiles), LpBall(2, 1.0), box),
        entry("feature-box", "feature ball and box", FeatureBall(0.5, smooth_features()), box),
        entry("feature", "feature ball and nothing else", FeatureBall(0.5, smooth_features())),
        entry("feature-l2", "feature ball and l2 ball", FeatureBall(0.2, smooth_features()), LpBall(2, 1.0)),
    ]


def _known_optima() -> list[StandardProblem]:
    windows = {
        "tiles": Window.uniform(8, stride=8),
        "stride-4": Window.uniform(7, stride=4),
        "stride-1": Window.uniform(5, border="valid"),
        "gaussian": Window.gaussian(1.0, 5, stride=2),
    }
    return [
        StandardProblem(
            f"{prefix}known-{name}",
            "generated, optimal pair known",
            partial(_known, window, projection=projection),
        )
        for prefix, projection in (("", False), ("project:", True))
        for name, window in windows.items()
    ]


def _ssim(window: Window, luminance: Any = 1e-3, *, threshold: float = 0.95, **options: Any) -> WindowSSIM:
    return WindowSSIM(threshold, window, luminance, **options)


def _linear(sets: tuple[Constraint, ...], **data: Any) -> Posed:
    image, gradient = images(**data)
    return Posed(LinearProblem(gradient, image, sets))


def _projection(sets: tuple[Constraint, ...], **data: Any) -> Posed:
    image, gradient = images(**data)
    size = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().mean()
    return Posed(ProjectionProblem(gradient * (POINT_RMS / size), image, sets))


def _known(window: Window, *, projection: bool) -> Posed:
    generated = known_optimum(window, shape=(3, 32, 32), projection=projection)
    return Posed(generated.problem, generated.values)
