"""Randomised models and labels: a map that doesn't notice them explains neither the weights nor the class.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity checks for saliency maps", NeurIPS 2018, section 3: the model
parameter randomisation test, cascading and independent. :func:`random_labels` asks the same of the class: the paper
retrains on permuted labels; here the model stays and another class is explained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssimpert.errors import InputError, unknown_name
from ssimpert.validation import check_images, check_seed


def randomizable_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that hold parameters of their own, and of all batch norms, the top one first.

    The top is the module registered last, in almost every classifier the one that gives the logits; where the order
    of registration is not that of the forward pass, give :func:`randomized_model` names instead of a number.
    """
    own = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) or next(module.parameters(recurse=False), None) is not None
    ]
    return tuple(reversed(own))


def randomized_model(
    model: nn.Module,
    layers: int | Literal["all"] | Sequence[str] = "all",
    *,
    seed: int,
    independent: bool = False,
    calibration: Tensor | None = None,
) -> nn.Module:
    """A copy of the model with some layers drawn anew; ``model`` and the random state stay as they are.

    Args:
        model: any module, frozen or not, in either mode; the copy keeps flags, mode, dtype and device.
        layers: ``"all"`` (default); a number n: the top n layers together (cascading randomisation), or the n-th from
            the top alone if ``independent``; or the names of layers. :func:`randomizable_layers` lists them.
        seed: of the drawing. A layer's draw depends on its place and the seed only, so a cascade keeps the layers
            that it has drawn, and each independent draw is the cascade's. The same on every device.
        independent: see ``layers``.
        calibration: images (B, C, H, W) in the model's range, on which the randomised batch norms take their means
            and variances; default ``None``.

    A layer with ``reset_parameters`` gets the initialisation of its own class. Other parameters (a position
    embedding, a layer scale) are drawn from a normal distribution with mean 0 and the root mean square of their
    values; those that are zero stay zero.

    Batch norm: scale 1, shift 0, and, as an untrained network has them, running mean 0 and variance 1. Nothing then
    normalises the features in evaluation mode, and they shrink layer by layer: by 1e-10 in efficientnet-lite0, whose
    logits hardly depend on the image any more. ``calibration`` gives the batch norms that were randomised (no others)
    the statistics that they would have in training mode on those images.

    Raises:
        InputError: unknown layer, a number out of range, a model without parameters.
    """
    known = randomizable_layers(model)
    chosen = _chosen(known, layers, independent)
    check_seed(seed)
    if calibration is not None:
        check_images("calibration", calibration)
    generator = torch.Generator().manual_seed(seed)
    seeds = dict(zip(known, torch.randint(2**62, (len(known),), generator=generator).tolist(), strict=True))
    # A parameter made under inference_mode could never be used for a gradient afterwards.
    with torch.inference_mode(False), torch.no_grad():
        randomized = copy.deepcopy(model)
        for name in chosen:
            _draw(randomized.get_submodule(name), seeds[name])
        if calibration is not None:
            _calibrate(randomized, [randomized.get_submodule(name) for name in chosen], calibration)
    return randomized


def random_labels(label: Tensor, classes: int, *, seed: int) -> Tensor:
    """For each label another class, uniform over the other ``classes - 1``: (B,) integers -> (B,) int64.

    On the labels' device. A draw depends on the seed and on the place in the batch, not on the label's neighbours.

    Raises:
        InputError: labels that aren't integers in 0 ... classes - 1, fewer than two classes.
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise InputError(f"classes must be 2 or more to have another class, got {classes!r}")
    check_seed(seed)
    if not isinstance(label, Tensor) or label.ndim != 1 or label.is_floating_point() or label.dtype == torch.bool:
        found = f"{tuple(label.shape)} {label.dtype}" if isinstance(label, Tensor) else type(label).__name__
        raise InputError(f"label must be a (B,) tensor of integers, got {found}")
    outside = [value for value in label.tolist() if not 0 <= value < classes]
    if outside:
        raise InputError(f"label must lie in 0 ... {classes - 1}, got {outside[0]}")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(classes - 1, (len(label),), generator=generator).to(label.device)
    return drawn + (drawn >= label)


def _chosen(known: tuple[str, ...], layers: int | str | Sequence[str], independent: bool) -> tuple[str, ...]:
    if not known:
        raise InputError("the model has no parameters to randomise")
    if isinstance(layers, int) and not isinstance(layers, bool):
        if not 1 <= layers <= len(known):
            raise InputError(f"layers must lie in 1 ... {len(known)} for this model, got {layers}")
        return known[layers - 1 : layers] if independent else known[:layers]
    if independent:
        raise InputError(f"independent randomisation needs a number of a layer from the top, got layers={layers!r}")
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f"layers must be 'all', a number or a list of names, got {layers!r}")
        return known
    if not isinstance(layers, Sequence) or not layers:
        raise InputError(f"layers must be 'all', a number or a list of names, got {layers!r}")
    for name in layers:
        if name not in known:
            raise unknown_name("layer", str(name), known)
    return tuple(layers)


def _draw(module: nn.Module, seed: int) -> None:
    if hasattr(module, "reset_parameters"):
        # Drawn on the CPU, for each device has its own sequence of random numbers.
        fresh: Any = copy.deepcopy(module).cpu()
        state = torch.default_generator.get_state()
        try:
            torch.default_generator.manual_seed(seed)
            fresh.reset_parameters()
        finally:
            torch.default_generator.set_state(state)
        module.load_state_dict(fresh.state_dict())
        return
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters(recurse=False):
        size = parameter.double().square().mean().sqrt()
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(size * draw.to(parameter.device))


def _calibrate(model: nn.Module, drawn: list[nn.Module], images: Tensor) -> None:
    """Statistics of the drawn batch norms from one forward pass, in which they normalise by the batch."""
    norms = [module for module in drawn if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(module.training, module.momentum) for module in norms]
    try:
        for module in norms:
            module.train()
            module.momentum = 1.0
        model(images)
    finally:
        for module, (training, momentum) in zip(norms, before, strict=True):
            module.train(training)
            module.momentum = momentum
