"""A model of a study made ready: the classifier, and what identifies it in keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch

from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model
from ssimpert.models.weights_hash import weights_hash
from ssimpert.study.keys import canonical_json
from ssimpert.study.model_labels import class_names
from ssimpert.study.sections.model import ModelSection


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A classifier and its section.

    Attributes:
        section: as the study describes the model.
        classifier: on its device.
    """

    section: ModelSection
    classifier: Classifier

    @property
    def input_size(self) -> int:
        """The side of the model's square images, in pixels."""
        return self.section.input_size or self.classifier.input_size

    @cached_property
    def weights_hash(self) -> str:
        """The hexadecimal SHA-256 of the network's weights and buffers: names, types, shapes and values."""
        return weights_hash(self.classifier.network)

    @cached_property
    def preparation(self) -> dict[str, object]:
        """How a photo becomes the network's input, and what its classes are called."""
        classifier = self.classifier
        return {
            "input_size": self.input_size,
            "mean": classifier.mean.flatten().double().tolist(),
            "std": classifier.std.flatten().double().tolist(),
            "labels": list(classifier.labels),
        }

    @cached_property
    def identity(self) -> str:
        """The hexadecimal SHA-256 of the model's name, its weights and its preparation of images."""
        content = {"name": self.section.name, "weights": self.weights_hash, "preparation": self.preparation}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def load_study_model(section: ModelSection, device: str | torch.device = "auto") -> LoadedModel:
    """The model of ``section`` on ``device``.

    Raises:
        InputError: an unknown name, weights that can't be had or don't fit, or another number of labels than classes.
    """
    classifier = load_model(section.name, section.weights, device)
    if section.labels is not None:
        names = class_names(section.labels)
        if len(names) != len(classifier.labels):
            raise InputError(
                f"model {section.label!r} has {len(classifier.labels)} classes, but labels = {_shown(section.labels)} "
                f"name {len(names)}"
            )
        classifier.labels = names
    return LoadedModel(section, classifier)


def _shown(labels: str | tuple[str, ...]) -> str:
    return repr(labels) if isinstance(labels, str) else "the names given"
