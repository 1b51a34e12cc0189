"""``[[model]]``: a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ssimpert.study.sections.section import OptionError, Section, read_name, read_names, read_path
from ssimpert.validation import check_count


@dataclass(frozen=True, kw_only=True)
class ModelSection(Section):
    """A classifier by its name.

    Attributes:
        name: as :func:`ssimpert.load_model` takes it, such as ``"efficientnet-lite0"`` or ``"timm:resnet18"``.
        weights: a file with the state dict, or ``"random"``; default: the published weights.
        alias: what tables call the model; default its name. Two models of one name need one.
        labels: the names of the model's classes: a list, or a text file with a name in each line; default: ImageNet's
            names for 1000 classes, numbers for any other count.
        input_size: the side of the images in pixels; default: the model's own.
    """

    section: ClassVar[str] = "model"

    name: str
    weights: str | None = None
    alias: str | None = None
    labels: str | tuple[str, ...] | None = None
    input_size: int | None = None

    def __post_init__(self) -> None:
        read_name("name", self.name)
        if self.alias is not None:
            read_name("alias", self.alias)
        if self.weights is not None:
            object.__setattr__(self, "weights", read_path("weights", self.weights))
        if self.labels is not None and not isinstance(self.labels, str):
            labels = read_names("labels", self.labels)
            if len(labels) < 2:
                raise OptionError(f"labels must name at least two classes, got {labels!r}", key="labels")
            object.__setattr__(self, "labels", labels)
        if self.input_size is not None:
            object.__setattr__(self, "input_size", check_count("input_size", self.input_size))

    @property
    def label(self) -> str:
        """What tables call the model."""
        return self.alias or self.name
