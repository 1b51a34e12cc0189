"""Real photos with real gradients, and small synthetic images, for the tests of ``solvers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import solvers
import ssimpert
from ssimpert.models import Classifier

PHOTOS = ("chelsea", "coffee", "rocket", "camera", "astronaut")
# Near-black corners, where the box is active and the means have almost no room.
DARK = {"astronaut": (150, 150), "coffee": (0, 0), "rocket": (0, 0)}


@dataclass(frozen=True)
class Crop:
    """A photo's crop and the gradient of the classifier's margin there, (1, C, H, W) each, float64."""

    reference: Tensor
    gradient: Tensor
    name: str

    def inside(self, lower: float = 0.05, upper: float = 0.95) -> Crop:
        """The photo pulled into [lower, upper], so that small perturbations meet no box."""
        return Crop(lower + (upper - lower) * self.reference, self.gradient, self.name)


@dataclass(frozen=True)
class Photos:
    """Photos at 224x224 with gradients of the untargeted or a targeted margin."""

    reference: Tensor
    gradients: dict[str, Tensor]

    def crop(self, name: str, top: int, left: int, size: int, *, channels: int = 3, margin: str = "untargeted") -> Crop:
        image = PHOTOS.index(name)
        rows, columns = slice(top, top + size), slice(left, left + size)
        return Crop(
            self.reference[image : image + 1, :channels, rows, columns].contiguous(),
            self.gradients[margin][image : image + 1, :channels, rows, columns].contiguous(),
            name,
        )

    def random_crops(self, count: int, size: int, *, seed: int, channels: int = 3) -> Iterator[Crop]:
        """Crops of all photos in turn at random places, both margins."""
        generator = torch.Generator().manual_seed(seed)
        for k in range(count):
            top, left = torch.randint(224 - size + 1, (2,), generator=generator).tolist()
            margin = ("untargeted", "targeted")[k // len(PHOTOS) % 2]
            yield self.crop(PHOTOS[k % len(PHOTOS)], top, left, size, channels=channels, margin=margin)


@pytest.fixture(scope="session")
def photos(model: Classifier) -> Photos:
    images = torch.cat([ssimpert.load_image(name, size=model.input_size) for name in PHOTOS])
    with torch.no_grad():
        label = model(images).argmax(dim=1)
    gradients = {
        "untargeted": ssimpert.linearize(model, images, label, ssimpert.Untargeted()).gradient.double(),
        "targeted": ssimpert.linearize(model, images, label, ssimpert.Targeted(207)).gradient.double(),
    }
    return Photos(images.double(), gradients)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def uniform(generator: torch.Generator) -> Callable[..., Tensor]:
    """Pixels in [0.05, 0.95], float64."""

    def draw(*shape: int) -> Tensor:
        return 0.05 + 0.9 * torch.rand(*shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def normal(generator: torch.Generator) -> Callable[..., Tensor]:
    """Standard normal numbers, float64."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def registered() -> Iterator[Callable[[str], str]]:
    """Names of methods to forget after the test."""
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return name

    yield note
    for name in names:
        solvers.unregister_method(name)
