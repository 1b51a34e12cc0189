"""Comparisons whose forward passes go through an ONNX copy: the same numbers, and none of another model's."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from ssimpert.analysis import compare
from ssimpert.analysis.attributions.rise import RISE_MASKS
from ssimpert.errors import InputError
from ssimpert.models import OnnxClassifier, onnx_classifier
from tests.ssimpert.analysis.example import WithMean, example_images, example_result

pytestmark = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is missing: pip install 'ssimpert[onnx]'",
)


@pytest.fixture(scope="module")
def copy() -> OnnxClassifier:
    return onnx_classifier(WithMean(), example_images(1))


def test_values_are_those_of_the_model_and_its_copy_does_the_passes(
    copy: OnnxClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = WithMean(), example_images(2)
    ours = example_result(model, image, name="ours")
    options: Any = {"control": None, "attributions": ["rise", "gradient"], "insertion_deletion": 100, "shifts": 0}
    expected = compare(model, image, ours, **options)
    passed: list[int] = []
    call = OnnxClassifier.__call__

    def counted(self: OnnxClassifier, images: Tensor) -> Tensor:
        passed.append(len(images))
        return call(self, images)

    monkeypatch.setattr(OnnxClassifier, "__call__", counted)
    found = compare(model, image, ours, forward=copy, **options)
    curves = 3 + 4 + 2  # of ours, the controls and the attributions
    # A check; for each image its masks; for each curve a clean pass and 11 steps of two kinds.
    assert sum(passed) == 1 + 2 * RISE_MASKS + 2 * curves * (1 + 2 * 11)
    assert float((found.maps["rise"]["rise"] - expected.maps["rise"]["rise"]).abs().max()) < 1e-3  # of min-max scaled
    assert torch.equal(found.maps["gradient"]["gradient"], expected.maps["gradient"]["gradient"])
    for name, kinds in expected.scores.items():
        for kind, scores in kinds.items():
            for metric in ("insertion_auc", "deletion_auc"):
                difference = found.scores[name][kind].values[metric] - scores.values[metric]
                assert float(difference.abs().max()) < 1e-5
    assert found.settings == expected.settings | {"forward": "onnx"}
    assert expected.settings["forward"] == "torch"


def test_a_copy_of_other_weights_or_no_copy_is_refused(copy: OnnxClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = WithMean(), example_images(2)
    ours = example_result(model, image, name="ours")
    monkeypatch.setattr(
        import_module("ssimpert.analysis.comparison.maps"),
        "attribution",
        lambda *_, **__: pytest.fail("work started"),
    )
    with pytest.raises(InputError, match="forward must be what onnx_classifier makes, or None, got WithMean"):
        compare(model, image, ours, control=None, attributions=["rise"], forward=model)  # type: ignore[arg-type]
    model.head.weight.mul_(1.01)
    with pytest.raises(InputError, match="forward has other logits than model; make it of this model"):
        compare(model, image, ours, control=None, attributions=["rise"], forward=copy)
    with pytest.raises(InputError, match="forward is for insertion_deletion, occlusion and rise; none is asked for"):
        compare(model, image, ours, control=None, attributions=["gradient"], forward=copy)
