"""One photo's record and arrays as the report shows them."""
# ruff: noqa: RUF001 - the multiplication and minus signs are shown

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssimpert.analysis.perturbation_maps.saliency import saliency
from ssimpert.errors import InputError
from ssimpert.report.drawing import Array
from ssimpert.report.figure import amplification
from ssimpert.report.html.map_meanings import map_meaning, map_unit
from ssimpert.report.html.numbers_in_words import counted, index, number, set_and_steps
from ssimpert.report.html.pictures import PictureStorage, map_picture
from ssimpert.report.html.result_folder import StoredPhoto
from ssimpert.report.html.solver_plot import solver_plot
from ssimpert.report.html.view import Difference, Fact, FactTable, Layer, Line, PhotoView, Plot
from ssimpert.report.names import CAM_NAMES, map_name, method_and_map

FindPhoto = Callable[[dict[str, Any], int], Tensor]
"""The clean photo of a record, (1, 3, S, S) in [0, 1], for the side S in pixels. Raises InputError with the reason
where the photo is gone or has changed."""

NOT_RECORDED = "the set and the steps were not recorded"


def photo_view(stored: StoredPhoto, anchor: str, storage: PictureStorage, find_photo: FindPhoto) -> PhotoView:
    """One photo of a report.

    Args:
        stored: the photo's record and files.
        anchor: the photo's name within the page.
        storage: how pictures are stored.
        find_photo: finds the clean photo. Without it the report has the perturbed photo and the stored maps only.

    Raises:
        InputError: a file of the result can't be read.
    """
    perturbed = _rows_first(stored.adversarial())
    warnings = []
    clean: Array | None = None
    try:
        clean = _rows_first(find_photo(stored.record, perturbed.shape[0])[0].double().numpy())
        if clean.shape != perturbed.shape:
            raise InputError(f"the photo has shape {clean.shape} and the perturbed photo {perturbed.shape}")
    except InputError as error:
        clean = None
        warnings.append(f"The clean photo is not shown, nor what is made from it: {error}.")
    difference = None if clean is None else _difference(perturbed - clean, storage)
    return PhotoView(
        anchor=anchor,
        name=stored.name,
        outcome=outcome(stored.record),
        conditions=conditions_of(stored.record),
        photo=None if clean is None else storage.photo(clean, f"Photo: {label_text(stored.result, 'before')}"),
        perturbed=storage.photo(perturbed, f"Perturbed photo: {label_text(stored.result, 'after')}"),
        difference=difference,
        layers=_layers(stored, clean, perturbed, difference),
        facts=facts_of(stored.record),
        plots=_plots(stored),
        warnings=tuple(warnings),
    )


def conditions_of(record: dict[str, Any]) -> str:
    """The set with its threshold, windows and border, and the steps."""
    return str(record.get("conditions") or NOT_RECORDED)


def label_text(result: dict[str, Any], when: str) -> str:
    """The name of the label "before" or "after", or its number."""
    return str(result.get(f"label_{when}_name") or f"class {result[f'label_{when}']}")


def outcome(record: dict[str, Any]) -> str:
    """What happened to a photo, in a sentence."""
    result = record["result"]
    before, after = label_text(result, "before"), label_text(result, "after")
    margin = number(result["margin_after"], "logits")
    if not result["success"]:
        return f"The goal was not reached: {before} became {after}, with margin {margin}."
    level = result.get("level")
    found = f" at level {number(level)} ({result.get('level_unit', 'level')})" if level is not None else ""
    return f"{before} became {after}{found}, with margin {margin}."


def facts_of(record: dict[str, Any]) -> tuple[FactTable, ...]:
    """The numbers of a photo: what came out, how far the images are apart, and how the perturbation was found."""
    result, file = record["result"], record.get("file") or {}
    labels = [
        Fact("label of the photo", label_text(result, "before")),
        Fact("label of the perturbed photo", label_text(result, "after")),
        Fact("goal reached", "yes" if result["success"] else "no"),
        Fact("margin before", number(result["margin_before"], "logits")),
        Fact("margin after", number(result["margin_after"], "logits")),
    ]
    if file:
        reached = "yes" if file.get("success") else "no"
        labels.append(
            Fact(
                "8-bit PNG: label, margin",
                f"{file.get('label_name', file.get('label'))}, {number(file.get('margin'), 'logits')} "
                f"(goal reached: {reached})",
            )
        )
    distances = [
        Fact("mean SSIM (Gaussian 11x11, stride 1)", index(result.get("ssim"))),
        Fact(f"least SSIM of a window ({_least_window(record)})", index(result.get("min_window_ssim"))),
        Fact("contrast distance d2", number(result.get("contrast_distance"))),
        Fact("l2 norm", number(result.get("l2_norm"), "of the pixel range")),
        Fact("largest change of a pixel", number(result.get("linf_norm"), "of the pixel range")),
        Fact("excess over the set", number(result.get("violation"))),
    ]
    return (
        FactTable("Labels and margins", tuple(labels)),
        FactTable("Distance from the photo", tuple(distances)),
        FactTable("How it was found", tuple(_search_facts(record))),
    )


def _least_window(record: dict[str, Any]) -> str:
    """Which windows the least one is of: those of the set, or the standard ones, always at stride 1."""
    constraint = (record.get("settings") or {}).get("constraint")
    constraint = constraint if isinstance(constraint, dict) else {}
    window = constraint.get("window")
    if not isinstance(window, dict) or constraint.get("kind") not in ("WindowSSIM", "ProductSSIM"):
        return "Gaussian 11x11, stride 1"
    shape = "uniform" if window.get("sigma") is None else f"Gaussian, sigma {window['sigma']:g}"
    return f"{shape} {window['size']}x{window['size']}, stride 1"


def _search_facts(record: dict[str, Any]) -> list[Fact]:
    result, history = record["result"], record.get("history") or []
    facts = []
    if result.get("level") is not None:
        facts += [
            Fact("least level found", f"{number(result['level'])} ({result.get('level_unit', 'level')})"),
            Fact("largest level that failed", number(result.get("failed_level"))),
            Fact("levels tried", number(result.get("rounds"))),
        ]
    facts.append(Fact("steps taken", number(result.get("steps"))))
    if history and history[-1].get("rel_gap") is not None:
        facts.append(
            Fact("last step's certified gap", f"{number(history[-1]['rel_gap'])} ({history[-1].get('status', '')})")
        )
    if result.get("certified"):
        facts.append(Fact("certificates speak of", str(result["certified"])))
    share = result.get("shrink_share")
    if isinstance(share, float) and share < 1:
        facts.append(Fact("drawn back to the share", number(share)))
    facts.append(Fact("time", number(record.get("seconds"), "s", 3)))
    if result.get("message"):
        facts.append(Fact("message", str(result["message"])))
    notes = (record.get("photo") or {}).get("notes") or []
    if notes:
        facts.append(Fact("photo", "; ".join(map(str, notes))))
    if record.get("cam_layer"):
        facts.append(Fact("layer of the class activation map", str(record["cam_layer"])))
    return facts


def _difference(delta: Array, storage: PictureStorage) -> Difference:
    factor = amplification(delta)
    powers = [step * 10.0**power for power in range(9) for step in (1, 2, 5)]
    levels = tuple(level for level in powers if level <= max(1.0, factor))
    alt = f"The perturbation, amplified {factor:g} times; grey means no change"
    return Difference(storage.difference(delta, factor, alt), factor, levels)


def _layers(
    stored: StoredPhoto, clean: Array | None, perturbed: Array, difference: Difference | None
) -> tuple[Layer, ...]:
    """The class activation map and the perturbation's maps first, then the perturbation itself and all other maps."""
    stored_maps = stored.maps()
    layers: list[Layer] = []
    if stored_maps is not None:
        cam, maps = stored_maps
        kind = str(stored.record.get("cam", "grad_cam"))
        layers.append(_map_layer(CAM_NAMES.get(kind, map_name(kind)), kind, cam))
        for method, kinds in maps.items():
            layers += [
                _map_layer(method_and_map(method, kind), kind, values[0].double().numpy())
                for kind, values in kinds.items()
            ]
    elif clean is not None:
        image, adversarial = (torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None] for pixels in (clean, perturbed))
        layers += [
            _map_layer(map_name(kind), kind, saliency(kind, image, adversarial)[0].numpy()) for kind in ("rms", "ssim")
        ]
    if difference is not None:
        layers.append(_signed_layer(difference))
    return tuple(layers)


def _map_layer(name: str, kind: str, values: Array) -> Layer:
    unit = map_unit(kind)
    picture, top = map_picture(values, f"{name} as colours over the photo, from dark for 0 to yellow for high values")
    missing = " The map has values that are not finite; they are shown as 0." if not np.isfinite(values).all() else ""
    return Layer(name, picture, "viridis", "0", number(top, unit, 3), map_meaning(kind) + missing)


def _signed_layer(difference: Difference) -> Layer:
    factor = difference.factor
    limit = 0.5 / factor
    return Layer(
        f"perturbation ×{factor:g}",
        difference.picture,
        "signed",
        number(-limit, "of the pixel range", 3),
        number(limit, "", 3),
        f"The perturbation itself, amplified {factor:g} times. Grey means no change.",
    )


def _plots(stored: StoredPhoto) -> tuple[Plot, ...]:
    record, history = stored.record, stored.record.get("history") or []
    words = conditions_of(record)
    curve = stored.curve()
    found = (_margin_plot(record["result"], history, words), _level_plot(curve), solver_plot(history, words))
    return tuple(plot for plot in found if plot is not None)


def _margin_plot(result: dict[str, Any], history: list[dict[str, Any]], conditions: str) -> Plot | None:
    """The margin after each step. Several runs of steps, as of a search for a level, follow one another with gaps."""
    if not history:
        return None
    points: list[tuple[float, float]] = [(0.0, _plotted(result["margin_before"]))]
    starts: list[float] = []
    before = 0
    for count, row in enumerate(history, start=1):
        if row["step"] <= before:
            points.append((count - 0.5, math.nan))
            starts.append(count - 0.5)
        points.append((float(count), _plotted(row["margin"])))
        before = row["step"]
    runs = " Dotted lines: the steps begin anew, as at another level." if starts else ""
    return Plot(
        title="Margin over steps",
        x_label="step",
        y_label="margin (logits)",
        lines=(Line("margin", tuple(points)),),
        caption=(
            f"The goal is reached where the margin is above 0. Step 0 is the photo.{runs} {set_and_steps(conditions)}"
        ),
        alt=(
            f"Margin over {counted(len(history), 'step')}, from {number(result['margin_before'])} to "
            f"{number(history[-1]['margin'], 'logits')}"
        ),
        marks=tuple(starts),
    )


def _level_plot(curve: dict[str, Any] | None) -> Plot | None:
    rows = curve.get("curve") if curve is not None else None
    if curve is None or not rows:
        return None
    points = tuple((float(row["level"]), _plotted(row["margin"])) for row in rows)
    least = curve.get("least_level")
    marks = (float(least),) if isinstance(least, (int, float)) and least > 0 else ()
    return Plot(
        title="Margin over levels",
        x_label=str(curve.get("level_unit", "level")),
        y_label="margin (logits)",
        lines=(Line("margin", points),),
        caption=(
            "The goal is reached where the margin is above 0. Dotted line: the least level found. "
            f"{set_and_steps(str(curve.get('conditions') or NOT_RECORDED))}"
        ),
        alt=f"Margin at {len(points)} levels from {number(points[0][0])} to {number(points[-1][0])}",
        log_x=True,
        marks=marks,
    )


def _plotted(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _rows_first(image: Array) -> Array:
    """(C, H, W) as (H, W, 3); a grey channel is repeated."""
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
