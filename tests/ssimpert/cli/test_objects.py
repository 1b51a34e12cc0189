"""``compare --boxes`` and ``--masks``: objects of one's own, resized and cut like their photos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.analysis import mask_agreement
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import SIDE, Command
from tests.ssimpert.data.test_box_files import coco, voc

QUICK = ("--constraint", "l2", "--radius", "1", "--all-steps", "--steps", "1", "--shifts", "0", "--layer", "2")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo of 96x64 pixels: at size 32 it is halved, and 8 columns are cut off on either side."""
    monkeypatch.setattr("ssimpert.report.comparison_files.save_table_and_figures", lambda *_, **__: None)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict]:  # type: ignore[type-arg]
    """What mask_agreement is called with."""
    calls: list[dict] = []  # type: ignore[type-arg]

    def watched(maps, masks, **options):  # type: ignore[no-untyped-def]
        calls.append({"masks": masks, **options})
        return mask_agreement(maps, masks, **options)

    monkeypatch.setattr("ssimpert.analysis.comparison.scores.mask_agreement", watched)
    return calls


def test_boxes_are_carried_to_the_models_pixels_and_into_table_and_records(
    command: Command,
    small: Classifier,
    photo: Path,
    given: list,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    boxes = voc(tmp_path / "cat.xml", ("cat", 25, 9, 56, 40), ("dog", 1, 1, 20, 20), ("rim", 1, 1, 8, 9), size=(96, 64))
    code, out, err = command("compare", photo, "--boxes", boxes, *QUICK, "--out", tmp_path / "out")
    assert code == 0, err
    assert given[0]["boxes"][0].tolist() == [[4, 4, 20, 20], [0, 0, 2, 10]]
    expected = np.zeros((SIDE, SIDE), bool)
    expected[4:20, 4:20] = expected[0:10, 0:2] = True
    assert np.array_equal(given[0]["masks"][0].numpy(), expected)
    assert "of 3 boxes, 1 outside of the part that the model sees (left out), 1 partly outside (clipped)" in err
    for word in ("The object", "energy", "hit", "box"):
        assert word in out
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["comparison_settings"]["boxes"] is True
    assert all(0 <= row["best_box_iou"] <= 1 and row["pointing_hit"] in (0, 1) for row in record["agreement"])


def test_masks_of_a_folder_go_with_boxes_of_coco(
    command: Command,
    small: Classifier,
    photo: Path,
    given: list,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((64, 96), np.uint8)
    mask[8:40, 24:56] = 255
    Image.fromarray(mask).save(folder / "cat.png")
    images = [{"id": 1, "file_name": "set/cat.jpg", "width": 96, "height": 64}]
    boxes = coco(tmp_path / "a.json", images, [{"image_id": 1, "bbox": [30, 10, 20, 20]}])
    code, _, err = command(
        "compare", photo, "--masks", folder, "--boxes", boxes, *QUICK, "--json", "--out", tmp_path / "out"
    )
    assert code == 0, err
    assert given[0]["boxes"][0].tolist() == [[7, 5, 17, 15]]
    expected = np.zeros((SIDE, SIDE), bool)
    expected[4:20, 4:20] = True
    assert np.array_equal(given[0]["masks"][0].numpy(), expected)


def test_a_photo_without_an_object_is_skipped(
    command: Command,
    small: Classifier,
    photo: Path,
    given: list,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    other = tmp_path / "rim.png"
    Image.open(photo).save(other)
    images = [{"id": k, "file_name": f"{name}.png"} for k, name in enumerate(("cat", "rim"))]
    annotations = [{"image_id": 0, "bbox": [30, 10, 20, 20]}, {"image_id": 1, "bbox": [0, 0, 5, 5]}]
    boxes = coco(tmp_path / "a.json", images, annotations)
    words = ("compare", photo, other, "chelsea", "--boxes", boxes, *QUICK, "--json", "--out", tmp_path / "out")
    code, out, err = command(*words)
    assert code == 1
    assert [record["image"] for record in json.loads(out)] == [str(photo)]
    assert "its 1 boxes in" in err
    assert "lie outside of the part that the model sees" in err
    assert f"skipped: 'chelsea' has no boxes in '{boxes}'" in err


def test_files_without_objects_are_refused_before_a_model_is_loaded(
    command: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    for option, value in (("--boxes", tmp_path / "none.xml"), ("--masks", photo)):
        code, _, err = command("compare", photo, option, value, "--out", tmp_path / "out")
        assert code == 1
        assert len(err.splitlines()) == 1
        assert str(value) in err
