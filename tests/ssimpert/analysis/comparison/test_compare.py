"""The comparison's numbers against scipy and against the metrics called directly; controls, errors, table and JSON."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import solvers
from ssimpert.analysis import (
    agreement,
    centred_gaussian,
    check_table,
    compare,
    grad_cam,
    gradient_magnitude,
    hires_cam,
    layer_cam,
    local_std,
    local_variance,
    mask_agreement,
    randomized_model,
    read_table,
    saliency_maps,
    shift_null,
    smooth_grad,
    write_table,
)
from ssimpert.analysis.comparison.options import ComparisonOptions
from ssimpert.analysis.faithfulness.insertion_deletion import deletion, insertion
from ssimpert.analysis.localization.thresholded_boxes import thresholded_boxes
from ssimpert.data import load_image
from ssimpert.errors import InputError
from ssimpert.models import load_model
from ssimpert.perturbation import perturb
from tests.ssimpert.analysis.example import SmallClassifier, WithMean, example_images, example_result

Case = tuple[SmallClassifier, Tensor, Any, Any]


@pytest.fixture
def case() -> Case:
    """Model, two images, a perturbation named "ours" and a control named "l2 control"."""
    model, image = SmallClassifier(), example_images()
    ours = example_result(model, image, name="ours")
    control = example_result(model, image, name="l2 control", step=0.03, seed=1)
    return model, image, ours, control


OTHERS = ["gradient magnitude", "local std", "local variance", "centred Gaussian"]


def test_maps_and_cam_are_those_of_the_parts(case: Case) -> None:
    model, image, ours, control = case
    view = compare(model, image, ours, control=control)
    assert torch.equal(view.cam, grad_cam(model, image, ours.label_before))
    assert list(view.maps) == ["ours", "l2 control", *OTHERS]
    for result in (ours, control):
        expected = saliency_maps(image, result.adversarial, result.gradient)
        assert list(view.maps[result.name]) == ["rms", "ssim", "contribution"]
        for kind, values in view.maps[result.name].items():
            assert torch.equal(values, expected[kind])
    assert torch.equal(view.maps["local std"]["local_std"], local_std(image))
    assert torch.equal(view.maps["local variance"]["local_variance"], local_variance(image))
    assert torch.equal(view.maps["centred Gaussian"]["centred_gaussian"][1], centred_gaussian(32, 32))
    magnitude = view.maps["gradient magnitude"]["gradient_magnitude"]
    assert torch.equal(magnitude, gradient_magnitude(ours.gradient))
    assert view.control is control
    assert view.perturbation == "ours"
    assert view.cam_layer == "features.3"
    assert view.cam_name == "grad_cam"
    assert torch.equal(view.cam_target, ours.label_before)


def test_records_are_every_metric_computed_directly(case: Case) -> None:
    model, image, ours, control = case
    view = compare(model, image, ours, control=control)
    keys = [(row["image"], row["perturbation"], row["map"]) for row in view.records]
    assert len(keys) == len(set(keys)) == 2 * (3 + 3 + 4)
    assert [key[0] for key in keys] == [0] * 10 + [1] * 10
    for row in view.records:
        maps, index = view.maps[row["perturbation"]][row["map"]], row["image"]
        values, cam = (v[index].double().numpy().ravel() for v in (maps, view.cam))
        assert row["pearson"] == pytest.approx(stats.pearsonr(values, cam)[0], abs=1e-10)
        assert row["spearman"] == pytest.approx(stats.spearmanr(values, cam)[0], abs=1e-10)
        top = [set(np.argsort(-v, kind="stable")[:205].tolist()) for v in (values, cam)]
        assert row["top20_iou"] == pytest.approx(len(top[0] & top[1]) / len(top[0] | top[1]))
        direct = agreement(maps[index : index + 1], view.cam[index : index + 1])
        for metric, value in direct.values.items():
            assert row[metric] == float(value), metric  # type: ignore[literal-required]
        assert row["reasons"] == {}
        for metric, p_value in row["p_values"].items():
            null = shift_null(maps[index : index + 1], view.cam[index : index + 1], metric)
            assert p_value == float(null.p_value)
        assert list(row["p_values"]) == ["pearson", "spearman"]


def test_the_table_holds_the_records_in_long_form(case: Case, tmp_path: Path) -> None:
    model, image, ours, control = case
    view = compare(model, image, ours, control=control, shifts=300, seed=4)
    table = view.table(["cat", "dog"], columns={"object": ["tabby", "pug"]})
    check_table(table)
    rows = {(row["image"], row["perturbation"], row["map"]): row for row in view.records}
    assert len(table) == len(rows) * 8
    for entry in table.itertuples(index=False):
        row: Any = rows[["cat", "dog"].index(entry.image), entry.method, entry.map]
        assert entry.value == row[entry.metric]
        assert entry.object == {"cat": "tabby", "dog": "pug"}[entry.image]
        expected = row["p_values"].get(entry.metric, math.nan)
        assert entry.p_value == expected or (math.isnan(entry.p_value) and math.isnan(expected))
    assert table["p_value"].notna().sum() == 2 * len(rows)
    null = shift_null(view.maps["ours"]["rms"], view.cam, "spearman", shifts=300, seed=4)
    assert rows[1, "ours", "rms"]["p_values"]["spearman"] == float(null.p_value[1])
    assert rows[0, "ours", "rms"]["p_values"]["spearman"] == float(null.p_value[0])
    assert table.attrs["settings"]["shifts"] == 300
    assert table.attrs["cam"] == "grad_cam"
    write_table(table, tmp_path / "agreement.parquet")
    again = read_table(tmp_path / "agreement.parquet")
    pd.testing.assert_frame_equal(again, table)
    assert again.attrs["settings"] == table.attrs["settings"]
    assert list(view.table()["image"].unique()) == [0, 1]
    with pytest.raises(InputError, match="column 'p_value' is the table's own"):
        view.table(columns={"p_value": [0, 0]})


def test_a_batch_is_its_images_one_by_one() -> None:
    # In float64, for convolutions of a batch round differently.
    model, image = WithMean().double(), example_images(3).double()
    ours = example_result(model, image, name="ours")
    options: Any = {"control": None, "attributions": ["smooth_grad"], "insertion_deletion": 128}
    batch = compare(model, image, ours, **options).table()
    single = []
    for k in range(3):
        one = example_result(model, image, name="ours")
        for name, value in vars(one).items():
            if isinstance(value, Tensor):
                setattr(one, name, value[k : k + 1])
        single.append(compare(model, image[k : k + 1], one, **options).table([k]))
    key = ["image", "method", "map", "metric"]
    together = pd.concat(single).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(batch.sort_values(key, ignore_index=True), together, rtol=1e-9)


def test_without_a_control_the_photo_and_the_gradient_stay(case: Case) -> None:
    model, image, ours, _ = case
    view = compare(model, image, ours, control=None, shifts=0)
    assert view.control is None
    assert list(view.maps) == ["ours", *OTHERS]
    assert view.to_json()["control"] is None
    assert all(row["p_values"] == {} for row in view.records)
    assert view.table()["p_value"].isna().all()


def test_the_l2_control_is_run_by_default(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image, ours, control = case
    calls = []

    def l2_control(*arguments: object, support: Tensor | None) -> Any:
        calls.append((*arguments, support))
        return control

    monkeypatch.setattr(import_module("ssimpert.analysis.comparison.maps"), "l2_control", l2_control)
    assert compare(model, image, ours).control is control
    ours.settings["support"] = 0.5
    with pytest.raises(InputError, match="'ours' was confined to a support: give it as support="):
        compare(model, image, ours)
    room = (ours.delta != 0).any(dim=1, keepdim=True)
    assert compare(model, image, ours, support=room).control is control
    assert [call[:3] for call in calls] == [(model, image, ours)] * 2
    assert [call[3] for call in calls] == [None, room]
    room[1, :, 9:20, 9:20] = False
    with pytest.raises(InputError, match="'ours' changes pixels of image 1 outside of the support"):
        compare(model, image, ours, support=room)


def test_another_layer_and_another_cam_give_another_map(case: Case) -> None:
    model, image, ours, _ = case
    view = compare(model, image, ours, control=None, layer="features.1")
    assert torch.equal(view.cam, grad_cam(model, image, ours.label_before, "features.1"))
    assert view.cam_layer == "features.1"
    assert not torch.equal(view.cam, grad_cam(model, image, ours.label_before))
    other = compare(model, image, ours, control=None, cam="layer_cam", layer="features.1")
    assert torch.equal(other.cam, layer_cam(model, image, ours.label_before, "features.1"))
    assert other.cam_name == "layer_cam"
    both = compare(model, image, ours, control=None, attributions=["hires_cam", "gradient"], layer="features.1")
    assert torch.equal(both.maps["hires_cam"]["hires_cam"], hires_cam(model, image, ours.label_before, "features.1"))


def test_attributions_by_name_join_the_maps(case: Case) -> None:
    model, image, ours, _ = case
    view = compare(model, image, ours, control=None, attributions=["smooth_grad", "grad_cam"], seed=3)
    assert list(view.maps) == ["ours", *OTHERS, "smooth_grad", "grad_cam"]
    expected = smooth_grad(model, image, ours.label_before, seed=3)
    assert torch.equal(view.maps["smooth_grad"]["smooth_grad"], expected)
    rows = {(row["image"], row["perturbation"]): row for row in view.records}
    assert rows[0, "grad_cam"]["pearson"] == pytest.approx(1)
    assert rows[0, "smooth_grad"]["spearman"] == float(agreement(expected, view.cam).values["spearman"][0])


def test_boxes_are_the_objects_and_the_best_box_is_one_of_them(case: Case) -> None:
    model, image, ours, _ = case
    boxes = [torch.tensor([[8.0, 5, 30, 20], [0, 0, 3, 3.4]]), torch.tensor([[0.0, 0, 32, 4]])]
    union = torch.zeros(2, 32, 32, dtype=torch.bool)
    union[0, 5:20, 8:30], union[0, :3, :3], union[1, :4] = True, True, True
    view = compare(model, image, ours, control=None, boxes=boxes, shifts=0)
    beside = compare(model, image, ours, control=None, boxes=boxes, masks=union.flip(2), shifts=0)
    by_masks = compare(model, image, ours, control=None, masks=union, shifts=0)
    assert view.settings["boxes"] is True
    for row, other, plain in zip(view.records, beside.records, by_masks.records, strict=True):
        maps = view.maps[row["perturbation"]][row["map"]]
        expected = thresholded_boxes(maps, boxes, "value").iou.amax(dim=1)[row["image"]]
        assert row["best_box_iou"] == other["best_box_iou"] == float(expected)
        assert row["energy_over_area"] == plain["energy_over_area"]
        assert row["pointing_hit"] == plain["pointing_hit"]
    assert any(
        row["energy_over_area"] != other["energy_over_area"]
        for row, other in zip(view.records, beside.records, strict=True)
    )


def test_masks_add_energy_pointing_and_boxes(case: Case) -> None:
    model, image, ours, _ = case
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 5:20, 8:30], masks[1, :4] = True, True
    view = compare(model, image, ours, control=None, masks=masks)
    for row in view.records:
        index = slice(row["image"], row["image"] + 1)
        direct = mask_agreement(view.maps[row["perturbation"]][row["map"]][index], masks[index])
        for metric in ("energy_over_area", "pointing_hit", "best_box_iou"):
            assert row[metric] == float(direct.values[metric])  # type: ignore[literal-required]


def test_insertion_and_deletion_keep_their_curves(case: Case) -> None:
    _, image, ours, _ = case
    model = WithMean()
    view = compare(model, image, ours, control=None, insertion_deletion=100)
    ours_scores = view.scores["ours"]["rms"]
    for kind, run in (("insertion", insertion), ("deletion", deletion)):
        direct = run(model, image, view.maps["ours"]["rms"], target=ours.label_before, step=100)
        assert torch.equal(ours_scores.curves[kind].scores, direct.scores)  # type: ignore[index]
        assert torch.equal(ours_scores.values[f"{kind}_auc"], direct.auc)
    curve = json.loads(json.dumps(view.to_json(), allow_nan=False))["curves"]["ours"]["rms"]["deletion"]
    assert np.trapezoid(curve["scores"][1], dx=1 / 11) == pytest.approx(curve["auc"][1])
    assert len(curve["fractions"]) == 12
    assert compare(model, image, ours, control=None).to_json()["curves"] is None


@pytest.mark.parametrize("inference", [False, True])
def test_sanity_compares_the_maps_of_random_weights(case: Case, inference: bool) -> None:
    # With a batch norm, whose statistics come from the images.
    model, image, ours = SmallClassifier(), case[1], case[2]
    model.features[2] = nn.Sequential(model.features[2], nn.BatchNorm2d(8)).eval()
    state = torch.random.get_rng_state()
    with torch.inference_mode(inference):
        view = compare(model, image, ours, control=None, sanity=True, seed=7)
    assert torch.equal(torch.random.get_rng_state(), state)
    untrained = randomized_model(model, seed=7, calibration=image)
    maps = view.maps["random weights"]
    assert torch.equal(maps["grad_cam"], grad_cam(untrained, image, ours.label_before))
    moving = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ours.margin(untrained(moving), ours.label).sum(), moving)
    assert torch.allclose(maps["gradient_magnitude"], gradient_magnitude(gradient), rtol=1e-5, atol=1e-8)
    trained = view.maps["gradient magnitude"]["gradient_magnitude"]
    assert not torch.allclose(maps["gradient_magnitude"], trained, rtol=0.1)


def test_progress_counts_every_stage_to_its_end(case: Case) -> None:
    model, image, ours, control = case
    for options in (
        {"control": control},
        {"control": None, "attributions": ["gradient", "hires_cam"], "sanity": True},
    ):
        seen: list[tuple[str, int, int]] = []
        compare(model, image, ours, progress=lambda *stage, seen=seen: seen.append(stage), **options)  # type: ignore[misc]
        total = seen[0][2]
        assert [stage[1] for stage in seen] == list(range(total + 1))
        assert {stage[2] for stage in seen} == {total}
        assert seen[-1][0] == "done"


def test_reasons_stand_in_for_nan_in_records_table_and_json(case: Case) -> None:
    _, image, ours, control = case
    ours.adversarial[1], ours.delta[1] = image[1], 0
    control.margin_after[0] = float("nan")
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[:, 5:20, 8:30] = True
    view = compare(WithMean(), image, ours, control=control, masks=masks, insertion_deletion=512)
    back = json.loads(json.dumps(view.to_json(), allow_nan=False))
    rows = {(row["image"], row["perturbation"], row["map"]): row for row in back["records"]}
    assert len(rows) == 20
    metrics = [name for name, value in rows[0, "ours", "rms"].items() if isinstance(value, float)]
    assert len(metrics) == 8 + 3 + 2
    for kind in ("rms", "ssim", "contribution"):
        row = rows[1, "ours", kind]
        assert all(row[metric] is None for metric in metrics)
        assert set(row["reasons"]) == set(metrics)
        assert row["reasons"]["pearson"] == "map is zero everywhere"
        assert row["p_values"] == {"pearson": None, "spearman": None}
        assert rows[0, "ours", kind]["reasons"] == {}
    assert rows[1, "l2 control", "rms"]["pearson"] is not None
    table = view.table()
    check_table(table)
    undefined = table[table["value"].isna()]
    assert len(undefined) == 3 * len(metrics)
    assert (undefined["method"] == "ours").all()
    assert back["perturbation"] == "ours"
    assert back["cam_target"] == ours.label_before.tolist()
    summary = back["control"]
    assert summary["name"] == "l2 control"
    assert summary["success"] == control.success.tolist()
    assert summary["margin_after"][0] is None
    assert summary["l2_norm"] == pytest.approx(np.linalg.norm(control.delta.flatten(1).numpy(), axis=1), rel=1e-6)


def test_errors_name_the_value_before_any_map_is_made(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image, ours, control = case
    monkeypatch.setattr(SmallClassifier, "forward", lambda *_: pytest.fail("work started"))
    short = torch.zeros(2, 31, 32, dtype=torch.bool)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"control": "linf"}, "unknown control 'linf'"),
        ({"control": ours}, "two of the maps compared are named 'ours'"),
        ({"control": True}, "control must be a PerturbResult, got bool"),
        (
            {"control": "l2", "support": torch.ones(32, 32)},
            "support must be a bool tensor, .* got a tensor of",
        ),
        ({"control": "l2", "support": short}, r"support of shape \(2, 31, 32\) does not fit images \(2, 3, 32, 32\)"),
        ({"support": image[:, :1] > 0.5}, "support is for control='l2'"),
        ({"layer": "blocks"}, "unknown layer 'blocks'"),
        ({"layer": model.features}, "layer must be the name of one of the model's modules, got a Sequential"),
        ({"cam": "gradcam"}, "unknown class activation map 'gradcam'; did you mean .*grad_cam"),
        ({"cam": "rise"}, "unknown class activation map 'rise'"),
        ({"attributions": "rise"}, "attributions must be a list of names, got 'rise'"),
        ({"attributions": ["rize"]}, "unknown attribution 'rize'; did you mean rise"),
        ({"attributions": ["rise", "rise"]}, "two of the maps compared are named 'rise'"),
        ({"masks": short}, r"masks must be \(2, 32, 32\) bool, one an image, got \(2, 31, 32\)"),
        ({"masks": image[:, 0]}, r"masks must be \(2, 32, 32\) bool, one an image, got .* torch.float32"),
        ({"masks": image[:, 0] > 2}, "mask 0 has no pixel"),
        ({"boxes": torch.ones(3, 4)}, r"boxes must have shape \(2, 4\)"),
        ({"boxes": torch.tensor([[1.0, 1, 9, 9], [2.1, 2.1, 2.3, 2.3]])}, "boxes of image 1 hold no pixel's centre"),
        ({"insertion_deletion": 0}, "insertion_deletion must be True, False or a step of at least 1 pixel, got 0"),
        ({"insertion_deletion": True}, "SmallClassifier has no mean colour"),
        ({"sanity": 1}, "sanity must be True or False, got 1"),
        ({"shifts": 50}, "shifts must be 0, for no p-values, or at least 200, got 50"),
        ({"shifts": 1024}, "images of 32x32 pixels have 1023 shifts, got shifts=1024"),
        ({"seed": -1}, "seed must be an integer from 0"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            compare(model, image, ours, **({"control": None} | options))
    with pytest.raises(InputError, match=r"'ours' has images of shape \(2, 3, 32, 32\), image has \(1, 3, 32, 32\)"):
        compare(model, image[:1], ours, control=None)
    with pytest.raises(InputError, match=r"'ours' was made from other images: image 0 differs by up to 0\.9"):
        compare(model, image.flip(0), ours, control=None)
    model.train()
    with pytest.raises(InputError, match="SmallClassifier is in training mode"):
        compare(model, image, ours, control=None)
    model.eval()
    control.gradient = control.gradient[:1]
    with pytest.raises(InputError, match=r"'l2 control' has gradient of shape \(1, 3, 32, 32\)"):
        compare(model, image, ours, control=control)


def test_the_options_object_has_the_keywords_and_defaults_of_compare() -> None:
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(compare).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "progress"
    }
    assert keywords == {field.name: field.default for field in fields(ComparisonOptions)}


def test_a_real_perturbation_with_its_l2_control() -> None:
    """Through the whole chain: on a real photo re-centred GlobalSSIM ascent is l2 ascent in effect (methods B)."""
    model = load_model("efficientnet-lite0", device="cpu")
    image = load_image("rocket", size=160)
    result = perturb(model, image, solvers.GlobalSSIM(0.005), recentred=True)
    view = compare(model, image, result)
    assert view.control is not None
    assert view.cam_layer == model.cam_layer
    assert view.cam.amax() == 1
    rows = {(row["perturbation"], row["map"]): row for row in view.records}
    assert len(rows) == len(view.records) == 10
    for kind in ("rms", "ssim", "contribution"):
        ours, control = rows[result.name, kind], rows[view.control.name, kind]
        assert ours["pearson"] == pytest.approx(control["pearson"], abs=0.01)
    assert rows["local std", "local_std"]["pearson"] < rows[result.name, "rms"]["pearson"]
    json.dumps(view.to_json(), allow_nan=False)
