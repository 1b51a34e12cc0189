"""The versions of the packages that decide the numbers of a run."""

from __future__ import annotations

PACKAGES = (
    "ssimpert",
    "clarabel",
    "cvxpy",
    "numba",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-image",
    "scipy",
    "scs",
    "timm",
    "torch",
)
"""The packages whose versions decide the numbers."""


def package_versions() -> dict[str, str | None]:
    """The versions of the packages that decide the numbers; ``None`` for a package that is not installed."""
    return {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow, and not needed for `--help`

    try:
        return version(package)
    except PackageNotFoundError:
        return None
