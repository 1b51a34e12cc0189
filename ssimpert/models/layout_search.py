"""The one layout of a layer, found out by one or two passes of an image.

The first pass leaves one layout in most networks (:mod:`ssimpert.models.layout_candidates`). Where two candidates or
none are left, or where the candidate rests on proportions alone, a second pass of a larger image decides. This image is
never square: the axes that grow are rows and columns. Many transformers refuse such an image; then the layout must be
given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.forward_passes import Model
from ssimpert.models.layer_outputs import LayerCall, no_run, observable_layers, several_runs, watch_layers
from ssimpert.models.layout_candidates import LayoutCandidates
from ssimpert.models.layouts import Layout, MapLayout, check_layout


def find_layout(
    network: Model,
    name: str,
    module: nn.Module,
    images: Tensor,
    *,
    owner: str,
    layout: Layout | None = None,
    prefix_tokens: int | None = None,
) -> MapLayout:
    """The layout of one layer, from a pass of the first of ``images`` (B, C, H, W).

    Args:
        network: what is called with the images.
        name: what errors call the layer.
        module: the layer.
        images: images that the network takes.
        owner: what errors call the network (:func:`~ssimpert.models.forward_passes.describe_model`).
        layout: the layout that the caller gave, which is checked; ``None`` to find it out.
        prefix_tokens: the number that the caller gave; ``None`` to find it out.

    Raises:
        InputError: a layer that does not run once, that gives no single tensor, that has no feature map, or whose
            layout is ambiguous; the ways to say it are named.
    """
    kind, prefix_tokens = check_layout(layout, prefix_tokens)
    if kind in (None, "channels_first") and isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        return MapLayout("channels_first")  # known without a pass
    layers = observable_layers(network) if isinstance(network, nn.Module) else {}
    if not any(layer is module for layer in layers.values()):
        layers[name] = module
    calls = watch_layers(network, layers, images[:1])
    runs = [call for call in calls if call.module is module]
    if not runs and isinstance(network, nn.Module):
        raise no_run(name, owner, network, module)
    if len(runs) != 1:
        raise several_runs(name, owner, len(runs))
    shape = (1, *images.shape[1:])
    candidates = LayoutCandidates(network, calls, shape, layout, prefix_tokens)
    found = candidates.of(runs[0])
    if kind is None and (len(found) != 1 or not candidates.grids):
        grown = _from_larger_image(network, module, runs[0], images[:1], found)
        found = found if grown is None else grown
    return _settle(found, replace(runs[0], name=name), owner, images.shape, kind)


def _settle(
    found: Sequence[MapLayout], call: LayerCall, owner: str, images_shape: Sequence[int], given: Layout | None
) -> MapLayout:
    """The one layout in ``found``.

    Args:
        found: the layouts that the layer can have.
        call: the layer's run.
        owner: what errors call the network.
        images_shape: the shape (B, C, H, W) of the images.
        given: the layout that the caller gave, if any.

    Raises:
        InputError: there is none, or more than one.
    """
    if len(found) == 1:
        return found[0]
    where = f"layer {call.name!r} of {owner}"
    if call.shape is None:
        raise InputError(f"{where} gives {call.returned}; name a layer that gives one tensor with a feature map")
    if found:
        numbers = sorted({layout.prefix_tokens for layout in found})
        several = f" with {' or '.join(str(n) for n in numbers)} prefix tokens" if len(numbers) > 1 else ""
        kinds = " or ".join(dict.fromkeys(layout.kind for layout in found))
        if kinds == "tokens" and not several:
            kinds = "tokens, or have its tokens in the last axis"
        raise InputError(
            f"the layout of {where} is ambiguous: its output {call.returned} may be {kinds}{several}; say which with "
            "layout='channels_first', 'channels_last', or 'tokens' and prefix_tokens="
        )
    size = "x".join(str(side) for side in images_shape[-2:])
    if given is not None:
        raise InputError(f"{where} gives {call.returned} for an image of {size} pixels, which is not {given!r}")
    raise InputError(
        f"{where} has no feature maps (B, C, h, w), (B, h, w, C) or (B, tokens, C): its output is {call.returned} for "
        f"an image of {size} pixels; name another layer, or say its layout with layout= and prefix_tokens="
    )


def _from_larger_image(
    network: Model, module: nn.Module, call: LayerCall, image: Tensor, found: Sequence[MapLayout]
) -> list[MapLayout] | None:
    """The layout whose rows and columns grow with the image, if any does; None where the network refuses such an image.

    Args:
        network: what is called with the image.
        module: the layer.
        call: the layer's run on ``image``.
        image: (1, C, H, W).
        found: the layouts that the layer can have.
    """
    height, width = image.shape[-2:]
    # Never square, so that rows and columns grow apart; an attention matrix stays square.
    larger = image.new_zeros(1, image.shape[1], height + height // 2, 2 * max(height, width))
    try:
        calls = watch_layers(network, {call.name: module}, larger)
    except Exception:  # a network may refuse other sizes in any way
        return None
    before, after = call.shape, calls[0].shape if len(calls) == 1 else None
    if before is None or after is None or len(before) != len(after) or not before[0] == after[0] == 1:
        return []
    grown = tuple(axis for axis in range(1, len(before)) if after[axis] != before[axis])
    if len(before) == 3:
        return list(found[:1]) if grown == (1,) and len(set(found)) == 1 else []
    if grown == (2, 3) and after[2] != after[3]:
        return [MapLayout("channels_first")]
    if grown == (1, 2) and after[1] != after[2]:
        return [MapLayout("channels_last")]
    return []
