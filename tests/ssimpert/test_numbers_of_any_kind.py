"""Numbers and lists of numpy and torch count like Python's in every option of every public function.

Each option is called with a plain value and with the same value as numpy and torch have it. Results must be equal, and
must hold no scalar of numpy: those would not be written as JSON.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from torch import Tensor

import solvers
import ssimpert
from ssimpert import analysis, data, linearization, metrics, report
from ssimpert.errors import InputError
from ssimpert.models.onnx_session import ONNX_PACKAGES
from ssimpert.records import json_text
from tests.ssimpert.analysis.example import SmallClassifier, example_images

SIDE = 16
BALL = solvers.LpBall(2, 0.5)
WINDOW = solvers.Window.uniform(7)


class Model(SmallClassifier):
    """With a mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.4))


@cache
def model() -> Model:
    return Model()


@cache
def image() -> Tensor:
    return example_images(2, size=SIDE)


@cache
def near() -> Tensor:
    noise = torch.randn(image().shape, generator=torch.Generator().manual_seed(3))
    return (image() + 0.02 * noise).clamp(0, 1)


@cache
def maps() -> Tensor:
    return torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@cache
def masks() -> Tensor:
    result = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    result[:, 4:9, 5:12] = True
    return result


@cache
def perturbed() -> Any:
    return ssimpert.perturb(model(), image(), BALL, steps=2)


@cache
def comparison() -> Any:
    return ssimpert.compare(model(), image(), perturbed(), insertion_deletion=64, shifts=200)


@cache
def tabled() -> pd.DataFrame:
    table = comparison().table(columns={"level": [0.5, 0.5]})
    few = table["method"].isin(["local std", "local variance"]) & table["metric"].isin(["pearson", "spearman"])
    return table[few].reset_index(drop=True)


@cache
def thresholded() -> Any:
    return analysis.thresholded_boxes(maps(), torch.tensor([[2.0, 3, 9, 8], [4, 4, 12, 11]]), "value")


@cache
def features() -> Any:
    return ssimpert.deep_features(model(), ["features.1"], "none")


@cache
def jacobian() -> Any:
    return ssimpert.feature_jacobian(features(), image())


def targets() -> Tensor:
    return torch.tensor([0, 0])


def cam(name: str) -> Callable[..., Tensor]:
    return lambda **options: analysis.attribution(name, model(), image(), options.pop("target", 1), **options)


def margin_of(margin: Any) -> tuple[Any, Tensor]:
    margin.check(4)
    return margin, margin(model()(image()), targets())


def differences() -> list[float]:
    return [0.5, -0.25, 0.75, 0.125, 0.5, 0.25]


SMALL_RISE = {"masks": 4, "cells": 3}
# For each public function: how it is called, and for each option a plain value. "most" options have other values than
# their defaults, so that an option which is ignored shows.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "ssimpert.AnyOf": (lambda **o: margin_of(ssimpert.AnyOf(**o)), {"targets": (1, 2)}),
    "ssimpert.Targeted": (lambda **o: margin_of(ssimpert.Targeted(**o)), {"target": 1}),
    "ssimpert.linearization.Membership": (lambda **o: margin_of(linearization.Membership(**o)), {"targets": (1, 2)}),
    "margin by": (
        lambda **o: ssimpert.perturb(model(), image(), BALL, steps=1, margin=ssimpert.Untargeted().by(**o)),
        {"least": 0.5},
    ),
    "perturb target": (
        lambda target: ssimpert.perturb(model(), image(), BALL, steps=1, margin=ssimpert.Targeted(target)),
        {"target": 1},
    ),
    "perturb targets": (
        lambda targets: ssimpert.perturb(model(), image(), BALL, steps=1, margin=ssimpert.AnyOf(targets)),
        {"targets": (1, 2)},
    ),
    "ssimpert.Classifier": (
        lambda **o: ssimpert.Classifier(model(), **({"name": "m", **CLASSIFIER} | o))(image()),
        {"input_size": SIDE, "mean": (0.5, 0.25, 0.5), "std": (0.25, 0.5, 0.25)},
    ),
    "ssimpert.composites": (
        lambda **o: data.composites(**({"n": 1, "seed": 2, "size": 64} | o)),
        {"n": 2, "seed": 3, "size": 96},
    ),
    "ssimpert.data.load_photo": (lambda **o: data.load_photo("chelsea", **o).image, {"size": 32}),
    "ssimpert.data.photo_frame": (lambda **o: data.photo_frame("chelsea", **o), {"size": 32}),
    "ssimpert.data.Frame": (
        lambda **o: data.Frame(**({"width": 30, "height": 20} | o)),
        {"width": 40, "height": 50, "size": 16},
    ),
    "ssimpert.load_image": (lambda **o: data.load_image("chelsea", **o), {"size": 32}),
    "ssimpert.feature_distance": (
        lambda **o: metrics.feature_distance(features(), image(), near(), **o),
        {"chunk": 1},
    ),
    "ssimpert.feature_jacobian": (
        lambda **o: ssimpert.feature_jacobian(features(), image(), **o).apply(near()),
        {"chunk": 1, "memory_limit": 1024.0},
    ),
    "ssimpert.linearization.operator_norm": (
        lambda **o: linearization.operator_norm(jacobian(), image(), **o),
        {"steps": 3},
    ),
    "ssimpert.linearization.forward": (lambda **o: linearization.forward(model(), image(), **o), {"chunk": 1}),
    "ssimpert.linearize": (
        lambda **o: ssimpert.linearize(model(), image(), targets(), ssimpert.Untargeted(), **o),
        {"chunk": 1},
    ),
    "ssimpert.perturb": (
        lambda **o: ssimpert.perturb(model(), image(), BALL, **({"steps": 1} | o)),
        {"steps": 2, "batch_size": 1},
    ),
    "ssimpert.quantize": (lambda **o: ssimpert.quantize(model(), image(), perturbed(), **o), {"rounds": 1}),
    "ssimpert.minimal_budget": (
        lambda **o: ssimpert.minimal_budget(model(), image(), BALL, **({"steps": 2, "rounds": 2} | o)),
        {"steps": 3, "rounds": 3, "tolerance": 0.25, "candidates": 2},
    ),
    "ssimpert.margin_curve": (
        lambda **o: ssimpert.margin_curve(model(), image(), BALL, **({"levels": [0.25], "steps": 1} | o)),
        {"levels": (0.125, 0.25), "steps": 2},
    ),
    "ssimpert.perceptual_ball_constrained": (
        lambda **o: ssimpert.perceptual_ball_constrained(
            model(), image(), **({"radius": 0.5, "steps": 1, "layers": ["features.1"]} | o)
        ),
        {"radius": 0.25, "step_norm": 0.125, "steps": 2},
    ),
    "radius per image": (
        lambda radius: ssimpert.perceptual_ball_constrained(model(), image(), radius, steps=1, layers=["features.1"]),
        {"radius": (0.25, 0.5)},
    ),
    "ssimpert.perceptual_ball_lbfgs": (
        lambda **o: ssimpert.perceptual_ball_lbfgs(
            model(), image(), **({"layers": ["features.1"], "iterations": 2} | o)
        ),
        {"gamma": 64.0, "s": 0.5, "v": -1.5, "targets": (1, 2), "iterations": 3, "history_size": 2},
    ),
    "ssimpert.foolbox_baseline": (
        lambda **o: ssimpert.foolbox_baseline(model(), image(), "l2-pgd", **({"steps": 1, "radius": 0.5} | o)),
        {"steps": 2, "radius": 0.25, "seed": 3},
    ),
    "foolbox radius per image": (
        lambda radius: ssimpert.foolbox_baseline(model(), image(), "l2-pgd", steps=1, radius=radius),
        {"radius": (0.25, 0.5)},
    ),
    "ssimpert.onnx_classifier": (
        lambda **o: ssimpert.onnx_classifier(model(), image()[:1], **o)(image()),
        {"threads": 1},
    ),
    "ssimpert.compare": (
        lambda **o: ssimpert.compare(model(), image(), perturbed(), **({"shifts": 0, "control": None} | o)),
        {"insertion_deletion": 64, "shifts": 210, "seed": 3},
    ),
    "ssimpert.lpips_distance": (
        lambda **o: metrics.lpips_distance(example_images(2), example_images(2).flip(0), "random", **o),
        {"chunk": 1},
    ),
    **{
        f"ssimpert.analysis.{name}": (cam(name), {"target": 2})
        for name in (
            "deconvolution",
            "grad_cam",
            "grad_cam_plus_plus",
            "gradient",
            "guided_backprop",
            "guided_grad_cam",
            "hires_cam",
            "layer_cam",
        )
    },
    **{f"{name} of a class per image": (cam(name), {"target": (2, 0)}) for name in ("grad_cam", "gradient")},
    "ssimpert.analysis.attribution": (
        lambda **o: analysis.attribution("rise", model(), image(), o.pop("target", 1), **SMALL_RISE, **o),
        {"target": 2, "seed": 3},
    ),
    "ssimpert.analysis.input_x_gradient": (cam("input_x_gradient"), {"target": 2, "baseline": 0.25}),
    "ssimpert.analysis.integrated_gradients": (
        cam("integrated_gradients"),
        {"target": 2, "baseline": 0.25, "steps": 3, "batch_size": 2},
    ),
    "ssimpert.analysis.path_attributions": (
        lambda **o: analysis.path_attributions(model(), image(), o.pop("target", 1), **({"steps": 2} | o)),
        {"target": 2, "baseline": 0.25, "steps": 3, "batch_size": 2},
    ),
    "ssimpert.analysis.smooth_grad": (
        lambda **o: cam("smooth_grad")(**({"samples": 2} | o)),
        {"target": 2, "samples": 3, "noise": 0.25, "seed": 4, "batch_size": 2},
    ),
    "ssimpert.analysis.occlusion": (
        lambda **o: cam("occlusion")(**({"window": 8, "stride": 8} | o)),
        {"target": 2, "window": 9, "stride": 4, "baseline": 0.25, "batch_size": 2},
    ),
    "ssimpert.analysis.rise": (
        lambda **o: cam("rise")(**(SMALL_RISE | o)),
        {"target": 2, "masks": 5, "cells": 4, "keep": 0.25, "seed": 3, "baseline": 0.25, "batch_size": 2},
    ),
    **{
        f"ssimpert.analysis.{name}": (
            lambda name=name, **o: getattr(analysis, name)(model(), image(), maps(), **({"step": 64} | o)),
            {"target": 2, "step": 50, "batch_size": 2, "baseline": 0.25},
        )
        for name in ("insertion", "deletion", "insertion_deletion")
    },
    "colour of deletion": (
        lambda baseline: analysis.deletion(model(), image(), maps(), step=64, baseline=baseline),
        {"baseline": (0.25, 0.5, 0.75)},
    ),
    "classes of deletion": (
        lambda target: analysis.deletion(model(), image(), maps(), step=64, target=target),
        {"target": (2, 0)},
    ),
    "ssimpert.analysis.agreement_table": (
        lambda images: analysis.agreement_table(
            analysis.agreement(maps(), maps().flip(0)),
            images=images,
            method="m",
            kind="k",
            columns={"level": np.array([0.5, 0.25])},
        ),
        {"images": (3, 5)},
    ),
    "columns of a table": (
        lambda level: comparison().table(images=["a", "b"], columns={"level": level}),
        {"level": (0.5, 0.25)},
    ),
    "ssimpert.analysis.bootstrap_interval": (
        lambda **o: analysis.bootstrap_interval(differences(), **({"resamples": 20} | o)),
        {"clusters": (1, 1, 2, 2, 3, 3), "confidence": 0.75, "resamples": 30, "seed": 3},
    ),
    "ssimpert.analysis.sign_flip_test": (
        lambda **o: analysis.sign_flip_test(differences() * 4, **({"permutations": 20} | o)),
        {"clusters": (1, 1, 2, 2, 3, 3) * 4, "permutations": 30, "seed": 3},
    ),
    **{
        f"values of {name}": (
            lambda name=name, **o: getattr(analysis, name)(**o),
            {"values" if name == "bootstrap_interval" else "differences": (0.5, -0.25, 0.75)},
        )
        for name in ("bootstrap_interval", "sign_flip_test", "cohens_dz", "rank_biserial")
    },
    "ssimpert.analysis.summarize": (
        lambda **o: analysis.summarize(tabled(), **({"resamples": 20} | o)),
        {"confidence": 0.75, "resamples": 30, "seed": 3},
    ),
    "ssimpert.analysis.paired_differences": (
        lambda **o: analysis.paired_differences(tabled(), ["local std"], **({"resamples": 20} | o)),
        {"confidence": 0.75, "resamples": 30, "permutations": 30, "seed": 3},
    ),
    "ssimpert.analysis.centre_points": (
        lambda **o: analysis.centre_points(**({"count": 2, "height": 8, "width": 9} | o)),
        {"count": 3, "height": 7, "width": 5},
    ),
    "ssimpert.analysis.centred_gaussian": (
        lambda **o: analysis.centred_gaussian(**({"height": 8, "width": 9} | o)),
        {"height": 7, "width": 5, "sigma": 0.5},
    ),
    "ssimpert.analysis.chance_of_hit": (lambda **o: analysis.chance_of_hit(masks(), **o), {"tolerance": 2.5}),
    "ssimpert.analysis.mask_agreement": (
        lambda **o: analysis.mask_agreement(maps(), masks(), **o),
        {"tolerance": 2.5},
    ),
    "ssimpert.analysis.pointing_game": (
        lambda **o: analysis.pointing_game(maps(), masks(), targets(), **o),
        {"tolerance": 2.5},
    ),
    "ssimpert.analysis.point_game": (
        lambda **o: analysis.point_game(analysis.centre_points(2, SIDE, SIDE), masks(), targets(), **o),
        {"tolerance": 2.5},
    ),
    "ssimpert.analysis.cross_validated": (
        lambda **o: analysis.cross_validated(thresholded(), **({"folds": 2} | o)),
        {"folds": 2, "seed": 3},
    ),
    "ssimpert.analysis.choose_alpha": (lambda **o: analysis.choose_alpha(thresholded(), **o), {"images": (1,)}),
    "ssimpert.analysis.thresholded_boxes": (
        lambda **o: analysis.thresholded_boxes(maps(), torch.tensor([[2.0, 3, 9, 8], [4, 4, 12, 11]]), "mean", **o),
        {"alphas": (0.5, 1.25)},
    ),
    "ssimpert.analysis.random_labels": (
        lambda **o: analysis.random_labels(targets(), **({"classes": 4, "seed": 0} | o)),
        {"classes": 5, "seed": 3},
    ),
    "ssimpert.analysis.randomized_model": (
        lambda **o: analysis.randomized_model(model(), **({"seed": 0} | o))(image()),
        {"layers": 1, "seed": 3},
    ),
    "ssimpert.analysis.shift_null": (
        lambda **o: analysis.shift_null(maps(), maps().flip(0), **({"shifts": 200} | o)),
        {"shifts": 210, "minimum_distance": 2.5, "seed": 3},
    ),
    "ssimpert.analysis.top_iou": (lambda **o: analysis.top_iou(maps(), maps().flip(0), **o), {"share": 0.25}),
    "ssimpert.analysis.rms": (lambda **o: analysis.rms(near() - image(), **o), {"sigma": 1.5}),
    "ssimpert.analysis.contribution": (
        lambda **o: analysis.contribution(image(), near() - image(), **o),
        {"sigma": 1.5},
    ),
    "ssimpert.analysis.gradient_magnitude": (lambda **o: analysis.gradient_magnitude(image(), **o), {"sigma": 1.5}),
    "ssimpert.analysis.perceptual_ball_saliency": (
        lambda **o: analysis.perceptual_ball_saliency(model(), image(), near(), **o),
        {"sigma": 1.5},
    ),
    "ssimpert.analysis.saliency": (
        lambda **o: analysis.saliency("ssim" if "data_range" in o else "rms", image(), near(), **o),
        {"sigma": 1.5, "data_range": 2.0},
    ),
    "ssimpert.analysis.saliency_maps": (
        lambda **o: analysis.saliency_maps(image(), near(), image(), **o),
        {"sigma": 1.5, "data_range": 2.0},
    ),
    "ssimpert.analysis.ssim_saliency": (
        lambda **o: analysis.ssim_saliency(image(), near(), **o),
        {"data_range": 2.0},
    ),
    **{
        f"ssimpert.metrics.{name}": (
            lambda name=name, **o: getattr(metrics, name)(image(), near(), window=WINDOW, **o),
            {"data_range": 2.0},
        )
        for name in ("ssim", "ssim_map", "dissimilarity_map", "min_window_ssim")
    },
    "ssimpert.metrics.contrast_distance": (
        lambda **o: metrics.contrast_distance(image(), near(), **o),
        {"constant": 0.5, "pixel_scale": 1.5},
    ),
    "ssimpert.report.agreement_against_level_figure": (
        lambda **o: report.agreement_against_level_figure(tabled(), **({"resamples": 20} | o)),
        {"confidence": 0.75, "resamples": 30, "seed": 3},
    ),
    "ssimpert.report.comparison_figure": (
        lambda **o: report.comparison_figure(image(), perturbed(), comparison(), **o),
        {"index": 1},
    ),
    "ssimpert.report.forest_plot": (
        lambda **o: report.forest_plot(analysis.paired_differences(tabled(), ["local std"], resamples=20), **o),
        {"level": 0.25},
    ),
    "ssimpert.report.insertion_deletion_figure": (
        lambda **o: report.insertion_deletion_figure(curves(), **({"resamples": 20} | o)),
        {"clusters": (1, 2), "confidence": 0.75, "resamples": 30, "seed": 3},
    ),
    "ssimpert.report.map_grid": (
        lambda **o: report.map_grid(image(), comparison(), maps=[("local std", "local_std")], **o),
        {"images": (1,), "columns": 2},
    ),
    "ssimpert.report.margin_figure": (
        lambda **o: report.margin_figure(**({"levels": (0.5, 1.0), "margins": (-1.0, 0.5)} | o)),
        {"levels": (0.25, 2.0), "margins": (0.5, 0.75), "least": 0.75},
    ),
    "ssimpert.report.save_figure": (lambda **o: saved(**o), {"dpi": 50.0}),
    "ssimpert.models.label_name": (
        lambda **o: ssimpert.Classifier(model(), **{"name": "m", **CLASSIFIER}).label_name(**o),
        {"index": 2},
    ),
}
CLASSIFIER: dict[str, Any] = {"input_size": SIDE, "mean": (0.5, 0.5, 0.5), "std": (0.25,) * 3, "labels": "abcd"}
# These take most of a second.
SLOW = {
    "ssimpert.onnx_classifier",
    "ssimpert.lpips_distance",
    "ssimpert.perceptual_ball_constrained",
    "ssimpert.report.comparison_figure",
    "radius per image",
}


def curves() -> Any:
    from ssimpert.report.insertion_deletion_figure import comparison_curves

    return {name: pair for name, pair in comparison_curves(comparison()).items() if "local std" in name}


def saved(**options: Any) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        report.save_figure(report.margin_figure((0.5, 1.0), (-1.0, 0.5)), path, **options)
        return path.read_bytes()


@dataclass(frozen=True)
class Option:
    """One option of one function, and its plain value."""

    function: str
    name: str
    value: Any

    def __str__(self) -> str:
        return f"{self.function.removeprefix('ssimpert.')} {self.name}"

    def call(self, value: Any) -> Any:
        return CALLS[self.function][0](**{self.name: value})

    @property
    def kinds(self) -> list[Callable[[Any], Any]]:
        """The other kinds of numbers that the value can be given as."""
        if isinstance(self.value, tuple):
            dtype = np.int64 if isinstance(self.value[0], int) else np.float64
            kinds: list[Callable[[Any], Any]] = [
                lambda value: np.array(value, dtype=dtype),
                torch.tensor,
                lambda value: [dtype(entry) for entry in value],
                lambda value: np.array(value, dtype=np.int32 if dtype is np.int64 else np.float32),
            ]
        elif isinstance(self.value, int):
            kinds = [np.int64, np.int32, torch.tensor, np.array]
        else:
            kinds = [np.float64, np.float32, torch.tensor, np.array]
        if self.function in SLOW:
            return kinds[1:2] if self.function == "ssimpert.onnx_classifier" else kinds[1:3]
        return kinds


OPTIONS = [Option(function, name, value) for function, (_, values) in CALLS.items() for name, value in values.items()]
NUMBERS = [option for option in OPTIONS if not isinstance(option.value, tuple)]
LISTS = [option for option in OPTIONS if isinstance(option.value, tuple)]


def skip_what_is_not_installed(option: Option) -> None:
    needed = {
        "ssimpert.foolbox_baseline": ("foolbox",),
        "foolbox radius per image": ("foolbox",),
        "ssimpert.lpips_distance": ("torchmetrics",),
        "ssimpert.onnx_classifier": ONNX_PACKAGES,
    }
    for package in needed.get(option.function, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def drawn(artist: Any) -> Any:
    """What an artist of a figure shows: a text, the places of a line, the places of a collection, or an image."""
    if isinstance(artist, Text):
        return artist.get_text()
    if isinstance(artist, Line2D):
        return artist.get_xydata().tolist()  # type: ignore[union-attr]
    if isinstance(artist, Collection):
        return [path.vertices.tolist() for path in artist.get_paths()]
    if isinstance(artist, AxesImage):
        return np.ma.getdata(artist.get_array()).tolist()  # type: ignore[arg-type]
    return type(artist).__name__


def fingerprint(value: Any) -> Any:
    """What can be compared, with the type of every number; times and functions are left out."""
    if isinstance(value, Tensor):
        return "tensor", str(value.dtype), tuple(value.shape), value.detach().double().nan_to_num(-7.0).tolist()
    assert not isinstance(value, np.generic), f"a result holds {value!r}"
    if isinstance(value, np.ndarray):
        return "array", str(value.dtype), value.tolist()
    if isinstance(value, pd.DataFrame):
        return [str(kind) for kind in value.dtypes], value.astype(object).where(value.notna(), None).to_dict("list")
    if isinstance(value, Figure):
        return value.get_size_inches().tolist(), [drawn(artist) for artist in value.findobj()]
    if is_dataclass(value) and not isinstance(value, type):
        names = [entry.name for entry in fields(value)]
        return type(value).__name__, {name: fingerprint(getattr(value, name)) for name in names if name != "seconds"}
    if isinstance(value, Mapping):
        return {key: fingerprint(entry) for key, entry in value.items() if key != "seconds"}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [fingerprint(entry) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return type(value).__name__, value if isinstance(value, (str, bytes, int, float, bool)) or value is None else ""


@cache
def plain_result(option: Option) -> Any:
    return fingerprint(option.call(option.value))


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_numbers_of_any_kind_give_the_plain_result(option: Option) -> None:
    skip_what_is_not_installed(option)
    for kind in option.kinds:
        result = option.call(kind(option.value))
        assert fingerprint(result) == plain_result(option)
        settings = getattr(result, "settings", None)
        if settings is not None:
            json.dumps(settings)
            json_text(settings)


@pytest.mark.parametrize("option", NUMBERS, ids=str)
def test_what_is_no_number_is_refused_in_a_line(option: Option) -> None:
    skip_what_is_not_installed(option)
    wrong: list[Any] = [np.True_, torch.tensor(True), "2", np.zeros((1, 1, 1, 1, 7)), 2j]
    if isinstance(option.value, int):
        wrong += [np.float64(option.value), float(option.value)]
    if (option.function, option.name) == ("ssimpert.compare", "insertion_deletion"):
        wrong = wrong[2:]  # True asks for the default step
    for value in wrong:
        with pytest.raises((InputError, solvers.ProblemError)) as caught:
            option.call(value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [option for option in LISTS if "cluster" not in option.name], ids=str)
def test_what_is_no_list_of_numbers_is_refused_in_a_line(option: Option) -> None:
    skip_what_is_not_installed(option)
    if option.function == "columns of a table" or option.function.startswith("values of "):
        return  # any values, checked by numpy and pandas
    wrong: list[Any] = [np.zeros((2, 2)), [[0.5], [0.25]], "ab", [True] * len(option.value), [2j]]
    if option.name == "images" and option.function == "ssimpert.analysis.agreement_table":
        wrong = [np.zeros((2, 2)), 3]  # any identifiers
    for value in wrong:
        with pytest.raises((InputError, solvers.ProblemError)) as caught:
            option.call(value)
        assert "\n" not in str(caught.value)


SWITCHES: dict[str, Callable[[Any], Any]] = {
    "stop_at_success": lambda on: ssimpert.perturb(model(), image(), BALL, steps=1, stop_at_success=on),
    "recentred": lambda on: ssimpert.perturb(model(), image(), BALL, steps=1, recentred=on),
    "lbfgs": lambda on: ssimpert.perceptual_ball_lbfgs(
        model(), image(), layers=["features.1"], iterations=2, box=on, lower_gamma=on
    ),
    "sanity": lambda on: ssimpert.compare(model(), image(), perturbed(), shifts=0, control=None, sanity=on),
    "insertion_deletion": lambda on: ssimpert.compare(
        model(), image(), perturbed(), shifts=0, control=None, insertion_deletion=on
    ),
    "higher_is_better": lambda on: analysis.shift_null(
        maps(), maps().flip(0), lambda a, b: (a * b).sum(dim=(1, 2)), higher_is_better=on
    ),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_of_any_kind_give_the_plain_result(name: str) -> None:
    call = SWITCHES[name]
    plain = fingerprint(call(True))
    for switch in (np.True_, torch.tensor(True)):
        result = call(switch)
        assert fingerprint(result) == plain
        json.dumps(getattr(result, "settings", None))


NAMES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "attributions": (
        lambda names: ssimpert.compare(model(), image(), perturbed(), shifts=0, control=None, attributions=names),
        ["gradient"],
    ),
    "controls": (lambda names: analysis.paired_differences(tabled(), names, resamples=20), ["local std"]),
    "methods": (
        lambda names: analysis.paired_differences(tabled(), ["local std"], methods=names, resamples=20),
        ["local variance"],
    ),
    "metrics of a figure": (
        lambda names: report.agreement_against_level_figure(tabled(), resamples=20, metrics=names, controls=names[:0]),
        ["pearson"],
    ),
    "metrics of a forest plot": (
        lambda names: report.forest_plot(
            analysis.paired_differences(tabled(), ["local std"], resamples=20), metrics=names
        ),
        ["pearson"],
    ),
    "names of a grid": (
        lambda names: report.map_grid(image(), comparison(), names=names, maps=[("local std", "local_std")]),
        ["first", "second"],
    ),
    "objects": (lambda names: data.composites(2, 0, size=64, objects=names), ["coffee", "camera"]),
    "layers": (lambda names: analysis.randomized_model(model(), names, seed=1)(image()), ["head"]),
    "layers of features": (lambda names: ssimpert.deep_features(model(), names, "none")(image()), ["features.1"]),
    "images": (
        lambda names: comparison().table(images=names),
        ["a", "b"],
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_may_be_an_array(name: str) -> None:
    call, names = NAMES[name]
    assert fingerprint(call(np.array(names))) == fingerprint(call(names)) == fingerprint(call(tuple(names)))


@pytest.mark.parametrize("clusters", [np.array([1, 1, 2, 2]), torch.tensor([1, 1, 2, 2]), torch.tensor([1.0, 1, 2, 2])])
def test_equal_labels_of_a_tensor_are_one_cluster(clusters: Any) -> None:
    interval = analysis.bootstrap_interval([0.5, 0.25, 0.75, 1.0], clusters=clusters, resamples=20)
    assert interval.units == 2


def test_equal_identifiers_of_a_tensor_are_refused() -> None:
    measured = analysis.agreement(maps(), maps().flip(0))
    with pytest.raises(InputError, match=r"images must be all different, got \[3, 3\]"):
        analysis.agreement_table(measured, images=torch.tensor([3, 3]), method="m", kind="k")


def test_boxes_may_be_arrays() -> None:
    boxes = np.array([[2.0, 3, 9, 8], [4, 4, 12, 11]])
    plain = fingerprint(analysis.thresholded_boxes(maps(), torch.from_numpy(boxes), "value"))
    assert fingerprint(analysis.thresholded_boxes(maps(), boxes, "value")) == plain
    assert fingerprint(analysis.thresholded_boxes(maps(), list(boxes[:, None]), "value")) == plain
    with pytest.raises(InputError, match=r"boxes must have shape \(2, 4\), one an image, got \(1, 4\)"):
        analysis.thresholded_boxes(maps(), boxes[:1], "value")


def test_records_of_numbers_of_numpy_and_torch_are_plain() -> None:
    record = {"a": np.float32(0.5), "b": np.int64(3), "c": np.True_, "d": torch.tensor([1.0, math.nan]), 2: np.ones(2)}
    assert json.loads(json_text(record)) == {"a": 0.5, "b": 3, "c": True, "d": [1.0, None], "2": [1.0, 1.0]}


def test_every_public_option_that_takes_a_number_is_tried() -> None:
    words = re.compile(r"\b(int|float|Numbers|Integers|Baseline|Clusters|BatchSize)\b")
    missing = []
    for home in ("ssimpert", "ssimpert.analysis", "ssimpert.report", "ssimpert.metrics", "ssimpert.linearization"):
        package = __import__(home, fromlist=["x"])
        for name in package.__all__:
            function = getattr(package, name)
            public = f"ssimpert.{name}" if name in ssimpert.__all__ else f"{home}.{name}"
            if not callable(function) or (isinstance(function, type) and public not in CALLS):
                continue  # a constant, or the class of what a function returns
            for parameter in inspect.signature(function).parameters.values():
                takes_number = words.search(re.sub(r"Mapping\[.*\]", "", str(parameter.annotation)))
                if takes_number and parameter.name not in CALLS.get(public, (None, {}))[1]:
                    missing.append(f"{public} {parameter.name}")
    assert not missing, " ".join(missing)
