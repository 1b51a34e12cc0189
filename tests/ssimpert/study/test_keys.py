"""The same key, the same record: what changes a key, and what does not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from ssimpert.study import Study, cells, keys
from ssimpert.study.keys import cell_digest, cell_options, changed_options, unit_key, unit_seed

MODEL = "m" * 64
WINDOWS: dict[str, Any] = {"name": "windows", "constraint": "window-ssim", "threshold": 0.95}


def digest(model: str = MODEL, cell: int = 0, **changes: Any) -> bytes:
    sections: dict[str, Any] = {
        "name": "test",
        "data": {"kind": "samples"},
        "models": {"name": "a"},
        "formulations": WINDOWS,
    }
    study = Study(**(sections | changes))
    return cell_digest(study, cells(study)[cell], model)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"data": {"kind": "composites", "n": 3, "name": "shapes"}},
        {"models": {"name": "a", "alias": "called otherwise"}},
        {"models": [{"name": "a"}, {"name": "b"}]},
        {"formulations": WINDOWS | {"name": "another"}},
        {"formulations": WINDOWS | {"threshold": [0.95, 0.9]}},
        {"formulations": [WINDOWS, {"name": "l2", "constraint": "l2"}]},
        {"attacks": {"name": "ddn", "passes": 5}},
        {"repeats": 3},
        # Defaults that are given.
        {"seed": 0, "out": {"arrays": "none"}},
        {"formulations": WINDOWS | {"steps": 20, "engine": "projected_gradient", "shrink": True, "margin_by": 0}},
        {"formulations": WINDOWS | {"window": {"size": 8, "stride": 8, "sigma": "none"}, "luminance": "1e-3"}},
        {"formulations": {key: value for key, value in WINDOWS.items() if key != "threshold"}},
        {"formulations": WINDOWS | {"threshold": "95/100"}},
        {"analysis": {"maps": ["ssim", "contribution", "rms"], "shifts": 200}},
    ],
)
def test_what_does_not_change_a_record_does_not_change_its_key(changes: dict[str, Any]) -> None:
    assert digest(**changes) == digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "n" * 64},
        {"seed": 1},
        {"out": {"arrays": "delta"}},
        {"formulations": WINDOWS | {"threshold": 0.95 + 1e-15}},
        {"formulations": WINDOWS | {"steps": 19}},
        {"formulations": WINDOWS | {"engine": "frank_wolfe"}},
        {"formulations": WINDOWS | {"shrink": False}},
        {"formulations": WINDOWS | {"stop_at_success": False}},
        {"formulations": WINDOWS | {"window": {"stride": 4}}},
        {"formulations": WINDOWS | {"luminance": "preserve"}},
        {"formulations": WINDOWS | {"margin": "least-likely"}},
        {"formulations": WINDOWS | {"margin_by": 0.5}},
        {"formulations": WINDOWS | {"target": 3}},
        {"formulations": WINDOWS | {"quantize": True}},
        {"formulations": WINDOWS | {"eps_rel": 1e-4}},
        {"formulations": WINDOWS | {"max_iter": 7}},
        {"formulations": WINDOWS | {"any_size": True}},
        {"formulations": WINDOWS | {"method": "dual"}},
        {"formulations": WINDOWS | {"budget": "minimal"}},
        {"formulations": WINDOWS | {"constraint": "product-ssim"}},
        {"analysis": {"cam": "layer_cam"}},
        {"analysis": {"maps": ["rms"]}},
        {"analysis": {"controls": ["l2"]}},
        {"analysis": {"shifts": 0}},
        {"analysis": {"metrics": []}},
        {"analysis": {"attributions": ["gradient"]}},
        {"analysis": {"sanity": True}},
        {"analysis": {"layer": "x"}},
        {"repeats": 2, "cell": 1},
    ],
)
def test_what_can_change_a_record_changes_its_key(changes: dict[str, Any]) -> None:
    assert digest(**changes) != digest()


def test_every_option_of_a_formulation_is_in_its_key_or_known_to_decide_nothing() -> None:
    """A key that is added to a section and forgotten here would let old records stand for new ones."""
    from dataclasses import fields

    from ssimpert.study import FormulationSection

    given: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "luminance": (WINDOWS, {"luminance": 0.002}),
        "window": (WINDOWS, {"window": {"size": 4, "stride": 4}}),
        "threshold": (WINDOWS, {"threshold": 0.8}),
        "distance": ({"constraint": "global-ssim"}, {"distance": 0.01}),
        "recentred": ({"constraint": "global-ssim"}, {"recentred": False}),
        "faithful": ({"constraint": "global-ssim"}, {"faithful": True}),
        "radius": ({"constraint": "l2"}, {"radius": 2}),
        "layers": ({"constraint": "feature-ball"}, {"layers": ["a"]}),
        "normalization": ({"constraint": "feature-ball"}, {"normalization": "mse"}),
        "l2_radius": ({"constraint": "feature-ball"}, {"l2_radius": "none"}),
        "gamma": ({"constraint": "perceptual-ball"}, {"gamma": 10}),
        "pixel_weight": ({"constraint": "perceptual-ball"}, {"pixel_weight": 2}),
        "wanted_margin": ({"constraint": "perceptual-ball"}, {"wanted_margin": -3}),
        "margin_term": ({"constraint": "perceptual-ball"}, {"margin_term": "hinge"}),
        "lower_gamma": ({"constraint": "perceptual-ball"}, {"lower_gamma": False}),
        "step_norm": ({"constraint": "perceptual-ball-constrained"}, {"step_norm": 1}),
        "rounds": (WINDOWS | {"budget": "minimal"}, {"rounds": 3}),
        "tolerance": (WINDOWS | {"budget": "minimal"}, {"tolerance": 0.1}),
        "candidates": (WINDOWS | {"budget": "minimal"}, {"candidates": 3}),
        **{
            key: (WINDOWS, {key: value})
            for key, value in {
                "constraint": "mean-ssim",
                "engine": "sequential_convex",
                "steps": 3,
                "budget": "minimal",
                "margin": "least-likely",
                "margin_by": 1,
                "target": 2,
                "stop_at_success": False,
                "shrink": False,
                "quantize": True,
                "method": "dual",
                "eps_rel": 0.1,
                "max_iter": 5,
                "any_size": True,
            }.items()
        },
    }
    assert set(given) == {entry.name for entry in fields(FormulationSection)} - {"name"}
    for key, (base, change) in given.items():
        before = digest(formulations={"name": "x"} | base)
        assert digest(formulations={"name": "x"} | base | change) != before, key


def test_an_attack_is_decided_by_its_passes_and_its_radius() -> None:
    made = [
        digest(formulations=(), attacks=attack)
        for attack in (
            {"name": "l2-pgd", "passes": 5, "radius": 1},
            {"name": "l2-pgd", "passes": 6, "radius": 1},
            {"name": "l2-pgd", "passes": 5, "radius": 2},
            {"name": "linf-pgd", "passes": 5, "radius": 1},
            {"name": "l2-pgd", "passes": 5, "radius": 1, "target": 3},
        )
    ]
    assert len(set(made)) == len(made)
    alias = {"name": "l2-pgd", "passes": [5, 6], "radius": 1, "alias": "PGD"}
    assert digest(formulations=(), attacks=alias) == made[0]


def test_a_new_result_version_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(keys, "RESULT_VERSION", keys.RESULT_VERSION + 1)
    assert digest() != before


def test_keys_and_seeds_are_those_of_other_machines() -> None:
    """Written down, so that a change of the way in which keys are made is seen: it would orphan every old record."""
    assert unit_key(b"cell", "item") == hashlib.sha256(b"cellitem").hexdigest()[:32]
    expected = int(hashlib.sha256(b"7:abc").hexdigest()[:16], 16) // 2
    assert unit_seed(7, "abc") == expected < 2**63
    study = Study("test", data={"kind": "samples"}, models={"name": "a"}, formulations=WINDOWS)
    options = cell_options(study, cells(study)[0], MODEL)
    text = json.dumps(options, sort_keys=True, separators=(",", ":"))
    assert cell_digest(study, cells(study)[0], MODEL) == hashlib.sha256(text.encode()).digest()
    assert options["formulation"] == {
        "constraint": "window-ssim", "threshold": 0.95, "window_size": 8, "stride": 8, "sigma": None, "border": "full",
        "luminance": 0.001, "budget": "fixed", "steps": 20, "target": None, "quantize": False, "eps_rel": 0.001,
        "max_iter": 2000, "any_size": False, "method": "auto", "margin": "untargeted", "margin_by": 0.0,
        "engine": "projected_gradient", "faithful": False, "stop_at_success": True, "shrink": True,
    }  # fmt: skip


def test_the_options_in_which_two_cells_differ_are_named() -> None:
    study = Study("test", data={"kind": "samples"}, models={"name": "a"}, formulations=WINDOWS)
    changed = Study(
        "test",
        data={"kind": "samples"},
        models={"name": "a"},
        formulations=WINDOWS | {"steps": 5, "luminance": "split"},
        analysis={"shifts": 0},
    )
    first, second = (cell_options(each, cells(each)[0], MODEL) for each in (study, changed))
    assert changed_options(first, second) == ("analysis.shifts", "formulation.luminance", "formulation.steps")
    assert changed_options(first, first) == ()
    renumbered = replace(cells(study)[0], index=17)
    assert cell_options(study, renumbered, MODEL) == first
