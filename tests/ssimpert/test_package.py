"""The package's front door: names resolve in any order, and opening it is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ssimpert


@pytest.mark.parametrize("name", ssimpert.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(ssimpert, name) is not None


@pytest.mark.parametrize(
    "first",
    [
        "ssimpert.perturbation.baselines.l2_control",
        "ssimpert.analysis",
        "ssimpert.models",
        "ssimpert.linearization.gradient",
        "ssimpert.models.forward_passes",
    ],
)
def test_functions_stay_functions_whatever_was_imported_first(first: str) -> None:
    code = (
        f"import {first}, ssimpert, types\n"
        "bad = [name for name in ssimpert.__all__ if isinstance(getattr(ssimpert, name), types.ModuleType)]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_and_its_help_load_no_torch() -> None:
    code = (
        "import sys, ssimpert, ssimpert.cli.app\n"
        "loaded = {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pertub'"):
        _ = ssimpert.pertub  # type: ignore[attr-defined]
