"""Where a layer's output has its rows, columns and channels: found out, or given by the caller.

Networks hold a feature map in one of three layouts:

* ``channels_first``: (B, C, H, W), the convolutional networks;
* ``channels_last``: (B, H, W, C), Swin transformers and the inside of ConvNeXt blocks;
* ``tokens``: (B, N, C), one token for each patch in reading order, N = H W. Prefix tokens may stand in front of them: a
  class token (ViT), a distillation token (DeiT), register tokens. They have no place in the image.

The number of axes does not tell: (1, 7, 7, 768) and (1, 768, 7, 7) both have four. A layout is found from one forward
pass of one image, with hooks on all layers (:func:`watch_layers`), in this order:

1. Modules whose class fixes the layout: convolutions, batch norms and poolings (channels first), ``nn.LayerNorm``
   (channels last). Their outputs also show which *grids* (H, W) the network works on. The number of channels of other
   modules with parameters (``LayerNorm2d``, ``nn.Linear``) tells their channel axis.
2. Other outputs with four axes: rows and columns must be one of these grids. In a network without such modules they
   must have exactly the image's proportions. An attention matrix, whose sides are as long as a list of tokens, is no
   feature map. Where both readings remain, the modules that tell a layout decide, if all of them tell the same one.
3. Outputs with three axes: N minus the prefix tokens must fill one of these grids, or a grid with exactly the image's
   proportions. timm's networks say how many prefix tokens they have (``num_prefix_tokens``).
4. Where this leaves two readings or none, or rests on proportions alone, a second pass of a larger image that is never
   square: the axes that grow are rows and columns. Many transformers refuse such an image; then the layout must be
   given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError, unknown_name
from ssimpert.models.forward_passes import Model, outside_inference_mode, pass_images
from ssimpert.models.layer_outputs import (
    describe_output,
    no_run,
    observable_layers,
    on_layer_outputs,
    several_runs,
)
from ssimpert.validation import check_count

Layout = Literal["channels_first", "channels_last", "tokens"]

MAX_PREFIX_TOKENS = 16
"""The most prefix tokens that are looked for. DINOv2 with registers has 5; Darcet et al. (ICLR 2024) tried up to 16."""

Grid = tuple[int, int]
"""Rows and columns."""

_CHANNELS_FIRST = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.LocalResponseNorm, nn.Dropout2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.FractionalMaxPool2d),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.GroupNorm),
)
# Where a module keeps the number of its output's channels. nn.LayerNorm has a tuple.
_CHANNEL_COUNTS = ("out_channels", "num_features", "num_channels", "out_features", "normalized_shape")


@dataclass(frozen=True)
class MapLayout:
    """Where the outputs of one layer have their feature map.

    Attributes:
        kind: see :data:`Layout`.
        prefix_tokens: how many tokens stand in front of those of the patches; 0 for the other kinds.
    """

    kind: Layout
    prefix_tokens: int = 0

    def feature_map(self, output: Tensor, images_shape: Sequence[int]) -> Tensor:
        """The feature map (B, C, h, w) in ``output``, a view where possible; prefix tokens are left out.

        Args:
            output: what the layer gave, in this layout.
            images_shape: the shape (B, C, H, W) of the images. H and W say how tokens fold to rows and columns.

        Raises:
            InputError: an output that is not in this layout.
        """
        axes = 3 if self.kind == "tokens" else 4
        if output.ndim != axes:
            raise InputError(f"which does not have the {axes} axes of {self.kind!r}")
        if output.shape[0] != images_shape[0]:
            raise InputError(f"whose first axis is not that of the {images_shape[0]} images")
        if self.kind == "channels_first":
            return output
        if self.kind == "channels_last":
            return output.permute(0, 3, 1, 2)
        grid = fold_tokens(output.shape[1] - self.prefix_tokens, (images_shape[-2], images_shape[-1]))
        if grid is None:
            raise InputError(
                f"of which {self.prefix_tokens} are prefix tokens; the others don't fold to rows and columns of an "
                f"image of {images_shape[-2]}x{images_shape[-1]} pixels"
            )
        return output[:, self.prefix_tokens :].unflatten(1, grid).permute(0, 3, 1, 2)

    def with_feature_map(self, output: Tensor, feature_map: Tensor) -> Tensor:
        """``output`` with ``feature_map`` (B, C, h, w) in the place of its own: what the next layer expects."""
        if self.kind == "channels_first":
            return feature_map
        last = feature_map.permute(0, 2, 3, 1)
        if self.kind == "channels_last":
            return last
        patches = last.flatten(1, 2)
        return torch.cat([output[:, : self.prefix_tokens], patches], dim=1) if self.prefix_tokens else patches


@dataclass(frozen=True)
class LayerCall:
    """One run of one layer.

    Attributes:
        name: the layer's name.
        module: the layer.
        shape: of its output; ``None`` where the output is no single tensor.
        returned: what errors say of the output.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...] | None
    returned: str


def fold_tokens(count: int, image_size: Grid) -> Grid | None:
    """Rows and columns of ``count`` tokens of an image (H, W): both less than 1 from the image's proportions, or None.

    Of several such grids the one is taken whose proportions are nearest to those of the image. A square image has
    square grids, up to a patch that is cut off at one side.
    """
    height, width = image_size
    if count < 1:
        return None
    rows = math.sqrt(count * height / width)
    near = [
        (h, count // h)
        for h in range(max(1, math.floor(rows)), math.ceil(rows) + 1)
        if count % h == 0 and abs(h - rows) < 1 and abs(count // h - count / rows) < 1
    ]
    return min(near, key=lambda grid: abs(math.log(grid[0] / rows)), default=None)


def read_feature_map(
    layout: MapLayout, output: object, images_shape: Sequence[int], *, layer: str, owner: str
) -> Tensor:
    """The feature map (B, C, h, w) in the output of a layer.

    Args:
        layout: where the output has its feature map.
        output: what the layer gave.
        images_shape: the shape (B, C, H, W) of the images.
        layer: the layer's name, for errors.
        owner: what errors call the model.

    Raises:
        InputError: an output that is no tensor in this layout.
    """
    given = f"layer {layer!r} of {owner} gives {describe_output(output)}"
    if not isinstance(output, Tensor):
        raise InputError(f"{given}; name a layer that gives one tensor with a feature map")
    try:
        return layout.feature_map(output, images_shape)
    except InputError as error:
        raise InputError(f"{given}, {error}") from error


def watch_layers(network: Model, layers: Mapping[str, nn.Module], images: Tensor) -> list[LayerCall]:
    """Every run of ``layers`` in one pass of ``images`` without gradients, in order of completion."""
    calls: list[LayerCall] = []
    with outside_inference_mode(), torch.no_grad(), on_layer_outputs(layers, note_calls(layers, calls)):
        pass_images(network, images)
    return calls


def note_calls(layers: Mapping[str, nn.Module], calls: list[LayerCall]) -> Callable[[str, object], None]:
    """An action for :func:`~ssimpert.models.layer_outputs.on_layer_outputs` that notes every run in ``calls``."""

    def note(name: str, output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        calls.append(LayerCall(name, layers[name], shape, describe_output(output)))

    return note


def check_layout(layout: Layout | None, prefix_tokens: int | None) -> tuple[Layout | None, int | None]:
    """The layout and the number of prefix tokens that a caller gave, each ``None`` where it has to be found out.

    ``prefix_tokens`` alone means "tokens".

    Raises:
        InputError: an unknown layout, a number of tokens that is no integer from 0, or prefix tokens of a layout that
            has none.
    """
    if layout is not None and layout not in get_args(Layout):
        raise unknown_name("layout", str(layout), get_args(Layout))
    if prefix_tokens is None:
        return layout, None
    count = check_count("prefix_tokens", prefix_tokens, 0)
    if layout not in (None, "tokens"):
        raise InputError(f"prefix_tokens={count} is for layout='tokens', got layout={layout!r}")
    return "tokens", count


class Layouts:
    """The layouts of all layers of a network, from the runs of its layers in one pass.

    Args:
        network: the module whose layers ran; asked for ``num_prefix_tokens``.
        calls: all runs of all layers.
        images_shape: the shape (B, C, H, W) of the images that were passed.
        layout: the layout that the caller gave; ``None`` to find it out.
        prefix_tokens: how many there are; ``None`` to find it out.
    """

    def __init__(
        self,
        network: Model,
        calls: Sequence[LayerCall],
        images_shape: Sequence[int],
        layout: Layout | None = None,
        prefix_tokens: int | None = None,
    ) -> None:
        self.layout, prefix_tokens = check_layout(layout, prefix_tokens)
        self.count = images_shape[0]
        self.image_size = (images_shape[-2], images_shape[-1])
        self.prefix_counts = _prefix_counts(network, prefix_tokens)
        self.grids = self._grids(calls)
        told = [(call.shape, _told_kind(call)) for call in calls]
        self.token_shapes = {shape for shape, kind in told if kind == "tokens"}
        self.channels_first_shapes = {shape for shape, kind in told if kind == "channels_first"}
        self.kinds = {kind for _, kind in told if kind in ("channels_first", "channels_last")}
        self.token_counts = {
            call.shape[1]
            for call in calls
            if call.shape is not None and len(call.shape) == 3 and call.shape[0] == self.count
        }

    def of(self, call: LayerCall) -> list[MapLayout]:
        """The layouts that ``call``'s output can have: one where it is found, none, or more where it is ambiguous.

        A list of tokens that can't be told from (B, C, tokens) is there twice.
        """
        shape = call.shape
        if shape is None or len(shape) not in (3, 4) or shape[0] != self.count:
            return []
        return self._with_tokens(call, shape) if len(shape) == 3 else self._with_four_axes(call, shape)

    def _with_four_axes(self, call: LayerCall, shape: tuple[int, ...]) -> list[MapLayout]:
        if self.layout is not None:
            return [] if self.layout == "tokens" else [MapLayout(self.layout)]
        if isinstance(call.module, _CHANNELS_FIRST):
            return [MapLayout("channels_first")]
        readings: dict[Layout, Grid] = {"channels_first": (shape[2], shape[3]), "channels_last": (shape[1], shape[2])}
        axis = _channel_axis(call)
        if axis is not None:
            kept: Layout = "channels_first" if axis == 1 else "channels_last"
            readings = {kept: readings[kept]}
        kinds = [kind for kind, grid in readings.items() if grid in self.grids]
        if not self.grids:
            kinds = [kind for kind, grid in readings.items() if self._has_image_ratio(grid)]
        if self._is_attention(shape):
            kinds = [kind for kind in kinds if kind != "channels_first"]
        if len(kinds) > 1 and len(self.kinds) == 1:
            kinds = list(self.kinds)
        return [MapLayout(kind) for kind in kinds]

    def _with_tokens(self, call: LayerCall, shape: tuple[int, ...]) -> list[MapLayout]:
        if self.layout not in (None, "tokens"):
            return []
        axis = 2 if self.layout == "tokens" else _channel_axis(call)
        if axis == 1:  # (B, C, N)
            return []
        told = axis == 2 or shape in self.token_shapes
        for prefixes in (self._prefixes_on_grids, self._prefixes_in_proportion):
            found = [MapLayout("tokens", prefix) for prefix in prefixes(shape[1])]
            in_last_axis = not told and bool(prefixes(shape[2]))
            if found or in_last_axis:
                return 2 * found if in_last_axis else found
        return []

    def _prefixes_on_grids(self, count: int) -> list[int]:
        """How many of ``count`` tokens can be prefix tokens, if the others fill a grid that modules show."""
        return _usual({count - h * w for h, w in self.grids if h * w > 1} & set(self.prefix_counts))

    def _prefixes_in_proportion(self, count: int) -> list[int]:
        """How many of ``count`` tokens can be prefix tokens, if the others fill a grid like the image."""
        if len(self.prefix_counts) == 1:  # given: only the grid is open
            return [p for p in self.prefix_counts if fold_tokens(count - p, self.image_size) is not None]
        return _usual({p for p in self.prefix_counts if count - p > 1 and self._exact_grid(count - p) is not None})

    def _grids(self, calls: Iterable[LayerCall]) -> set[Grid]:
        """The grids that modules of fixed layout show."""
        grids: set[Grid] = set()
        lists_of_tokens = []
        for call in calls:
            shape = call.shape
            if shape is None or shape[0] != self.count:
                continue
            kind = _fixed_kind(call)
            if kind == "channels_first":
                grids.add((shape[2], shape[3]))
            elif kind == "channels_last" and self._folds(shape[1], shape[2]):
                grids.add((shape[1], shape[2]))
            elif kind == "tokens":
                lists_of_tokens.append(shape[1])
        # A network that works on tokens throughout shows its grids in the length of their lists alone.
        for count in lists_of_tokens:
            if not any(count - h * w in self.prefix_counts for h, w in grids if h * w > 1):
                exact = {self._exact_grid(count - prefix) for prefix in self.prefix_counts} - {None}
                if len(exact) == 1:
                    grids |= exact  # type: ignore[arg-type]
        return grids

    def _exact_grid(self, count: int) -> Grid | None:
        """Rows and columns of ``count`` tokens in exactly the proportions of the image."""
        grid = fold_tokens(count, self.image_size)
        return grid if grid is not None and self._has_image_ratio(grid) else None

    def _has_image_ratio(self, grid: Grid) -> bool:
        return grid[0] * self.image_size[1] == grid[1] * self.image_size[0]

    def _is_attention(self, shape: tuple[int, ...]) -> bool:
        """Whether (B, heads, N, N) may be an attention matrix, whose sides are as long as a list of tokens."""
        square = shape[2] == shape[3] and shape[2] in self.token_counts
        return square and shape not in self.channels_first_shapes

    def _folds(self, rows: int, columns: int) -> bool:
        """Whether the rows and columns are near the image's proportions; (heads, N) of an attention's norms is not."""
        return fold_tokens(rows * columns, self.image_size) == (rows, columns)


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
    layouts = Layouts(network, calls, shape, layout, prefix_tokens)
    found = layouts.of(runs[0])
    if kind is None and (len(found) != 1 or not layouts.grids):
        grown = _from_larger_image(network, module, runs[0], images[:1], found)
        found = found if grown is None else grown
    return settle(found, replace(runs[0], name=name), owner, images.shape, kind)


def settle(
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


def _fixed_kind(call: LayerCall) -> Layout | None:
    """The layout of an output whose module's class settles it, and which shows a grid."""
    shape = call.shape
    if shape is None:
        return None
    if len(shape) == 4 and isinstance(call.module, _CHANNELS_FIRST):
        return "channels_first"
    if isinstance(call.module, nn.LayerNorm) and _channel_axis(call) == len(shape) - 1:
        return {3: "tokens", 4: "channels_last"}.get(len(shape))  # type: ignore[return-value]
    return None


def _told_kind(call: LayerCall) -> Layout | None:
    """The layout that a module tells. nn.Linear tells nothing: a mixer applies it to transposed tokens."""
    axis = None if isinstance(call.module, nn.Linear) else _channel_axis(call)
    fixed = _fixed_kind(call)
    if fixed is not None or axis is None or call.shape is None:
        return fixed
    return {(3, 2): "tokens", (4, 1): "channels_first", (4, 3): "channels_last"}.get((len(call.shape), axis))  # type: ignore[return-value]


def _usual(prefixes: set[int]) -> list[int]:
    """``prefixes`` in order; the usual one alone where there is one: 0, 1 (class) or 2 (class and distillation)."""
    usual = prefixes & {0, 1, 2}
    return sorted(usual if len(usual) == 1 else prefixes)


def _channel_axis(call: LayerCall) -> int | None:
    """The axis of the channels as the module's class or its number of channels tells; ``None`` where neither does."""
    module, shape = call.module, call.shape
    if shape is None:
        return None
    last = len(shape) - 1
    if isinstance(module, nn.LayerNorm):
        # Classes named LayerNorm2d, of torchvision and timm, normalise the second axis.
        return 1 if "2d" in type(module).__name__ else last
    if isinstance(module, nn.Linear):
        return last
    if next(module.children(), None) is not None:
        return None
    counts = [getattr(module, attribute, None) for attribute in _CHANNEL_COUNTS]
    counts = [count[0] if isinstance(count, tuple) and len(count) == 1 else count for count in counts]
    numbers = {count for count in counts if isinstance(count, int)}
    axes = [axis for axis in (1, last) if shape[axis] in numbers]
    return axes[0] if len(numbers) == 1 and len(axes) == 1 else None


def _prefix_counts(network: Model, given: int | None) -> tuple[int, ...]:
    """The numbers of prefix tokens that a list of tokens may have."""
    if given is not None:
        return (given,)
    modules = network.modules() if isinstance(network, nn.Module) else ()
    declared = {getattr(module, "num_prefix_tokens", None) for module in modules}
    numbers = {count for count in declared if isinstance(count, int)}
    # Before the class token joins them, the tokens of the patches are alone.
    return tuple(sorted(numbers | {0})) if numbers else tuple(range(MAX_PREFIX_TOKENS + 1))


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
