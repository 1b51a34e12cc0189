"""The per-image table: its form, what it refuses, and its way to disk and back."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pandas.testing
import pytest
import torch

from ssimpert.analysis.map_agreement.agreement import Agreement, agreement
from ssimpert.analysis.statistics.table import agreement_table, check_table
from ssimpert.analysis.statistics.table_file import read_table, write_table
from ssimpert.errors import InputError


@pytest.fixture
def found() -> Agreement:
    generator = torch.Generator().manual_seed(1)
    maps, cam = torch.rand(3, 6, 6, generator=generator), torch.rand(3, 6, 6, generator=generator)
    maps[1] = 0.0
    return agreement(maps, cam)


@pytest.fixture
def table(found: Agreement) -> pd.DataFrame:
    return agreement_table(
        found, images=["a", "b", "c"], method="ours", kind="rms", columns={"object": ["cup", "cat", "cup"]}
    )


def test_a_row_for_each_image_and_metric(found: Agreement, table: pd.DataFrame) -> None:
    check_table(table)
    assert list(table.columns) == ["image", "method", "map", "metric", "value", "reason", "object"]
    assert len(table) == 3 * 8
    for index, image in enumerate(("a", "b", "c")):
        for metric, values in found.values.items():
            (row,) = table[(table["image"] == image) & (table["metric"] == metric)].to_dict("records")
            assert row["value"] == values[index].item() or (image == "b" and row["value"] != row["value"])
            assert row["reason"] == ("map is zero everywhere" if image == "b" else "")
            assert (row["method"], row["map"], row["object"]) == ("ours", "rms", "cat" if image == "b" else "cup")


def test_tables_go_to_disk_and_back_with_seeds_and_versions(table: pd.DataFrame, tmp_path: Path) -> None:
    table.attrs = {"seed": 3, "settings": {"shifts": 200, "names": ["a", "b"]}}
    path = tmp_path / "table.parquet"
    write_table(table, path)
    back = read_table(path)
    pandas.testing.assert_frame_equal(back, table, check_exact=True)
    check_table(back)
    assert {key: back.attrs[key] for key in table.attrs} == table.attrs
    assert back.attrs["versions"]["torch"] == version("torch")
    assert back.attrs["versions"]["pandas"] == pd.__version__
    assert list(tmp_path.iterdir()) == [path]


def test_versions_are_those_of_the_first_writing(table: pd.DataFrame, tmp_path: Path) -> None:
    table.attrs = {"versions": {"torch": "1.0"}}
    write_table(table, tmp_path / "table.parquet")
    assert read_table(tmp_path / "table.parquet").attrs == {"versions": {"torch": "1.0"}}


def test_integers_identify_images_too_and_the_index_is_not_kept(found: Agreement, tmp_path: Path) -> None:
    table = agreement_table(found, images=[7, 8, 9], method="ours", kind="rms")
    shuffled = table.iloc[::-1]
    write_table(shuffled, tmp_path / "t")
    back = read_table(tmp_path / "t")
    assert back["image"].tolist() == shuffled["image"].tolist()
    assert back.index.tolist() == list(range(24))


def test_a_failed_writing_leaves_the_old_file(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_table(table, path)
    old = path.read_bytes()
    mixed = table.assign(image=[1, *["b"] * 23])
    with pytest.raises(InputError, match="the table can't be written as Parquet"):
        write_table(mixed, path)
    table.attrs = {"seed": float("nan")}
    with pytest.raises(InputError, match=r"table\.attrs must hold JSON values"):
        write_table(table, path)
    table.attrs = {"seed": torch.tensor(1)}
    with pytest.raises(InputError, match=r"table\.attrs must hold JSON values"):
        write_table(table, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_used_are_named_with_the_reason(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can't read .*missing.*No such file"):
        read_table(tmp_path / "missing")
    with pytest.raises(InputError, match=r"can't write .*No such file"):
        write_table(table, tmp_path / "no" / "t")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_table(tmp_path / "text")
    table.to_parquet(tmp_path / "plain")
    with pytest.raises(InputError, match="it was not written by write_table"):
        read_table(tmp_path / "plain")


def test_images_or_columns_that_do_not_fit_are_refused(found: Agreement) -> None:
    for images, columns, message in (
        (["a", "a", "b"], None, r"images must be all different, got \['a', 'a', 'b'\]"),
        (["a", "b"], None, "'pearson' has 3 values, but there are 2 images"),
        (["a", "b", "c"], {"object": ["x"]}, "'object' has 1 values, but there are 3 images"),
        (["a", "b", "c"], {"map": ["x"] * 3}, "column 'map' is the table's own"),
    ):
        with pytest.raises(InputError, match=message):
            agreement_table(found, images=images, method="ours", kind="rms", columns=columns)


def test_a_table_that_is_no_per_image_table_is_refused_with_the_reason(table: pd.DataFrame) -> None:
    def changed(column: str, row: int, value: object) -> pd.DataFrame:
        other = table.copy()
        other.loc[row, column] = value
        return other

    for wrong, message in (
        (table.drop(columns=["map", "reason"]), "the table lacks map, reason; a per-image table has image, method"),
        (table.iloc[:0], "the table has no rows"),
        (table.assign(value=table["value"].astype(str)), "column 'value' must be float64, got"),
        (changed("image", 2, None), "column 'image' has a missing value in row 2"),
        (changed("value", 3, float("inf")), "the value in row 3 is infinite"),
        (changed("value", 4, float("nan")), "the value in row 4 is NaN without a reason"),
        (changed("reason", 5, "lost"), "the value in row 5 has a reason to be NaN but isn't"),
        (
            pd.concat([table, table.iloc[[1]]]),
            "two rows for image 'a', method 'ours', map 'rms', metric 'spearman'",
        ),
    ):
        with pytest.raises(InputError, match=message):
            check_table(wrong)
