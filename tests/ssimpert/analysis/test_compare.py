"""The comparison's rows against scipy on its maps; controls, errors and JSON."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import solvers
from ssimpert.analysis.cam import grad_cam
from ssimpert.analysis.compare import compare
from ssimpert.analysis.controls import gradient_magnitude, local_std
from ssimpert.analysis.saliency import saliency_maps
from ssimpert.data import load_image
from ssimpert.errors import InputError
from ssimpert.models import load_model
from ssimpert.perturbation import perturb
from tests.ssimpert.analysis.example import SmallClassifier, example_images, example_result


@pytest.fixture
def case() -> tuple[SmallClassifier, Tensor, Any, Any]:
    """Model, two images, a perturbation named "ours" and a control named "l2 control"."""
    model, image = SmallClassifier(), example_images()
    ours = example_result(model, image, name="ours")
    control = example_result(model, image, name="l2 control", step=0.03, seed=1)
    return model, image, ours, control


def test_maps_and_cam_are_those_of_the_parts(case: tuple[SmallClassifier, Tensor, Any, Any]) -> None:
    model, image, ours, control = case
    view = compare(model, image, ours, control=control)
    assert torch.equal(view.cam, grad_cam(model, image, ours.label_before))
    assert list(view.maps) == ["ours", "l2 control", "gradient magnitude", "local std"]
    for result in (ours, control):
        expected = saliency_maps(image, result.adversarial, result.gradient)
        assert list(view.maps[result.name]) == ["rms", "ssim", "contribution"]
        for kind, values in view.maps[result.name].items():
            assert torch.equal(values, expected[kind])
    assert torch.equal(view.maps["local std"]["local_std"], local_std(image))
    magnitude = view.maps["gradient magnitude"]["gradient_magnitude"]
    assert torch.equal(magnitude, gradient_magnitude(ours.gradient))
    assert view.control is control
    assert view.perturbation == "ours"
    assert view.cam_layer == "features.3"
    assert torch.equal(view.cam_target, ours.label_before)


def test_records_are_tidy_and_equal_scipy(case: tuple[SmallClassifier, Tensor, Any, Any]) -> None:
    model, image, ours, control = case
    view = compare(model, image, ours, control=control)
    keys = [(row["image"], row["perturbation"], row["map"]) for row in view.records]
    assert len(keys) == len(set(keys)) == 2 * (3 + 3 + 1 + 1)
    assert [key[0] for key in keys] == [0] * 8 + [1] * 8
    for row in view.records:
        values = view.maps[row["perturbation"]][row["map"]][row["image"]].double().numpy().ravel()
        cam = view.cam[row["image"]].double().numpy().ravel()
        assert row["pearson"] == pytest.approx(stats.pearsonr(values, cam)[0], abs=1e-10)
        assert row["spearman"] == pytest.approx(stats.spearmanr(values, cam)[0], abs=1e-10)
        top = [set(np.argsort(-v, kind="stable")[:205].tolist()) for v in (values, cam)]
        assert row["top20_iou"] == pytest.approx(len(top[0] & top[1]) / len(top[0] | top[1]))
    assert len({row["pearson"] for row in view.records}) == 16


def test_without_a_control_the_photo_and_the_gradient_stay(
    case: tuple[SmallClassifier, Tensor, Any, Any],
) -> None:
    model, image, ours, _ = case
    view = compare(model, image, ours, control=None)
    assert view.control is None
    assert {row["perturbation"] for row in view.records} == {"ours", "gradient magnitude", "local std"}
    assert view.to_json()["control"] is None


def test_the_l2_control_is_run_by_default(
    case: tuple[SmallClassifier, Tensor, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image, ours, control = case
    calls = []

    def l2_control(*arguments: object) -> Any:
        calls.append(arguments)
        return control

    module = ModuleType("ssimpert.perturbation.control")
    module.l2_control = l2_control  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ssimpert.perturbation.control", module)
    assert compare(model, image, ours).control is control
    assert calls == [(model, image, ours)]


def test_another_layer_gives_another_map(case: tuple[SmallClassifier, Tensor, Any, Any]) -> None:
    model, image, ours, _ = case
    view = compare(model, image, ours, control=None, layer="features.1")
    assert torch.equal(view.cam, grad_cam(model, image, ours.label_before, "features.1"))
    assert view.cam_layer == "features.1"
    assert not torch.equal(view.cam, grad_cam(model, image, ours.label_before))


def test_json_is_strict_and_has_null_where_a_map_is_constant(
    case: tuple[SmallClassifier, Tensor, Any, Any],
) -> None:
    model, image, ours, control = case
    ours.adversarial[1] = image[1]
    control.margin_after[0] = float("nan")
    view = compare(model, image, ours, control=control)
    back = json.loads(json.dumps(view.to_json(), allow_nan=False))
    rows = {(row["image"], row["perturbation"], row["map"]): row for row in back["records"]}
    assert len(rows) == 16
    for kind in ("rms", "ssim", "contribution"):
        assert rows[1, "ours", kind]["pearson"] is None
        assert rows[1, "ours", kind]["spearman"] is None
        assert rows[1, "ours", kind]["top20_iou"] is None
        assert rows[0, "ours", kind]["pearson"] is not None
    assert rows[1, "l2 control", "rms"]["pearson"] is not None
    assert back["perturbation"] == "ours"
    assert back["cam_target"] == ours.label_before.tolist()
    summary = back["control"]
    assert summary["name"] == "l2 control"
    assert summary["success"] == control.success.tolist()
    assert summary["margin_after"][0] is None
    assert summary["l2_norm"] == pytest.approx(np.linalg.norm(control.delta.flatten(1).numpy(), axis=1), rel=1e-6)


def test_errors_name_the_value(case: tuple[SmallClassifier, Tensor, Any, Any]) -> None:
    model, image, ours, control = case
    with pytest.raises(InputError, match="unknown control 'linf'"):
        compare(model, image, ours, control="linf")
    with pytest.raises(InputError, match=r"image has shape \(1, 3, 32, 32\), but adversarial of 'ours'"):
        compare(model, image[:1], ours, control=None)
    control.gradient = control.gradient[:1]
    with pytest.raises(InputError, match=r"gradient of 'l2 control' has \(1, 3, 32, 32\)"):
        compare(model, image, ours, control=control)
    with pytest.raises(InputError, match="two of the maps compared are named 'ours'"):
        compare(model, image, ours, control=ours)
    with pytest.raises(InputError, match="unknown layer 'blocks'"):
        compare(model, image, ours, control=None, layer="blocks")


def test_a_real_perturbation_with_its_l2_control() -> None:
    """Through the whole chain: on a real photo re-centred GlobalSSIM ascent is l2 ascent in effect (methods B)."""
    model = load_model("efficientnet-lite0", device="cpu")
    image = load_image("rocket", size=model.input_size)
    result = perturb(model, image, solvers.GlobalSSIM(0.005), recentred=True)
    view = compare(model, image, result)
    assert view.control is not None
    assert view.cam_layer == model.cam_layer
    assert view.cam.amax() == 1
    rows = {(row["perturbation"], row["map"]): row for row in view.records}
    assert len(rows) == len(view.records) == 8
    for kind in ("rms", "ssim", "contribution"):
        ours, control = rows[result.name, kind], rows[view.control.name, kind]
        assert ours["pearson"] == pytest.approx(control["pearson"], abs=0.01)
    assert rows["local std", "local_std"]["pearson"] < rows[result.name, "rms"]["pearson"]
    json.dumps(view.to_json(), allow_nan=False)
