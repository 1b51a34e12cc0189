"""Linear problems from real photos and real gradients. On synthetic ones first-order methods look too good."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

import solvers
import ssimpert
from solvers.constraints import Constraint
from ssimpert.models import Classifier

PHOTOS = ("chelsea", "coffee", "camera", "rocket", "astronaut", "motorcycle")


@lru_cache(maxsize=1)
def classifier() -> Classifier:
    """The embedded classifier, on the CPU, loaded once."""
    return ssimpert.load_model("efficientnet-lite0", device="cpu")


@lru_cache(maxsize=32)
def photo_and_gradient(name: str) -> tuple[Tensor, Tensor]:
    """A photo (1, 3, 224, 224) and the gradient of its untargeted margin, float64."""
    model = classifier()
    image = ssimpert.load_image(name, size=model.input_size)
    gradient = ssimpert.linearize(model, image, model.predict(image), ssimpert.Untargeted()).gradient
    return image.double(), gradient.double()


def linear_problem(name: str, constraints: list[Constraint], size: int = 224) -> solvers.LinearProblem:
    """The photo's problem, cut to the central square of ``size`` pixels."""
    image, gradient = photo_and_gradient(name)
    start = (image.shape[-1] - size) // 2
    cut = (..., slice(start, start + size), slice(start, start + size))
    return solvers.LinearProblem(gradient[cut], image[cut], constraints)


def pin_threads(count: int = 1) -> None:
    """Let torch use ``count`` threads. Two threads on two busy cores can be twenty times slower than one."""
    torch.set_num_threads(count)
