"""Which files a wheel of this project holds, and which it must not hold."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("solvers", "ssimpert")


def files_of_packages() -> set[str]:
    """Every file of the packages in this tree, as its path in a wheel; compiled Python is left out."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def declared_data_files(files: Iterable[str]) -> set[str]:
    """Those of ``files`` that a pattern of ``package-data`` in ``pyproject.toml`` names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = [
        f"{package}/{pattern}"
        for package, its_patterns in settings["tool"]["setuptools"]["package-data"].items()
        for pattern in its_patterns
    ]
    return {file for file in files if any(fnmatch.fnmatch(file, pattern) for pattern in patterns)}


def faults_of_wheel(files: Iterable[str]) -> list[str]:
    """What is wrong with a wheel of these files, in words.

    Args:
        files: the paths in the wheel.
    """
    contents = {file for file in files if ".dist-info/" not in file}
    expected = files_of_packages()
    missing = [f"lacks {file}" for file in sorted(expected - contents)]
    return missing + [f"holds {file}, which is no part of the packages" for file in sorted(contents - expected)]
