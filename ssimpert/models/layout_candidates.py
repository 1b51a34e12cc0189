"""Which layouts the output of a layer can have, from one pass of one image with hooks on all layers.

The number of axes does not tell: (1, 7, 7, 768) and (1, 768, 7, 7) both have four. The rules, in this order:

1. Modules whose class fixes the layout (:mod:`ssimpert.models.channel_axes`): convolutions, batch norms and poolings
   (channels first), ``nn.LayerNorm`` (channels last). Their outputs also show which *grids* (H, W) the network works
   on. The number of channels of other modules with parameters (``LayerNorm2d``, ``nn.Linear``) tells their channel
   axis.
2. Other outputs with four axes: rows and columns must be one of these grids. In a network without such modules they
   must have exactly the image's proportions. An attention matrix, whose sides are as long as a list of tokens, is no
   feature map. Where both readings remain, the modules that tell a layout decide, if all of them tell the same one.
3. Outputs with three axes: N minus the prefix tokens must fill one of these grids, or a grid with exactly the image's
   proportions. timm's networks say how many prefix tokens they have (``num_prefix_tokens``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from ssimpert.models.channel_axes import CHANNELS_FIRST_MODULES, channel_axis, fixed_kind, told_kind
from ssimpert.models.forward_passes import Model
from ssimpert.models.layer_outputs import LayerCall
from ssimpert.models.layouts import Grid, Layout, MapLayout, check_layout, fold_tokens

MAX_PREFIX_TOKENS = 16
"""The most prefix tokens that are looked for. DINOv2 with registers has 5; Darcet et al. (ICLR 2024) tried up to 16."""


class LayoutCandidates:
    """The layouts that each layer of a network can have, from the runs of its layers in one pass.

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
        told = [(call.shape, told_kind(call)) for call in calls]
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
        if isinstance(call.module, CHANNELS_FIRST_MODULES):
            return [MapLayout("channels_first")]
        readings: dict[Layout, Grid] = {"channels_first": (shape[2], shape[3]), "channels_last": (shape[1], shape[2])}
        axis = channel_axis(call)
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
        axis = 2 if self.layout == "tokens" else channel_axis(call)
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
            kind = fixed_kind(call)
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


def _usual(prefixes: set[int]) -> list[int]:
    """``prefixes`` in order; the usual one alone where there is one: 0, 1 (class) or 2 (class and distillation)."""
    usual = prefixes & {0, 1, 2}
    return sorted(usual if len(usual) == 1 else prefixes)


def _prefix_counts(network: Model, given: int | None) -> tuple[int, ...]:
    """The numbers of prefix tokens that a list of tokens may have."""
    if given is not None:
        return (given,)
    modules = network.modules() if isinstance(network, nn.Module) else ()
    declared = {getattr(module, "num_prefix_tokens", None) for module in modules}
    numbers = {count for count in declared if isinstance(count, int)}
    # Before the class token joins them, the tokens of the patches are alone.
    return tuple(sorted(numbers | {0})) if numbers else tuple(range(MAX_PREFIX_TOKENS + 1))
