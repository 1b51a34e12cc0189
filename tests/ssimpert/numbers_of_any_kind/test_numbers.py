"""Every option that takes numbers takes those of numpy and torch, and refuses what is no number in a line."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

import solvers
import ssimpert
from ssimpert.errors import InputError
from ssimpert.models.onnx_session import ONNX_PACKAGES
from ssimpert.records import json_text
from tests.ssimpert.numbers_of_any_kind import (
    analysis,
    attributions,
    linearization,
    metrics,
    models_and_data,
    perturbation,
    report,
    study,
    verification,
)
from tests.ssimpert.numbers_of_any_kind.fingerprint import fingerprint
from tests.ssimpert.numbers_of_any_kind.inputs import Calls

PACKAGES = (models_and_data, linearization, metrics, perturbation, attributions, analysis, report, study, verification)
CALLS: Calls = {name: call for package in PACKAGES for name, call in package.CALLS.items()}
OPTIONS = [(call, option) for call, (_, values) in CALLS.items() for option in values]
NUMBERS = [(call, option) for call, option in OPTIONS if not isinstance(CALLS[call][1][option], tuple)]
LISTS = [(call, option) for call, option in OPTIONS if isinstance(CALLS[call][1][option], tuple)]
# Functions that need packages beside the library.
NEEDED = {
    "ssimpert.foolbox_baseline": ("foolbox",),
    "ssimpert.lpips_distance": ("torchmetrics",),
    "ssimpert.onnx_classifier": ONNX_PACKAGES,
}
# These take numbers that are written as text, such as "2/255", as study files have them.
TAKE_TEXTS = ("ssimpert.study.FormulationSection", "ssimpert.study.AttackSection")
# These take a large part of a second, so that fewer kinds stand for all: the narrow kind of numpy, and torch.
KINDS = {
    "ssimpert.onnx_classifier": (1,),
    "ssimpert.feature_jacobian": (1, 2),
    "ssimpert.study.run_study": (1, 2),
    "ssimpert.perceptual_ball_constrained": (1, 2),
    "ssimpert.report.comparison_figure": (1, 2),
}

Kind = Callable[[Any], Any]
INTEGER_KINDS: list[Kind] = [np.int64, np.int32, torch.tensor, np.array]
FLOAT_KINDS: list[Kind] = [np.float64, np.float32, torch.tensor, np.array]


def list_kinds(wide: type[np.generic], narrow: type[np.generic]) -> list[Kind]:
    return [
        lambda values: np.array(values, dtype=wide),
        lambda values: np.array(values, dtype=narrow),
        torch.tensor,
        lambda values: [wide(entry) for entry in values],
    ]


def of_kind(value: Any, kind: int) -> Any:
    """``value`` as another kind of number: wide and narrow ones of numpy, a tensor, an array or a list of scalars."""
    if isinstance(value, tuple):
        integers = isinstance(value[0], int)
        kinds = list_kinds(np.int64, np.int32) if integers else list_kinds(np.float64, np.float32)
    else:
        kinds = INTEGER_KINDS if isinstance(value, int) else FLOAT_KINDS
    return kinds[kind](value)


def public_name(call: str) -> str:
    return call.partition(":")[0]


def skip_what_is_not_installed(call: str) -> None:
    for package in NEEDED.get(public_name(call), ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def identifier(entry: tuple[str, str]) -> str:
    return " ".join(entry).removeprefix("ssimpert.")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.removeprefix("ssimpert."))
def test_numbers_of_any_kind_give_the_plain_result(call: str) -> None:
    """All options of a call have one kind at a time."""
    skip_what_is_not_installed(call)
    function, values = CALLS[call]
    plain = fingerprint(function(**values))
    for kind in KINDS.get(public_name(call), range(4)):
        result = function(**{option: of_kind(value, kind) for option, value in values.items()})
        assert fingerprint(result) == plain
        settings = getattr(result, "settings", None)
        if settings is not None:
            json.dumps(settings)
            json_text(settings)


@pytest.mark.parametrize("entry", NUMBERS, ids=identifier)
def test_what_is_no_number_is_refused_in_a_line(entry: tuple[str, str]) -> None:
    call, option = entry
    skip_what_is_not_installed(call)
    function, values = CALLS[call]
    wrong: list[Any] = [np.True_, torch.tensor(True), "2", np.zeros((1, 1, 1, 1, 7)), 2j]
    if isinstance(values[option], int):
        wrong += [np.float64(values[option]), float(values[option])]
    if entry == ("ssimpert.compare", "insertion_deletion"):
        wrong = wrong[2:]  # True asks for the default step
    if public_name(call) in TAKE_TEXTS:
        wrong.remove("2")
    for value in wrong:
        with pytest.raises((InputError, solvers.ProblemError)) as caught:
            function(**values | {option: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [entry for entry in LISTS if "cluster" not in entry[1]], ids=identifier)
def test_what_is_no_list_of_numbers_is_refused_in_a_line(entry: tuple[str, str]) -> None:
    call, option = entry
    skip_what_is_not_installed(call)
    if call.startswith("ssimpert.Comparison.table") or call.endswith(": values"):
        return  # any values, checked by numpy and pandas
    function, values = CALLS[call]
    wrong: list[Any] = [np.zeros((2, 2)), [[0.5], [0.25]], "ab", [True] * len(values[option]), [2j]]
    if entry == ("ssimpert.analysis.agreement_table", "images"):
        wrong = [np.zeros((2, 2)), 3]  # any identifiers
    for value in wrong:
        with pytest.raises((InputError, solvers.ProblemError)) as caught:
            function(**values | {option: value})
        assert "\n" not in str(caught.value)


def test_every_public_option_that_takes_a_number_is_tried() -> None:
    words = re.compile(r"\b(int|float|Numbers|Integers|Baseline|Clusters|BatchSize)\b")
    tried = {(public_name(call), option) for call, option in OPTIONS}
    functions = {function for function, _ in tried}
    missing = []
    for home in (
        "ssimpert",
        "ssimpert.analysis",
        "ssimpert.report",
        "ssimpert.metrics",
        "ssimpert.linearization",
        "ssimpert.study",
    ):
        package = __import__(home, fromlist=["x"])
        for name in package.__all__:
            function = getattr(package, name)
            public = f"ssimpert.{name}" if name in ssimpert.__all__ else f"{home}.{name}"
            if not callable(function) or (isinstance(function, type) and public not in functions):
                continue  # a constant, or the class of what a function returns
            for parameter in inspect.signature(function).parameters.values():
                takes_number = words.search(re.sub(r"Mapping\[.*\]", "", str(parameter.annotation)))
                if takes_number and (public, parameter.name) not in tried:
                    missing.append(f"{public} {parameter.name}")
    assert not missing, " ".join(missing)
