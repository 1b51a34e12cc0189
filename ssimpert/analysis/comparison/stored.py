"""Comparisons on disk: their maps as a file, and a comparison put together from what was stored for each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ssimpert.analysis.comparison.maps import Maps
from ssimpert.analysis.comparison.result import Comparison
from ssimpert.analysis.comparison.scores import MapScores
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError

# What an agreement row has beside the metrics.
_NOT_METRICS = ("image", "perturbation", "map", "p_values", "reasons")
_CAM = "cam"


def save_maps(comparison: Comparison, path: Path) -> None:
    """Write all maps of a comparison as a compressed ``.npz`` file, exactly: ``cam`` and ``METHOD/KIND``, (B, H, W).

    The file appears whole or not at all.

    Raises:
        InputError: the file can't be written.
    """
    arrays = {_CAM: _array(comparison.cam)}
    for method, kinds in comparison.maps.items():
        arrays |= {f"{method}/{kind}": _array(maps) for kind, maps in kinds.items()}
    content = BytesIO()
    np.savez_compressed(content, **cast("dict[str, Any]", arrays))
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error


def load_maps(path: Path) -> tuple[Tensor, Maps]:
    """The class activation maps (B, H, W) and all other maps of a file that :func:`save_maps` wrote.

    Raises:
        InputError: no such file, or a file that :func:`save_maps` did not write.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        cam, maps = arrays.pop(_CAM), cast("Maps", {})
        for name, values in arrays.items():
            method, _, kind = name.rpartition("/")
            maps.setdefault(method, {})[kind] = values
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{str(path)!r} is no file of maps: {error}") from error
    return cam, maps


def comparison_from_json(documents: Sequence[Mapping[str, Any]], maps: Sequence[Path] | None = None) -> Comparison:
    """One comparison of B images from B comparisons of one image each, which were made with the same options.

    Args:
        documents: what :meth:`Comparison.to_json` gave for each image, at least one, as read from JSON.
        maps: for each image the file that :func:`save_maps` wrote. Default ``None``: the comparison has its scores,
            but no maps, and a class activation map of no pixels.

    Returns:
        The comparison, without the control perturbation, whose maps and scores are there all the same.

    Raises:
        InputError: a file of maps can't be read.
    """
    first, count = documents[0], len(documents)
    rows = [
        {(row["perturbation"], row["map"]): row for row in cast("list[dict[str, Any]]", document["records"])}
        for document in documents
    ]
    scores: dict[str, dict[str, MapScores]] = {}
    for method, kind in rows[0]:
        of_map = [columns[method, kind] for columns in rows]
        metrics = [key for key in of_map[0] if key not in _NOT_METRICS]
        scores.setdefault(method, {})[kind] = MapScores(
            values={metric: _numbers([row[metric] for row in of_map]) for metric in metrics},
            reasons={metric: tuple(row["reasons"].get(metric, "") for row in of_map) for metric in metrics},
            p_values={
                metric: _numbers([row["p_values"][metric] for row in of_map]) for metric in of_map[0]["p_values"]
            },
            curves=_curves([document["curves"] for document in documents], method, kind),
        )
    if maps is None:
        cam, joined = torch.zeros(count, 0, 0), cast("Maps", {})
    else:
        loaded = [load_maps(path) for path in maps]
        cam = torch.cat([single for single, _ in loaded])
        joined = {
            method: {kind: torch.cat([of_image[method][kind] for _, of_image in loaded]) for kind in kinds}
            for method, kinds in loaded[0][1].items()
        }
    return Comparison(
        perturbation=first["perturbation"],
        cam=cam,
        cam_name=first["cam"],
        cam_target=torch.tensor([document["cam_target"][0] for document in documents]),
        cam_layer=first["cam_layer"],
        maps=joined,
        scores=scores,
        control=None,
        settings=dict(first["settings"]),
        run=_joined_run([document["run"] for document in documents]),
    )


def _joined_run(runs: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """The columns of the run, with the values of all images; null is NaN, as a number without a meaning there."""
    return {name: [math.nan if value is None else value for run in runs for value in run[name]] for name in runs[0]}


def _curves(stored: Sequence[Mapping[str, Any] | None], method: str, kind: str) -> dict[Kind, PixelCurve]:
    found = [curves[method][kind] for curves in stored if curves is not None]
    if len(found) < len(stored):
        return {}
    joined: dict[Kind, PixelCurve] = {}
    for curve_kind in found[0]:
        curves = [of_image[curve_kind] for of_image in found]
        joined[curve_kind] = PixelCurve(
            kind=curve_kind,
            scores=torch.stack([_numbers(curve["scores"][0]) for curve in curves]),
            fractions=_numbers(curves[0]["fractions"]),
            auc=_numbers([curve["auc"][0] for curve in curves]),
            target=torch.tensor([curve["target"][0] for curve in curves]),
            reasons=tuple(curve["reasons"][0] for curve in curves),
        )
    return joined


def _numbers(values: Sequence[float | None]) -> Tensor:
    """float64; NaN where JSON has null."""
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)


def _array(maps: Tensor) -> np.ndarray[Any, Any]:
    return cast("np.ndarray[Any, Any]", maps.detach().cpu().numpy())
