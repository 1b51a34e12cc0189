"""Random problems on tiny images, each from one seed: images, gradients, sets and intersections."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import solvers

Generator = np.random.Generator

# Images of one problem. They share the sets; each has its own kind of pixels and of gradient.
BATCH_SIZES = (1, 8, 20)
BATCH_SHARES = (0.1, 0.2, 0.7)
# Sets drawn first, and how often. Sets whose certificates take long are rare.
KINDS = {
    "WindowSSIM": 0.36,
    "GlobalSSIM": 0.15,
    "LpBall": 0.19,
    "Box": 0.05,
    "ProductSSIM": 0.12,
    "MeanSSIM": 0.03,
    "FeatureBall": 0.10,
}
# How often a drawn problem has one, two or three sets.
NUMBER_OF_SETS = (0.45, 0.4, 0.15)


@dataclass(frozen=True)
class RandomProblem:
    """A problem that its seed alone determines.

    Attributes:
        seed: the seed.
        problem: images (B, C, H, W) with their sets.
        pixel_range: R; pixels lie in [0, R].
    """

    seed: int
    problem: solvers.Problem
    pixel_range: float

    @property
    def linear(self) -> bool:
        """Whether the problem is a LinearProblem."""
        return isinstance(self.problem, solvers.LinearProblem)

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C, H, W)."""
        return tuple(self.problem.reference.shape)

    @property
    def reference(self) -> np.ndarray:
        """x, (B, C, H, W), in the problem's dtype."""
        array: np.ndarray = self.problem.reference.numpy()
        return array

    @property
    def vector(self) -> np.ndarray:
        """The gradient or the point, (B, C, H, W), in the problem's dtype."""
        array: np.ndarray = self.problem.vector.numpy()
        return array


def random_problem(seed: int) -> RandomProblem:
    """The problem of a seed.

    Raises:
        ProblemError: the library refuses the problem.
    """
    rng = np.random.default_rng([seed, 1])
    kinds = _random_kinds(rng)
    slow = "MeanSSIM" in kinds or "ProductSSIM" in kinds
    height, width = (int(side) for side in rng.integers(2, 6 if slow else 9, size=2))
    if "LpBall" in kinds and len(kinds) == 1 and rng.random() < 0.2:
        height, width = (int(side) for side in rng.integers(1, 4, size=2))
    channels = int(rng.choice([1, 2, 3], p=[0.7, 0.15, 0.15]))
    batch = int(rng.choice(BATCH_SIZES, p=BATCH_SHARES))
    if "MeanSSIM" in kinds:
        # A bound by tiles takes seconds.
        channels, batch, height, width = 1, min(batch, 2), min(height, 3), min(width, 3)
    shape = (batch, channels, height, width)
    dtype = np.float32 if rng.random() < 0.25 else np.float64
    data_range = float(rng.choice([1.0, 255.0, 65535.0, 1e-4], p=[0.6, 0.15, 0.15, 0.1]))
    pixel_range = data_range if data_range >= 1 else float(rng.choice([1e-4, 1e-2, 1.0]))
    largest_contrast = min(1.0, 10 * data_range / pixel_range)
    images = np.stack([random_image(rng, shape[1:], pixel_range, largest_contrast) for _ in range(batch)]).astype(dtype)
    linear = bool(rng.random() < 0.7) or "MeanSSIM" in kinds
    constraints: list[solvers.Constraint] = [random_set(rng, kind, images, data_range, pixel_range) for kind in kinds]
    if len(constraints) > 1 and all(constraint.is_convex for constraint in constraints) and rng.random() < 0.1:
        constraints = [solvers.Intersection(constraints)]
    # The bound of a mean index by tiles takes a minute where the scale is extreme.
    scaled_share = 0.05 if "MeanSSIM" in kinds else 0.5
    if linear:
        vector = np.stack([random_gradient(rng, x, dtype, scaled_share) for x in images.astype(np.float64)])
        problem: solvers.Problem = solvers.LinearProblem(vector.astype(dtype), images, constraints)
    else:
        vector = np.stack([random_target(rng, x, pixel_range, dtype) for x in images.astype(np.float64)])
        problem = solvers.ProjectionProblem(vector.astype(dtype), images, constraints)
    return RandomProblem(seed, problem, pixel_range)


def _random_kinds(rng: Generator) -> list[str]:
    """Names of one to three sets that together bound d."""
    count = 1 + int(rng.choice(3, p=NUMBER_OF_SETS))
    kinds = [str(rng.choice(list(KINDS), p=list(KINDS.values())))]
    while len(kinds) < count:
        other = str(rng.choice(["Box", "Support", "LpBall", "WindowSSIM", "GlobalSSIM"], p=[0.5, 0.15, 0.15, 0.1, 0.1]))
        # Non-convex sets stand beside elementwise sets only: nothing else has methods for them.
        if {"ProductSSIM", "MeanSSIM"} & set(kinds) and other not in ("Box", "Support"):
            other = "Box"
        if other not in kinds or other == "LpBall":
            kinds.append(other)
    if set(kinds) <= {"FeatureBall", "Support", "MeanSSIM"}:
        kinds.append("Box")
    order = rng.permutation(len(kinds))
    return [kinds[k] for k in order]


# -- images and vectors -------------------------------------------------------------------------------------


def random_image(
    rng: Generator, shape: tuple[int, ...], pixel_range: float, largest_contrast: float = 1.0
) -> np.ndarray:
    """Pixels in [0, R]: noise, an offset with little contrast, constant, black, dark, or at the ends of the range.

    With ``largest_contrast`` below 1, a share of R, only offsets and constants are drawn.
    """
    kind = rng.choice(["noise", "offset", "constant", "black", "dark", "ends", "steps"], p=[0.3, 0.3, *[0.08] * 5])
    if largest_contrast < 1 and kind not in ("constant", "black"):
        kind = "offset"
    noise = rng.random(shape)
    if kind == "offset":
        contrast = largest_contrast * 10.0 ** rng.uniform(-9, -1)
        return np.asarray(pixel_range * (rng.uniform(0.05, 0.85) + contrast * noise))
    if kind == "constant":
        return np.full(shape, pixel_range * float(rng.choice([0.25, 0.3, 1.0, rng.random()])))
    if kind == "black":
        return np.zeros(shape)
    if kind == "dark":
        return np.asarray(pixel_range * 0.02 * noise * (noise > 0.5))
    if kind == "ends":
        return np.asarray(pixel_range * np.clip(2 * noise - 0.5, 0, 1))
    if kind == "steps":
        return np.asarray(pixel_range * np.round(4 * noise) / 4)
    return np.asarray(pixel_range * noise)


def random_gradient(rng: Generator, image: np.ndarray, dtype: type, scaled_share: float) -> np.ndarray:
    """Noise, offset noise, zeros, few pixels, or along constants and the image, float64; the share ``scaled_share`` is
    of any scale."""
    kinds = {"noise": 0.4, "offset": 0.3, "zero": 0.04, "sparse": 0.1, "constant": 0.06, "along image": 0.1}
    kind = rng.choice(list(kinds), p=list(kinds.values()))
    gradient = _random_vector(rng, kind, image.shape)
    if kind == "offset":
        gradient = gradient + rng.choice([-1, 1]) * 10.0 ** rng.uniform(3, 12)
    elif kind == "along image":
        gradient = image * rng.choice([-1, 1]) + 10.0 ** rng.uniform(-12, 0) * gradient
    if rng.random() >= scaled_share:
        return np.asarray(gradient)
    exponent = rng.uniform(-300, 290) if dtype is np.float64 else rng.uniform(-37, 25)
    return np.asarray(gradient * 10.0**exponent)


def random_target(rng: Generator, image: np.ndarray, pixel_range: float, dtype: type) -> np.ndarray:
    """A point to project: of the size of pixels, or far smaller or larger, or along constants."""
    scale = pixel_range * 10.0 ** rng.choice([rng.uniform(-3, 1), rng.uniform(-12, 12)])
    kind = rng.choice(["noise", "offset", "zero", "sparse", "constant"], p=[0.5, 0.2, 0.05, 0.15, 0.1])
    point = _random_vector(rng, kind, image.shape)
    if kind == "offset":
        point = point + 10.0 ** rng.uniform(0, 9)
    if dtype is np.float64 and rng.random() < 0.05:
        scale = 10.0 ** rng.uniform(-200, 100)
    return np.asarray(scale * point)


def _random_vector(rng: Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, few values, one value everywhere, or for any other kind noise."""
    noise = rng.normal(size=shape)
    if kind == "zero":
        return 0 * noise
    if kind == "sparse":
        return noise * (rng.random(shape) < 0.2)
    return np.full(shape, rng.normal()) if kind == "constant" else noise


# -- sets ---------------------------------------------------------------------------------------------------


def random_set(
    rng: Generator, kind: str, images: np.ndarray, data_range: float, pixel_range: float
) -> solvers.Constraint:
    """A set of the given kind that fits the images (B, C, H, W)."""
    batch, channels, height, width = images.shape
    if kind == "Box":
        return _random_box(rng, images, pixel_range)
    if kind == "Support":
        return solvers.Support(torch.from_numpy(rng.random((height, width)) < 0.7))
    if kind == "LpBall":
        p = float(rng.choice([1, 2, math.inf]))
        return solvers.LpBall(p, _random_radius(rng, batch, pixel_range))
    if kind == "FeatureBall":
        features = int(rng.integers(1, 5))
        matrix = rng.normal(size=(features, channels * height * width)) * 10.0 ** rng.uniform(-3, 3)
        return solvers.FeatureBall(
            _random_radius(rng, batch, pixel_range), matrix_operator(matrix, (channels, height, width))
        )
    if kind == "GlobalSSIM":
        distance = float(rng.choice([rng.uniform(0.01, 0.9), 10.0 ** rng.uniform(-6, -1)]))
        # The library refuses the paper's scale, which is for pixels in [0, 1], where pixels spread widely.
        scale = 2.0 if rng.random() < 0.5 and pixel_range <= 1 else float(rng.uniform(0.5, 3)) / pixel_range
        return solvers.GlobalSSIM(distance, 9e-4 if rng.random() < 0.7 else 10.0 ** rng.uniform(-6, 0), scale)
    if min(height, width) < 2:
        return _random_box(rng, images, pixel_range)
    window = random_window(rng, min(height, width))
    threshold = _random_threshold(rng)
    sample = bool(rng.random() < 0.3)
    if kind == "ProductSSIM":
        return solvers.ProductSSIM(threshold, window, sample, data_range)
    if kind == "MeanSSIM":
        share = float(rng.uniform(0.01, 0.9)) * (1 - threshold)
        luminance = (None, None, "preserve", share)[int(rng.integers(4))] if window.is_tiling else None
        return solvers.MeanSSIM(threshold, window, luminance, sample, data_range)  # type: ignore[arg-type]
    share = float(rng.choice([0.0, 1e-3, 0.5, 0.98])) * (1 - threshold)
    luminances = ("split", "preserve", share, min(1e-3, 0.5 * (1 - threshold)))
    return solvers.WindowSSIM(threshold, window, luminances[int(rng.integers(4))], sample, data_range)


def _random_threshold(rng: Generator) -> float:
    return float(rng.choice([0.99, 0.95, 0.9, 0.5, 0.05, 1 - 1e-6, 1 - 1e-9, rng.uniform(0.01, 0.99)]))


def _random_radius(rng: Generator, batch: int, pixel_range: float) -> float | Tensor:
    """One number, or one for each image."""
    radius = pixel_range * 10.0 ** rng.uniform(-4, 1, size=batch)
    return torch.from_numpy(radius) if rng.random() < 0.3 else float(radius[0])


def _random_box(rng: Generator, images: np.ndarray, pixel_range: float) -> solvers.Box:
    """A box that holds the images: [0, R], one that touches the extreme pixels, or a wider one."""
    darkest, brightest = float(images.min()), float(images.max())
    kind = rng.choice(["range", "tight", "wide"], p=[0.5, 0.3, 0.2])
    if kind == "tight" and darkest < brightest:
        return solvers.Box(darkest, brightest)
    low, high = min(0.0, darkest), max(pixel_range, brightest)
    if kind == "wide":
        return solvers.Box(low - 0.3 * pixel_range, high + 0.7 * pixel_range)
    if images.dtype == np.float32 and high > pixel_range:
        # Single precision rounds R outwards; the library compares in the images' own dtype.
        high = pixel_range
    return solvers.Box(low, high)


def random_window(rng: Generator, side: int) -> solvers.Window:
    """A window of 2 to 5 pixels that fits images of this smallest side."""
    size = int(rng.integers(2, min(side, 5) + 1))
    stride = size if rng.random() < 0.55 else int(rng.integers(1, size + 1))
    border = "full" if rng.random() < 0.6 else "valid"
    if rng.random() < 0.3:
        return solvers.Window.gaussian(float(rng.uniform(0.4, 3)), size, stride=stride, border=border)  # type: ignore[arg-type]
    return solvers.Window.uniform(size, stride=stride, border=border)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class MatrixProduct:
    """``J v`` for images v (B, C, H, W).

    Attributes:
        matrix: J, (F, C*H*W), float64.
    """

    matrix: np.ndarray

    def __call__(self, image: Tensor) -> Tensor:
        return image.flatten(1) @ torch.from_numpy(self.matrix).to(image.dtype).T


def matrix_operator(matrix: np.ndarray, shape: tuple[int, ...]) -> solvers.LinearOperator:
    """The products with an explicit matrix (F, C*H*W) for images of ``shape`` (C, H, W)."""

    def adjoint(features: Tensor) -> Tensor:
        return (features @ torch.from_numpy(matrix).to(features.dtype)).reshape(-1, *shape)

    return solvers.LinearOperator(MatrixProduct(matrix), adjoint)
