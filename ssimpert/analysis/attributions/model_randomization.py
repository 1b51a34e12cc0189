"""Randomised models and labels. A map that does not change with them explains neither the weights nor the class.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity checks for saliency maps", NeurIPS 2018, section 3: the test by
randomised model parameters, cascading and independent. :func:`random_labels` asks the same question of the class. The
paper retrains on permuted labels; here the model stays, and another class is explained.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from solvers.validation import as_integer, as_list, shown
from ssimpert.errors import InputError, unknown_name
from ssimpert.models.forward_passes import pass_images
from ssimpert.validation import Names, check_images, check_seed


def randomizable_layers(model: nn.Module) -> tuple[str, ...]:
    """The names of the modules that hold parameters themselves, and of all batch norms; the top layer comes first.

    The top layer is the module that was registered last. In almost every classifier this module gives the logits. Where
    the order of registration is not the order of the forward pass, give :func:`randomized_model` names and no number.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) or next(module.parameters(recurse=False), None) is not None
    ]
    return tuple(reversed(names))


def randomized_model(
    model: nn.Module,
    layers: int | Literal["all"] | Names = "all",
    *,
    seed: int,
    independent: bool = False,
    calibration: Tensor | None = None,
) -> nn.Module:
    """A copy of the model with some layers drawn anew; ``model`` and the random state stay as they are.

    A layer with ``reset_parameters`` gets the initialisation of its class. Other parameters (a position embedding, a
    layer scale) are drawn from a normal distribution with mean 0 and with the root mean square of their values as its
    standard deviation; parameters that are zero stay zero.

    A batch norm gets scale 1, shift 0, running mean 0 and running variance 1, as in an untrained network. In evaluation
    mode nothing then normalises the features, and the features shrink from layer to layer: by a factor of 1e-10 in
    efficientnet-lite0, whose logits then hardly depend on the image. ``calibration`` gives the randomised batch norms,
    and no others, the statistics that they would have in training mode on those images.

    Args:
        model: any module, frozen or not, in either mode; the copy keeps its flags, mode, dtype and device.
        layers: ``"all"`` (default), a number, or names of layers from :func:`randomizable_layers`. A number n stands
            for the top n layers together (cascading randomisation), or for the n-th layer from the top alone if
            ``independent``.
        seed: an integer from 0. The draw of a layer depends on the seed and on the layer's place only. A longer cascade
            therefore has the same draws as a shorter one, and so has each independent draw. The draws are the same on
            every device.
        independent: see ``layers``; default False.
        calibration: images (B, C, H, W) in the range of the model, on which the randomised batch norms take their means
            and variances; default ``None``.

    Raises:
        InputError: an unknown layer, a number out of range, or a model without parameters.
    """
    layer_names = randomizable_layers(model)
    chosen = _names_of(layer_names, layers, independent)
    seed = check_seed(seed)
    if calibration is not None:
        check_images("calibration", calibration)
    generator = torch.Generator().manual_seed(seed)
    seeds = dict(zip(layer_names, torch.randint(2**62, (len(layer_names),), generator=generator).tolist(), strict=True))
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

    The result is on the device of ``label``. A draw depends on the seed and on the place in the batch, and not on the
    other labels.

    Raises:
        InputError: labels that are not integers in 0 ... classes - 1, or fewer than two classes.
    """
    count = as_integer(classes)
    if count is None or count < 2:
        raise InputError(f"classes must be 2 or more to have another class, got {shown(classes)}")
    seed = check_seed(seed)
    if not isinstance(label, Tensor) or label.ndim != 1 or label.is_floating_point() or label.dtype == torch.bool:
        got = f"{tuple(label.shape)} {label.dtype}" if isinstance(label, Tensor) else type(label).__name__
        raise InputError(f"label must be a (B,) tensor of integers, got {got}")
    outside = [value for value in label.tolist() if not 0 <= value < count]
    if outside:
        raise InputError(f"label must lie in 0 ... {count - 1}, got {outside[0]}")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(count - 1, (len(label),), generator=generator).to(label.device)
    return draws + (draws >= label)


def _names_of(layer_names: tuple[str, ...], layers: int | str | Names, independent: bool) -> tuple[str, ...]:
    if not layer_names:
        raise InputError("the model has no parameters to randomise")
    number = as_integer(layers)
    if number is not None:
        if not 1 <= number <= len(layer_names):
            raise InputError(f"layers must lie in 1 ... {len(layer_names)} for this model, got {number}")
        return layer_names[number - 1 : number] if independent else layer_names[:number]
    if independent:
        raise InputError(
            f"independent randomisation needs a number of a layer from the top, got layers={shown(layers)}"
        )
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f"layers must be 'all', a number or a list of names, got {layers!r}")
        return layer_names
    names = as_list(layers)
    if not names:
        raise InputError(f"layers must be 'all', a number or a list of names, got {shown(layers)}")
    for name in names:
        if name not in layer_names:
            raise unknown_name("layer", str(name), layer_names)
    return tuple(names)


def _draw(module: nn.Module, seed: int) -> None:
    if hasattr(module, "reset_parameters"):
        # The layer is drawn on the CPU, because each device has its own sequence of random numbers.
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


def _calibrate(model: nn.Module, randomized_layers: list[nn.Module], images: Tensor) -> None:
    """Give the drawn batch norms their statistics by one forward pass, in which they normalise by the batch."""
    norms = [module for module in randomized_layers if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(module.training, module.momentum) for module in norms]
    try:
        for module in norms:
            module.train()
            module.momentum = 1.0
        pass_images(model, images)
    finally:
        for module, (training, momentum) in zip(norms, before, strict=True):
            module.train(training)
            module.momentum = momentum
