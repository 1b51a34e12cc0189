"""The README's Python runs as it stands, and its commands exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = BLOCKS
    exec(compile(block, "README", "exec"), {})
    assert "espresso -> cup" in capsys.readouterr().out


def test_the_readme_is_for_thirty_seconds() -> None:
    (block,) = BLOCKS
    assert len([line for line in block.splitlines() if line.strip()]) <= 11
    assert len(README.splitlines()) <= 110
    first_screen = "\n".join(README.splitlines()[:25])
    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert re.search(r"!\[.+?\]\(docs/images/.+?\)", first_screen)


def test_every_extra_of_the_readme_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`\w+`.*?) \|", README.split("| extra |")[1].split("\n\n")[0], flags=re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert len(named) >= 6
    assert set(named) <= extras.keys()


def test_a_photo_and_weights_of_ones_own_are_plotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of docs/command-line.md, with random weights in a file."""
    from torchvision import models

    (block,) = re.findall(r"```python\n(.*?)```", COMMAND_LINE, flags=re.DOTALL)
    (name,) = re.findall(r'load_model\("torchvision:(\w+)"', block)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(models.get_model(name, weights=None).state_dict(), "weights.pt")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    exec(compile(block, "command-line", "exec"), {})
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        if "://" not in target:
            assert (ROOT / target).is_file(), target


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
