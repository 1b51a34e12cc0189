"""What only models and data can tell of a study, asked before any unit is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ssimpert.analysis.attributions.layer_gradients import module_of_layer
from ssimpert.data.datasets.item import Dataset
from ssimpert.errors import InputError
from ssimpert.formulations.feature_balls import ConstrainedBall, FeatureBallSet, PenalisedBall, target_margin
from ssimpert.linearization.margins import margin_for
from ssimpert.perturbation.baselines.foolbox_import import require_foolbox
from ssimpert.study.class_labels import class_labels
from ssimpert.study.loaded_model import LoadedModel, load_study_model
from ssimpert.study.sections.analysis import OBJECT_METRICS
from ssimpert.study.sections.data import DataSection
from ssimpert.study.sections.section import OptionError, at_key
from ssimpert.study.study import Study


def model_identities(study: Study, device: str | torch.device = "cpu") -> tuple[str, ...]:
    """The identity of every model of a study, in order; every model is loaded, one after the other.

    Args:
        study: the study.
        device: where models are loaded; the identity does not depend on it.

    Raises:
        InputError: a model can't be loaded.
    """
    return tuple(load_study_model(section, device).identity for section in study.models)


def check_ready(study: Study, device: str | torch.device = "cpu") -> tuple[str, ...]:
    """Check what only models and data can tell: files, weights, layers, classes, image sizes and packages.

    Every data set is opened and every model loaded, one after the other. Nothing is computed.

    Args:
        study: the study.
        device: where models are loaded.

    Returns:
        The identity of every model, as :func:`model_identities`, since the models are loaded in any case.

    Raises:
        InputError: something is missing or does not fit; the message names the section and what would be valid.
    """
    datasets = []
    for index, section in enumerate(study.data):
        with _of_section("data", index, f"data {section.label!r}"):
            datasets.append(_checked_data(study, section))
    if study.attacks:
        with _of_section("attack", 0, f"attack {study.attacks[0].label!r}"):
            require_foolbox()
    identities = []
    for index, model_section in enumerate(study.models):
        with _of_section("model", index, f"model {model_section.label!r}"):
            loaded = load_study_model(model_section, device)
        _check_model(study, loaded)
        _check_label_tables(study, datasets, loaded)
        identities.append(loaded.identity)
    return tuple(identities)


def _checked_data(study: Study, section: DataSection) -> Dataset:
    """The data set of a section; :class:`InputError` where it is empty, or lacks the objects that metrics ask for."""
    dataset = section.open()
    if len(dataset) == 0:
        raise OptionError("has no item; give a folder or a list that has some", key="kind")
    if study.analysis.needs_objects and not dataset.has_objects:
        asking = [name for name in study.analysis.metrics if name in OBJECT_METRICS]
        raise OptionError(
            f"has no boxes and no masks, which the metrics {', '.join(asking)} need; give their files, or leave the "
            "metrics out",
            key="kind",
        )
    return dataset


def _check_label_tables(study: Study, datasets: Sequence[Dataset], loaded: LoadedModel) -> None:
    """Raise :class:`OptionError` where metrics ask for a class's objects and no table fits the model's labels."""
    if not study.analysis.needs_objects:
        return
    for index, (section, dataset) in enumerate(zip(study.data, datasets, strict=True)):
        with _of_section("data", index, f"data {section.label!r} with model {loaded.section.label!r}"):
            class_labels(dataset, loaded.classifier.labels)


def _check_model(study: Study, loaded: LoadedModel) -> None:
    """Raise :class:`OptionError` where a model has no class or layer that the study names, or too small images."""
    classifier, label = loaded.classifier, loaded.section.label
    for index, formulation in enumerate(study.formulations):
        with _of_section("formulation", index, f"formulation {formulation.name!r} with model {label!r}"):
            constraint = formulation.constraint_at(formulation.levels[0])
            if isinstance(constraint, FeatureBallSet | PenalisedBall | ConstrainedBall):
                with at_key("layers"):
                    constraint.check_layers(classifier)
            with at_key("target"):
                margin_for(target_margin(formulation.target), classifier).check(len(classifier.labels))
    for index, attack in enumerate(study.attacks):
        with _of_section("attack", index, f"attack {attack.label!r} with model {label!r}"), at_key("target"):
            margin_for(target_margin(attack.target), classifier).check(len(classifier.labels))
    with _of_section("analysis", 0, f"analysis with model {label!r}"):
        if study.analysis.measures_maps:
            with at_key("layer"):
                module_of_layer(classifier, study.analysis.layer)
        pixels = loaded.input_size**2
        if study.analysis.used_shifts >= pixels:
            raise OptionError(
                f"images of {loaded.input_size}x{loaded.input_size} pixels have {pixels - 1} shifts, got shifts = "
                f"{study.analysis.used_shifts}; 0 leaves them out",
                key="shifts",
            )


@contextmanager
def _of_section(section: str, index: int, label: str) -> Iterator[None]:
    """Let errors within this block say which section they are about."""
    try:
        yield
    except OptionError as error:
        raise error.within(section, index, label) from error
    except InputError as error:
        raise OptionError(str(error)).within(section, index, label) from error
