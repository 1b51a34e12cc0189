"""``make dist``: is the wheel complete, and does it work in an empty environment, away from this tree?"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.release.distribution_files import ROOT, faults_of_wheel

# What a new user does first, and the files that must be there afterwards.
COMMANDS = (
    ("--version",),
    ("doctor",),
    ("samples",),
    ("perturb", "chelsea", "--constraint", "l2", "--radius", "0.1", "--out", "perturbed"),
    ("compare", "coffee", "--out", "compared"),
    ("report", "compared", "-o", "report.html"),
)
WRITTEN = ("perturbed/adversarial.png", "compared/figure.png", "report.html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the one wheel in a folder; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the wheel, and with nothing but distributions")
    (wheel,) = sorted(parser.parse_args(arguments).folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        faults = faults_of_wheel(archive.namelist())
    if faults:
        print(f"{wheel.name}:", *faults, sep="\n  ")
        return 1
    print(f"{wheel.name} holds every file of the packages, and nothing else")
    with tempfile.TemporaryDirectory(prefix="ssimpert-") as folder:
        try_wheel(wheel.resolve(), Path(folder))
    print(f"{wheel.name} was installed in an empty environment and used there")
    return 0


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel in an environment in ``folder``, and use it there.

    Raises:
        subprocess.CalledProcessError: a command failed.
        FileNotFoundError: a command did not write its file.
    """
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel], check=True)
    # No module of this tree: the commands run in another folder, and Python is told of no other path.
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in COMMANDS:
        print("$ ssimpert", *command, flush=True)
        subprocess.run([programs / "ssimpert", *command], cwd=folder, env=outside, check=True)
    for name in WRITTEN:
        if not list(folder.glob(name)):
            there = sorted(str(path.relative_to(folder)) for path in folder.glob("*ed/**/*"))
            raise FileNotFoundError(f"{name} was not written; there are {there}")


if __name__ == "__main__":
    sys.exit(main())
