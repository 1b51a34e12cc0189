"""How often the layout that is found for a layer is the layout that the layer has.

Run with `python -m benchmarks.layer_layouts [MODEL ...]`; two minutes. The script prints a Markdown table.

The truth comes from a second network of the same kind, made for an image of another size: the axes of a layer's output
that change are the rows and columns, or the tokens, and the axis that stays is that of the channels. The number of
prefix tokens p follows from both numbers of tokens, since p stays and the others grow as the image does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.script_options import script_parser
from ssimpert.models.layer_outputs import LayerCall, observable_layers, watch_layers
from ssimpert.models.layout_candidates import LayoutCandidates
from ssimpert.models.layouts import MapLayout

Size = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """A layer, the shape of its output for the first image, the layout that is found, and the one that it has."""

    layer: str
    shape: tuple[int, ...] | None
    found: MapLayout | None
    true: MapLayout | None


# Networks that take any image are passed an image that is not square. Others are built anew for the second size.
ANY_SIZE = [
    *("timm:resnet18", "timm:densenet121", "timm:mobilenetv3_small_100", "timm:efficientnet_b0", "timm:regnetx_002"),
    *("timm:convnext_atto", "timm:convnextv2_atto", "timm:regnety_002", "timm:resnest14d", "timm:ecaresnet50t"),
    *("torchvision:resnet18", "torchvision:densenet121", "torchvision:mobilenet_v3_small"),
    *("torchvision:efficientnet_b0", "torchvision:regnet_x_400mf", "torchvision:convnext_tiny"),
    *("torchvision:swin_t", "torchvision:swin_v2_t", "torchvision:vgg11", "torchvision:inception_v3"),
]
BUILT_FOR_A_SIZE = {  # the sides of both images
    "timm:vit_tiny_patch16_224": ((224, 224), (256, 320)),
    "timm:deit_tiny_patch16_224": ((224, 224), (256, 320)),
    "timm:deit_tiny_distilled_patch16_224": ((224, 224), (256, 320)),
    "timm:deit3_small_patch16_224": ((224, 224), (256, 320)),
    "timm:vit_small_patch14_reg4_dinov2": ((224, 224), (252, 322)),
    "timm:test_vit4": ((160, 160), (192, 224)),
    "timm:swin_tiny_patch4_window7_224": ((224, 224), (448, 672)),
    "timm:swinv2_tiny_window8_256": ((256, 256), (512, 768)),
    "timm:mixer_s32_224": ((224, 224), (256, 256)),
    "torchvision:vit_b_32": ((224, 224), (320, 320)),
}


def build(name: str, size: Size | None) -> nn.Module:
    """The network with random weights, for images of ``size``, or of its usual size."""
    import timm
    import torchvision as tv

    library, _, inner = name.partition(":")
    options: dict[str, Any] = {}
    if size is not None:
        options = {"image_size": size[0]} if library == "torchvision" else {"img_size": size}
    if library == "torchvision":
        return tv.models.get_model(inner, weights=None, **options).eval()
    return timm.create_model(inner, pretrained=False, **options).eval()


def truth(first: LayerCall, second: LayerCall, sizes: tuple[Size, Size]) -> MapLayout | None:
    """The layout of a layer from its outputs for images of both sizes, ``None`` where it has no feature map."""
    before, after = first.shape, second.shape
    if before is None or after is None or len(before) != len(after) or before[0] != 1 or after[0] != 1:
        return None
    grown = tuple(axis for axis in range(1, len(before)) if before[axis] != after[axis])
    if len(before) == 4 and grown in ((2, 3), (1, 2)):
        rows, columns = grown
        # An attention matrix grows alike in both axes, an image that is not square afterwards does not.
        if sizes[1][0] != sizes[1][1] and after[rows] * before[columns] == after[columns] * before[rows]:
            return None
        return MapLayout("channels_first" if grown == (2, 3) else "channels_last")
    if len(before) == 3 and grown == (1,):
        growth = (sizes[1][0] * sizes[1][1]) / (sizes[0][0] * sizes[0][1])
        patches = (after[1] - before[1]) / (growth - 1)
        return MapLayout("tokens", round(before[1] - patches))
    return None


def layouts_beside_the_truth(name: str, sizes: tuple[Size, Size], *, rebuilt: bool) -> list[Row]:
    """The layers that run once, except those that give a single position, and those that have no map and need none.

    Args:
        name: the network.
        sizes: the sides of two images.
        rebuilt: build the network anew for each size; else one network takes both images.
    """
    runs: list[dict[str, list[LayerCall]]] = []
    candidates = None
    for size in sizes:
        network = build(name, size if rebuilt else None)
        calls = watch_layers(network, observable_layers(network), torch.zeros(1, 3, *size))
        candidates = candidates or LayoutCandidates(network, calls, (1, 3, *size))
        by_name: dict[str, list[LayerCall]] = {}
        for call in calls:
            by_name.setdefault(call.name, []).append(call)
        runs.append(by_name)
    assert candidates is not None
    rows = []
    for layer, layer_calls in runs[0].items():
        if len(layer_calls) != 1 or len(runs[1].get(layer, ())) != 1:
            continue
        found = candidates.of(layer_calls[0])
        row = Row(layer, layer_calls[0].shape, found[0] if len(found) == 1 else None, None)
        row = replace(row, true=truth(layer_calls[0], runs[1][layer][0], sizes))
        # A single position, such as that of a gate, has no rows and columns that could grow.
        if (row.found or row.true) and not _is_single(layer_calls[0], row.found):
            rows.append(row)
    return rows


def _is_single(call: LayerCall, layout: MapLayout | None) -> bool:
    if layout is None:
        return False
    shape = call.shape or ()
    grid = {"channels_first": shape[2:], "channels_last": shape[1:3], "tokens": shape[1:2]}[layout.kind]
    return all(side == 1 for side in grid)


def main(names: list[str]) -> None:
    print("| network | layers with a feature map | found | left open | other |\n|---|---|---|---|---|")
    remarks = []
    for name in names or [*ANY_SIZE, *BUILT_FOR_A_SIZE]:
        sizes = BUILT_FOR_A_SIZE.get(name, ((224, 224), (256, 320)))
        rows = layouts_beside_the_truth(name, sizes, rebuilt=name in BUILT_FOR_A_SIZE)
        maps = [row for row in rows if row.true is not None]
        right = sum(row.found == row.true for row in maps)
        left_open = sum(row.found is None for row in maps)
        wrong = [row for row in rows if row.found not in (row.true, None)]
        print(f"| {name} | {len(maps)} | {right} | {left_open} | {len(wrong)} |", flush=True)
        remarks += [f"{name}: {row}" for row in rows if row.found != row.true]
    print()
    for remark in remarks:
        print(f"- {remark}")


if __name__ == "__main__":
    parser = script_parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of networks; default all that the note lists")
    main(parser.parse_args().models)
