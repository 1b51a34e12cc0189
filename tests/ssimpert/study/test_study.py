"""A study refuses what can't be computed, before anything is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ssimpert.errors import InputError
from ssimpert.study import FormulationSection, ModelSection, Study, cells

SET = {"name": "windows", "constraint": "window-ssim"}


def study(**changes: Any) -> Study:
    sections: dict[str, Any] = {
        "name": "test",
        "data": {"kind": "composites", "n": 2},
        "models": {"name": "efficientnet-lite0"},
        "formulations": SET,
    }
    return Study(**(sections | changes))


def test_sections_and_mappings_describe_the_same_study() -> None:
    sections = study(
        models=[ModelSection(name="efficientnet-lite0")],
        formulations=[FormulationSection(name="windows", constraint="window-ssim")],
    )
    assert sections == study()


@pytest.mark.parametrize("number", [3, np.int64(3), torch.tensor(3)])
def test_numbers_of_any_kind_describe_the_same_study(number: Any) -> None:
    same = study(seed=number, repeats=number, formulations=SET | {"steps": number, "threshold": 0.9})
    assert same == study(seed=3, repeats=3, formulations=SET | {"steps": 3, "threshold": [0.9]})
    assert isinstance(same.seed, int)
    assert type(same.formulations[0].steps) is int


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": " "}, "study: name must be a name, got ' '"),
        ({"seed": -1}, "study: seed must be an integer from 0"),
        ({"repeats": 0}, "study: repeats must be an integer of at least 1, got 0"),
        ({"data": []}, r"needs at least one \[\[data\]\] section"),
        ({"models": ()}, r"needs at least one \[\[model\]\] section"),
        ({"formulations": ()}, r"at least one \[\[formulation\]\] or one \[\[attack\]\]"),
        ({"data": {"kind": "composite", "n": 1}}, "data 'composite': kind must be one of .* did you mean 'composites'"),
        ({"data": {"n": 1}}, "data 1: the key 'kind' is missing"),
        ({"data": {"kind": "composites"}}, "data 'composites': .* needs the key 'n'"),
        ({"data": {"kind": "composites", "m": 1}}, "'m' does not belong to data of kind 'composites'"),
        ({"data": [{"kind": "samples"}] * 2}, "two sections are called 'samples'; give each its own name"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, "two sections are called 'a'; give each its own alias"),
        ({"formulations": SET | {"treshold": 0.9}}, "unknown key 'treshold'; did you mean 'threshold'"),
        ({"formulations": SET | {"radius": 1}}, "'radius' does not belong to window-ssim"),
        ({"formulations": SET | {"constraint": "windows-ssim"}}, "did you mean 'window-ssim'"),
        ({"formulations": SET | {"threshold": 1.5}}, "formulation 'windows': .*1.5"),
        ({"formulations": SET | {"threshold": [0.9, 0.9]}}, "threshold has 0.9 twice"),
        ({"formulations": SET | {"threshold": []}}, "threshold must have at least one number"),
        ({"formulations": SET | {"threshold": True}}, "threshold must be a number such as"),
        ({"formulations": SET | {"window": {"sise": 7}}}, "'sise' does not belong to window; did you mean 'size'"),
        ({"formulations": SET | {"window": {"size": 0}}}, "window size must be an integer of at least 1"),
        ({"formulations": SET | {"luminance": "none"}}, "luminance must be a number or one of 'split', 'preserve'"),
        ({"formulations": SET | {"engine": "frank-wolfe"}}, "did you mean 'frank_wolfe'"),
        ({"formulations": SET | {"engine": "frank_wolfe", "recentred": True}}, "contradicts engine"),
        ({"formulations": SET | {"budget": "minimal", "threshold": [0.9, 0.8]}}, "looks for the level itself"),
        ({"formulations": SET | {"budget": "minimal", "shrink": True}}, "'shrink' does not belong to .* 'minimal'"),
        ({"formulations": SET | {"rounds": 3}}, "'rounds' does not belong to window-ssim with budget 'fixed'"),
        ({"formulations": SET | {"shrink": True, "stop_at_success": False}}, "asks for the largest margin"),
        ({"formulations": SET | {"faithful": True}}, "faithful is for global-ssim"),
        ({"formulations": SET | {"method": "autto"}}, "unknown method 'autto'"),
        ({"formulations": SET | {"target": -1}}, "target must be the number of a class"),
        ({"formulations": SET | {"target": 1, "margin": "least-likely"}}, "target contradicts margin"),
        ({"formulations": SET | {"steps": 1.5}}, "steps must be an integer"),
        ({"formulations": {"name": "b", "constraint": "perceptual-ball", "engine": "recentred"}}, "'engine' does not"),
        ({"formulations": {"name": "b", "constraint": "feature-ball", "layers": "none"}}, "no feature to bound"),
        ({"formulations": {"name": "b", "constraint": "l2", "radius": -1}}, "radius must be positive"),
        (
            {"formulations": {"name": "b", "constraint": "mean-ssim", "luminance": 0.01}},
            "nothing projects onto .* take engine=",
        ),
        ({"formulations": [SET, SET | {"name": "other"}]}, "computes the same as formulation 'windows'"),
        ({"formulations": [SET, SET]}, "two sections are called 'windows'"),
        ({"attacks": {"name": "dnn", "passes": 1}}, "did you mean 'ddn'"),
        ({"attacks": {"name": "ddn", "passes": 1, "radius": 1}}, "takes no radius"),
        ({"attacks": {"name": "l2-pgd", "passes": 1}}, "needs a radius"),
        ({"attacks": {"name": "ddn", "passes": [1, 1]}}, "passes must be different numbers"),
        ({"attacks": {"name": "ddn"}}, "the key 'passes' is missing"),
        ({"analysis": {"metrics": ["agreements"]}}, "did you mean 'agreement'"),
        ({"analysis": {"maps": ["rms", "rms"]}}, "maps has 'rms' twice"),
        ({"analysis": {"cam": "gradcam"}}, "did you mean 'grad_cam'"),
        ({"analysis": {"shifts": 100}}, "at least 200"),
        ({"analysis": {"sanity": 1}}, "sanity must be True or False"),
        ({"data": {"kind": "samples"}, "analysis": {"metrics": ["pointing"]}}, "data of kind 'samples' have none"),
        ({"out": {"arrays": "deltas"}}, "did you mean 'delta'"),
        ({"formulations": "windows"}, "formulation must be a list of sections"),
        ({"analysis": 3}, "analysis: must be a section"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study(**changes)


def test_defaults_are_those_of_the_command_line() -> None:
    ball = FormulationSection(name="ball", constraint="global-ssim")
    assert (ball.engine_name, ball.levels, ball.used_steps()) == ("recentred", (0.005,), 20)
    linf = FormulationSection(name="linf", constraint="linf", radius="2/255")
    assert linf.levels == FormulationSection(name="linf", constraint="linf").levels == (2 / 255,)
    least = FormulationSection(name="least", constraint="l2", budget="minimal")
    assert (least.engine_name, least.used_steps()) == ("projected_gradient", 10)


def test_cells_are_models_by_formulations_by_levels_by_repeats_in_declared_order() -> None:
    made = study(
        models=[{"name": "a"}, {"name": "a", "alias": "second", "weights": "random"}],
        formulations=[SET | {"threshold": [0.99, 0.95]}, {"name": "l2", "constraint": "l2", "budget": "minimal"}],
        attacks=[{"name": "l2-pgd", "passes": [10, 20], "radius": [0.5, 1]}, {"name": "ddn", "passes": 5}],
        repeats=2,
    )
    found = cells(made)
    assert [cell.index for cell in found] == list(range(2 * (2 + 1 + 4 + 1) * 2))
    named = [tuple(cell.names.values()) for cell in found[:16]]
    windows = ("windows", "threshold", "projected_gradient")
    expected = [("a", windows[0], level, *windows[1:], "", None, repeat) for level in (0.99, 0.95) for repeat in (0, 1)]
    expected += [("a", "l2", None, "found", "projected_gradient", "", None, repeat) for repeat in (0, 1)]
    for radius in (0.5, 1.0):
        for passes in (10, 20):
            expected += [("a", "", radius, "radius", "", "l2-pgd", passes, repeat) for repeat in (0, 1)]
    expected += [("a", "", None, "", "", "ddn", 5, repeat) for repeat in (0, 1)]
    assert named == expected
    assert {cell.names["model"] for cell in found[16:]} == {"second"}
