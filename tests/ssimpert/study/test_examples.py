"""The studies in ``examples/studies`` can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssimpert.study import cells, read_study

FILES = sorted((Path(__file__).parents[3] / "examples" / "studies").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_a_study(file: Path) -> None:
    study = read_study(file)
    assert study.name == file.stem
    assert cells(study)
