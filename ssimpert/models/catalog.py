"""Classifiers by name: those whose weights are installed with a package, timm's and torchvision's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssimpert.device import resolve_device
from ssimpert.errors import InputError, unknown_name
from ssimpert.models.classifier import Classifier
from ssimpert.models.embedded import EMBEDDED, EMBEDDED_MEAN, EMBEDDED_STD, EmbeddedModel
from ssimpert.models.forward_passes import outside_inference_mode
from ssimpert.models.labels import unknown_among_many
from ssimpert.models.weights import load_weights, load_weights_in_order, other_class_count, read_weights
from ssimpert.weights_path import RANDOM, check_weights_path

_RANDOM_SEED = 0


@dataclass(frozen=True)
class ModelInfo:
    """A row of :func:`models`.

    Attributes:
        name: what :func:`load_model` takes; NAME in capitals stands for any of the library's own names.
        description: one line.
        input_size: side of the images in pixels; None where it depends on NAME.
        weights: where the weights come from.
    """

    name: str
    description: str
    input_size: int | None
    weights: str


@dataclass(frozen=True)
class _Built:
    """A network, whose weights may still have to be loaded, and how its images are prepared."""

    network: nn.Module
    input_size: int
    mean: Sequence[float]
    std: Sequence[float]


def models() -> list[ModelInfo]:
    """The names that :func:`load_model` takes, a row each."""
    return [
        *(ModelInfo(row.name, row.description, row.input_size, _where(row)) for row in EMBEDDED.values()),
        ModelInfo("timm:NAME", "any classifier of timm, as timm:resnet50.a1_in1k", None, "downloaded, or a file"),
        ModelInfo(
            "torchvision:NAME",
            "any classifier of torchvision, as torchvision:mobilenet_v2",
            None,
            "downloaded, or a file",
        ),
    ]


@outside_inference_mode()  # weights made in that mode could never enter a graph
def load_model(name: str, weights: str | Path | None = None, device: str | torch.device = "auto") -> Classifier:
    """A frozen classifier that takes [0, 1] images (B, 3, H, W) and gives logits (B, K).

    Args:
        name: "efficientnet-lite0" (224 pixels a side), "efficientnet-lite1" (240), "efficientnet-lite2" (260),
            "timm:NAME" or "torchvision:NAME". The weights of efficientnet-lite0 are installed with the package, those
            of the other two with the extra ``models``, so these need no network access. With timm and torchvision,
            input size and normalisation are the library's own for that name.
        weights: None (default) for the published weights, which timm and torchvision download at first use; a path to
            a state dict (.pth, .pt, .safetensors), perhaps of a network that was trained on another number of classes;
            or "random" for the same random initialisation every time.
        device: "auto" (default: a CUDA device where there is one, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        InputError: an unknown name (near matches are listed), an unusable device, or weights that aren't installed or
            can't be downloaded, read or fitted to the network.
    """
    resolved = resolve_device(device)
    if not isinstance(name, str):
        raise InputError(f"a model's name must be a string such as 'efficientnet-lite0', got {name!r}")
    check_weights_path(weights)
    built = _build(name, weights)
    if weights is not None and weights != RANDOM:
        state = read_weights(weights)
        classes = other_class_count(built.network, state)
        if classes is not None:
            built = _build(name, weights, num_classes=classes)
        load_weights(built.network, state, weights, name)
    # A timm backbone without a head declares no classes and gives features, which look like logits.
    if getattr(built.network, "num_classes", None) == 0:
        raise InputError(f"model {name!r} gives no class logits; choose one with a classifier head")
    return Classifier(
        built.network,
        name=name,
        input_size=built.input_size,
        mean=built.mean,
        std=built.std,
    ).to(resolved)


def _build(name: str, weights: str | Path | None, num_classes: int | None = None) -> _Built:
    """The network of this name, with its usual number of classes or with another one."""
    options = {} if num_classes is None else {"num_classes": num_classes}
    library, separator, inner = name.partition(":")
    if name in EMBEDDED:
        return _build_embedded(EMBEDDED[name], weights, options)
    if separator and library == "timm":
        return _build_timm(inner, weights, options)
    if separator and library == "torchvision":
        return _build_torchvision(inner, weights, options)
    raise _unknown_model(name)


def _where(row: EmbeddedModel) -> str:
    if not row.extra:
        return "installed with the package"
    return "installed" if row.installed else f"not installed: pip install 'ssimpert[{row.extra}]'"


def _build_embedded(row: EmbeddedModel, weights: str | Path | None, options: Mapping[str, Any]) -> _Built:
    path = row.weights_path() if weights is None else None
    network = _create_timm(row.architecture, options)
    if path is not None:
        load_weights_in_order(network, path, row.name)
    return _Built(network, row.input_size, EMBEDDED_MEAN, EMBEDDED_STD)


def _build_timm(name: str, weights: str | Path | None, options: Mapping[str, Any]) -> _Built:
    import timm

    if not timm.is_model(name):
        hint = f"timm has {len(timm.list_models())} models, see timm.list_models()"
        raise unknown_among_many("timm model", name, timm.list_models(), hint)
    architecture, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise unknown_name(f"weights tag of timm:{architecture}", tag, tags)
    if weights is None:
        if not timm.models.is_model_pretrained(name):
            raise InputError(f"timm publishes no weights for {name!r}; give weights=PATH or weights='random'")
        network = _download(f"timm:{name}", lambda: timm.create_model(name, pretrained=True))
    else:
        network = _create_timm(name, options)
    config = timm.data.resolve_model_data_config(network)
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise InputError(f"model 'timm:{name}' takes {channels}x{height}x{width} images; supported: RGB, square")
    return _Built(network, height, config["mean"], config["std"])


def _create_timm(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    import timm

    return _seeded(lambda: timm.create_model(name, pretrained=False, **(options or {})))


def _build_torchvision(name: str, weights: str | Path | None, options: Mapping[str, Any]) -> _Built:
    import torchvision.models as tv_models

    names = tv_models.list_models(module=tv_models)
    if name not in names:
        raise unknown_name("torchvision model", name, names)
    published = tv_models.get_model_weights(name).DEFAULT
    preset = published.transforms()
    if weights is None:
        network = _download(f"torchvision:{name}", lambda: tv_models.get_model(name, weights=published, progress=False))
    else:
        # The published weights of these two were trained on pixels that the network itself rescales once more.
        rescaled = {"googlenet", "inception_v3"}
        extra: dict[str, Any] = {"transform_input": True, "init_weights": True} if name in rescaled else {}
        network = _seeded(lambda: tv_models.get_model(name, weights=None, **extra, **options))
    return _Built(network, preset.crop_size[0], preset.mean, preset.std)


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Call ``build`` with a fixed seed; the caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        return build()


def _download(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:
        # The hub clients raise a dozen unrelated types of errors. The remedy is the same for all.
        first = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"can't get the published weights of {name!r} ({type(error).__name__}: {first}); "
            "give weights=PATH (a state-dict file) or weights='random'"
        ) from error


def _unknown_model(name: str) -> InputError:
    import timm
    import torchvision.models as tv_models

    everything = list(EMBEDDED)
    everything += [f"torchvision:{inner}" for inner in tv_models.list_models(module=tv_models)]
    everything += [f"timm:{inner}" for inner in timm.list_models()]
    near = difflib.get_close_matches(name, everything, n=5, cutoff=0.5)
    return unknown_name("model", name, near or [row.name for row in models()])
