"""What only models and data can tell is told before any unit is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ssimpert.errors import InputError
from ssimpert.models import Classifier
from ssimpert.study.evaluation import StudyEvaluator
from ssimpert.study.readiness import check_ready, model_identities
from ssimpert.study.sections.section import OptionError
from ssimpert.study.study_file import at_line
from tests.ssimpert.study.small_study import WINDOWS, small, small_study

__all__ = ["small"]


def test_a_study_that_is_ready_tells_its_models(small: Classifier) -> None:
    study = small_study(models=[{"name": "small"}, {"name": "small", "alias": "large", "input_size": 64}])
    evaluator = StudyEvaluator(study, device="cpu")
    expected = tuple(evaluator.loaded_model(index).identity for index in range(2))
    assert check_ready(study) == model_identities(study) == expected
    assert len(set(expected)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"kind": "toy", "n": 0}}, "data 'toy': has no item"),
        ({"data": {"kind": "folder", "path": "/absent"}}, "data 'folder': .*'/absent' does not exist"),
        ({"formulations": WINDOWS | {"target": "elf"}}, "formulation 'windows' with model 'small': .*'elf'.*elk"),
        ({"formulations": WINDOWS | {"target": 5}}, "target class 5 does not exist"),
        (
            {"formulations": {"name": "b", "constraint": "feature-ball", "layers": ["nothing"]}},
            "formulation 'b' with model 'small': .*'nothing'",
        ),
        ({"attacks": {"name": "ddn", "passes": 1, "target": "elf"}}, "attack 'ddn' with model 'small': .*'elf'"),
        ({"analysis": {"layer": "nothing"}}, "analysis with model 'small': .*'nothing'"),
        ({"analysis": {"shifts": 1024}}, "images of 32x32 pixels have 1023 shifts, got shifts = 1024"),
    ],
)
def test_what_does_not_fit_is_named_with_its_section(changes: dict[str, Any], message: str, small: Classifier) -> None:
    with pytest.raises(InputError, match=message):
        check_ready(small_study(**changes))


def test_such_errors_find_their_line_in_the_study_file(small: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text("[study]\n\n[[formulation]]\nname = 'windows'\ntarget = 'elf'\n")
    with pytest.raises(OptionError) as caught:
        check_ready(small_study(formulations=WINDOWS | {"target": "elf"}))
    assert str(at_line(path, caught.value)).startswith(f"{path}, line 5: formulation 'windows' with model")


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    study = small_study(
        data={"kind": "samples"}, models={"name": "timm:resnet18", "weights": str(tmp_path / "absent.pth")}
    )
    with pytest.raises(InputError, match=r"model 'timm:resnet18': weights file .*absent\.pth' does not exist"):
        check_ready(study)
