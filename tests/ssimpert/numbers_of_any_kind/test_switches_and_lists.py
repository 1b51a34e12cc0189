"""Switches, lists of names, labels, boxes and records take the kinds of numpy and torch, too."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ssimpert
from ssimpert import analysis, data, report
from ssimpert.errors import InputError
from ssimpert.records import json_text
from tests.ssimpert.numbers_of_any_kind.fingerprint import fingerprint
from tests.ssimpert.numbers_of_any_kind.inputs import BALL, comparison, image, maps, model, perturbed, tabled

SWITCHES: dict[str, Callable[[Any], Any]] = {
    "stop_at_success": lambda on: ssimpert.perturb(model(), image(), BALL, steps=1, stop_at_success=on),
    "shrink": lambda on: ssimpert.perturb(model(), image(), BALL, steps=1, shrink=on),
    "shrink in a feature ball": lambda on: ssimpert.perceptual_ball_constrained(
        model(), image(), 0.1, layers=["features.1"], steps=1, shrink=on
    ),
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
    "columns of runs": (lambda names: analysis.summarize(tabled(), by=names, resamples=20), ["model", "seed"]),
    "columns of runs of pairs": (
        lambda names: analysis.paired_differences(tabled(), ["local std"], by=names, resamples=20),
        ["model"],
    ),
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
