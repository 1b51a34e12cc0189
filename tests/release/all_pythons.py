"""``make test-all``: the whole suite on every Python that the project supports, each in an environment of its own.

The versions are those of the classifiers in ``pyproject.toml``. A Python is looked for on the path and among those of
pyenv. The environments stay in ``out/test-all``, so that a second run installs little.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.release.distribution_files import ROOT

ENVIRONMENTS = ROOT / "out" / "test-all"
EXTRAS = "dev,bench,baselines,browser,cluster,coco,models,onnx,docs"


def supported_versions() -> list[str]:
    """The minor versions that the classifiers name, such as ``"3.12"``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", entry) for entry in project["classifiers"])
    return [match[1] for match in found if match]


def find_python(version: str) -> Path | None:
    """A Python of this minor version that runs, on the path or among pyenv's; None where there is none."""
    return next((candidate for candidate in _candidates(version) if _runs(candidate, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield Path(on_path)
    pyenv = shutil.which("pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        yield from sorted(Path(root, "versions").glob(f"{version}.*/bin/python"), reverse=True)


def _runs(python: Path, version: str) -> bool:
    """Whether it is what its name says. pyenv puts names on the path that do not run."""
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def run_suite(python: Path, version: str, pytest_arguments: Sequence[str]) -> bool:
    """Install the project for this Python and run the tests; whether all passed."""
    environment = ENVIRONMENTS / f"python{version}"
    inside = environment / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", environment], check=True)
    pip = [inside, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-c", "constraints.txt"]
    subprocess.run([*pip, "-e", f".[{EXTRAS}]"], cwd=ROOT, check=True)
    return subprocess.run([inside, "-m", "pytest", *pytest_arguments], cwd=ROOT, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite on every Python found, and say which were not; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="VERSION", action="append", help="this version alone, such as 3.13")
    parser.add_argument("pytest", nargs="*", default=["-q", "-n", "2"], help="arguments of pytest, after --")
    options = parser.parse_args(arguments)
    outcomes: dict[str, str] = {}
    for version in options.only or supported_versions():
        python = find_python(version)
        if python is None:
            outcomes[version] = "not found on the path or among pyenv's versions"
            continue
        print(f"Python {version}: {python}", flush=True)
        outcomes[version] = "passed" if run_suite(python, version, options.pytest) else "FAILED"
    for version, outcome in outcomes.items():
        print(f"Python {version}: {outcome}")
    return int("FAILED" in outcomes.values() or "passed" not in outcomes.values())


if __name__ == "__main__":
    sys.exit(main())
