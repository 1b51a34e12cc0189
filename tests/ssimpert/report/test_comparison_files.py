"""A saved comparison: every file is there, and says what the comparison says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import Tensor

from ssimpert.analysis import Comparison, compare, read_table
from ssimpert.errors import InputError
from ssimpert.report import save_comparison
from tests.ssimpert.analysis.example import CLASSES, WithMean, example_images, example_result


def make(count: int, **options: Any) -> tuple[Tensor, Any, Comparison]:
    model, image = WithMean(), example_images(count)
    ours = example_result(model, image, name="ours")
    ours.adversarial[0], ours.delta[0] = image[0], 0  # so that something is NaN
    return image, ours, compare(model, image, ours, control=None, **options)


def test_several_images_get_a_folder_each(tmp_path: Path) -> None:
    image, ours, view = make(2)
    save_comparison(tmp_path / "new", image, ours, view, names=["cat", "dog"], labels=CLASSES)
    files = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*.*")}
    own = {f"{name}/figure.{ending}" for name in ("cat", "dog") for ending in ("png", "svg")}
    assert files == {"result.json", "agreement.parquet", "maps.png", "maps.svg"} | own
    table = read_table(tmp_path / "new" / "agreement.parquet")
    pd.testing.assert_frame_equal(table, view.table(["cat", "dog"]))
    assert table.attrs["settings"] == view.settings
    record = json.loads((tmp_path / "new" / "result.json").read_text())
    assert record["images"] == ["cat", "dog"]
    assert record["comparison"] == json.loads(json.dumps(view.to_json(), allow_nan=False))
    assert record["results"][1] == {"image": 1, "perturbation": "ours", "violation": None}


def test_a_single_image_has_all_in_one_folder_with_its_curves(tmp_path: Path) -> None:
    image, ours, view = make(1, insertion_deletion=256, shifts=0)
    save_comparison(tmp_path, image, ours, view)
    pictures = {f"{stem}.{ending}" for stem in ("figure", "maps", "insertion_deletion") for ending in ("png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "agreement.parquet"} | pictures
    assert json.loads((tmp_path / "result.json").read_text())["images"] == ["0"]


def test_errors_name_the_value(tmp_path: Path) -> None:
    image, ours, view = make(2, shifts=0)
    for names, wrong in ((["a", "a"], "a"), (["a", "b/c"], "b/c"), (["", "a"], ""), (["..", "a"], "..")):
        with pytest.raises(InputError, match=f"each fit to name a folder, got '{wrong}'"):
            save_comparison(tmp_path, image, ours, view, names=names)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"can't write to folder .*file"):
        save_comparison(tmp_path / "file", image, ours, view)
