"""The package's front door: names resolve in any order, and opening it is quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ssimpert


@pytest.mark.parametrize("name", ssimpert.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(ssimpert, name) is not None


def test_functions_stay_functions_whatever_was_imported_first() -> None:
    # One process, which loads torch once and forgets the package before each import.
    code = (
        "import importlib, sys, types\n"
        "for first in ('perturbation.baselines.l2_control', 'analysis', 'models', 'linearization.gradient',\n"
        "              'models.forward_passes'):\n"
        "    for name in [name for name in sys.modules if name.split('.')[0] == 'ssimpert']:\n"
        "        del sys.modules[name]\n"
        "    importlib.import_module(f'ssimpert.{first}')\n"
        "    import ssimpert\n"
        "    bad = [name for name in ssimpert.__all__ if isinstance(getattr(ssimpert, name), types.ModuleType)]\n"
        "    assert not bad, (first, bad)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_every_subpackage_loads_no_package_that_only_some_calls_need() -> None:
    code = (
        "import sys, solvers, ssimpert.analysis, ssimpert.data, ssimpert.metrics, ssimpert.perturbation\n"
        "heavy = {'cv2', 'foolbox', 'numba', 'pandas', 'pyarrow', 'timm', 'torchmetrics', 'torchvision'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_packages_are_attributes_without_an_import_of_their_own() -> None:
    code = (
        "import ssimpert\n"
        "for name in ('report', 'metrics', 'analysis', 'data', 'models', 'linearization', 'perturbation'):\n"
        "    assert name in dir(ssimpert)\n"
        "    assert getattr(ssimpert, name).__name__ == f'ssimpert.{name}'\n"
        "assert ssimpert.analysis.agreement and ssimpert.metrics.ssim and ssimpert.report.map_grid\n"
        "assert not hasattr(ssimpert, 'cli_app')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pertub'"):
        _ = ssimpert.pertub  # type: ignore[attr-defined]
