"""What CONTRIBUTING.md names exists, and its order of folders is the one that the import contracts hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = re.findall(r"^\| `([\w/]+/)` \|", PAGE, flags=re.MULTILINE)


def test_every_path_that_the_page_names_exists() -> None:
    paths = {path for path in re.findall(r"`([\w.]+/[\w./]+)`", PAGE) if "NAME" not in path}
    assert len(paths) > 30
    for path in paths | set(FOLDERS):
        assert (ROOT / path).exists(), path


def test_every_make_target_that_the_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", PAGE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_package_has_its_line() -> None:
    packages = {
        init.parent.relative_to(ROOT).as_posix() + "/"
        for root in ("solvers", "ssimpert")
        for init in (ROOT / root).glob("*/__init__.py")
    }
    assert packages <= set(FOLDERS)


def test_the_folders_stand_in_the_order_of_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [folder.split("/")[1] for folder in FOLDERS if folder.startswith("ssimpert/")]
    assert named == [layer for layer in reversed(layers) if layer in named]
