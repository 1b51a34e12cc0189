"""From files to the numbers of benchmarks: VOC, COCO, ImageNet and ImageNet-S, against values worked out by hand.

Photos are flat grey, 64x64 pixels, and the model sees 32x32. The model is linear. Its two classes that compete, "tabby"
and "moped", differ by one weight pattern: 1 in the square OUTER, 2 in the square INNER, 3 at the pixel (10, 10), 0
elsewhere. So the gradient's map has the levels 1/3, 2/3 and 1. Its point is (10, 10), and its boxes are OUTER, INNER
and that pixel, at rising thresholds. A dark photo is a tabby, a bright one a moped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn

from ssimpert.models import Classifier
from ssimpert.study import Study, cells
from ssimpert.study.evaluation import StudyEvaluator
from ssimpert.study.object_benchmarks import localization_benchmarks
from ssimpert.study.readiness import check_ready
from ssimpert.study.schema import record_schema
from ssimpert.study.sections.section import OptionError
from tests.ssimpert.data.datasets.fixtures import voc_xml, write_coco, write_devkit, write_mask, write_voc
from tests.ssimpert.study.small_study import task_of

DARK, BRIGHT = 100, 150
Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in the model's pixels, ends exclusive."""
OUTER: Box = (8, 8, 24, 24)
INNER: Box = (8, 8, 16, 16)
STRIP: Box = (8, 8, 15, 24)
"""Its overlap with OUTER is 7/16, with INNER 56/120."""
CORNER: Box = (28, 28, 32, 32)
"""18 pixels to the right of (10, 10), and below: more than 15 away."""
TABBY, MOPED = 281, 665


class _Thousand(nn.Module):
    """The logits of ImageNet's classes: two are given, and all others are far lower."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        all_logits = logits.new_full((len(logits), 1000), -50)
        all_logits[:, [TABBY, MOPED]] = logits
        return all_logits


@pytest.fixture(autouse=True)
def linear(monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """The model that studies load in this test."""
    pattern = torch.zeros(32, 32)
    pattern[8:24, 8:24], pattern[8:16, 8:16], pattern[10, 10] = 1, 2, 3
    two = nn.Linear(3 * 32 * 32, 2, bias=False)
    with torch.no_grad():
        two.weight[1] = 0.01 * pattern.repeat(3, 1, 1).flatten()
        two.weight[0] = -two.weight[1]
    convolution = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(3)[:, :, None, None])
    network = nn.Sequential(convolution, nn.Flatten(), two, _Thousand())
    classifier = Classifier(network, name="linear", input_size=32, mean=(0.49,) * 3, std=(1.0,) * 3)
    monkeypatch.setattr("ssimpert.study.loaded_model.load_model", lambda *_, **__: classifier)
    return classifier


def in_voc(box: Box) -> Box:
    """The box in the photo's pixels, counted from 1 with both ends included."""
    x0, y0, x1, y1 = box
    return 2 * x0 + 1, 2 * y0 + 1, 2 * x1, 2 * y1


def paint(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (grey,) * 3).save(path)


def benchmarks(data: dict[str, Any]) -> tuple[pd.Series[Any], list[dict[str, Any]]]:
    """The benchmarks of the gradient's map, and the records."""
    study = Study(
        "file to number",
        data=data,
        models={"name": "linear"},
        formulations={"name": "ball", "constraint": "l2", "radius": 0.1, "steps": 1},
        analysis={
            "maps": ["contribution"],
            "attributions": ["gradient"],
            "metrics": ["pointing", "localization"],
            "controls": [],
            "shifts": 0,
        },
    )
    check_ready(study)
    evaluator = StudyEvaluator(study, device="cpu")
    result = evaluator(task_of(evaluator, tuple(range(len(study.data[0].open())))))
    assert result.failures == []
    assert len(cells(study)) == 1
    table = localization_benchmarks(pa.Table.from_pylist(result.records, schema=record_schema(study)))
    by_map = table.set_index("map")
    # The perturbation is along the gradient, so its smoothed map points into INNER, too.
    for column in ("trials", "pointing", "pointing_difficult", "images"):
        assert by_map.loc["contribution", column] == pytest.approx(by_map.loc["gradient", column], nan_ok=True)
    return by_map.loc["gradient"], result.records


VOC_PHOTOS: dict[str, tuple[int, list[tuple[str, Box, int]]]] = {
    "000001": (DARK, [("cat", OUTER, 0)]),
    # A difficult pair of TorchRay: the cat is small, and a dog is shown, too. The cat is far from the point: a miss.
    "000002": (DARK, [("dog", INNER, 0), ("cat", CORNER, 0)]),
    "000003": (BRIGHT, [("motorbike", OUTER, 0), ("cat", CORNER, 0)]),
    # No trial: the only cat is called difficult; there is no cat.
    "000004": (DARK, [("cat", OUTER, 1)]),
    "000005": (DARK, [("dog", OUTER, 0)]),
    # The difficult motorbike is in the mask, and has no box of its own. A difficult pair: 112 + 16 pixels are 1/8.
    "000006": (BRIGHT, [("motorbike", STRIP, 0), ("motorbike", CORNER, 1), ("person", (0, 0, 4, 4), 0)]),
    "000007": (DARK, [("cat", OUTER, 0), ("cat", CORNER, 1)]),
}


def voc(root: Path) -> dict[str, Any]:
    photos = {
        name: (64, 64, [(kind, in_voc(box), difficult) for kind, box, difficult in objects])
        for name, (_, objects) in VOC_PHOTOS.items()
    }
    write_voc(root, photos)
    for name, (grey, _) in VOC_PHOTOS.items():
        paint(root / "VOCdevkit" / "VOC2007" / "JPEGImages" / f"{name}.jpg", grey)
    return {"kind": "voc", "options": {"path": root}}


def test_voc(tmp_path: Path) -> None:
    row, records = benchmarks(voc(tmp_path))
    assert [record["object_class"] for record in records] == ["cat", "cat", "motorbike", "", "", "motorbike", "cat"]
    reasons = [
        {score["reason"] for score in record["scores"] if score["metric"] == "pointing_hit"} for record in records
    ]
    assert [record["object_difficult"] for record in records] == [False, True, False, False, False, True, False]
    assert reasons[3] == {"all objects of the class are difficult"}
    assert reasons[4] == {"the model's class is none of the image's objects"}
    # Cats: hit, miss, hit; motorbikes: hit, hit. Difficult: the cat of 2 is missed, the motorbike of 6 is hit.
    assert row["trials"] == 5
    assert row["pointing"] == pytest.approx((2 / 3 + 1) / 2)
    assert row["pointing_difficult"] == pytest.approx((0 + 1) / 2)
    # Five images have a box. With OUTER 1, 3 and 7 overlap by 1, 6 by 7/16, and 2 by 0; with INNER only 6 by .467.
    assert row["images"] == 5
    assert row["max_box_acc"] == pytest.approx(3 / 5)
    assert row["max_box_acc_v2"] == pytest.approx((4 / 5 + 3 / 5 + 3 / 5) / 3)
    # Each image is judged at the alpha that is best for the other four, which is one of OUTER: 2 and 6 are wrong.
    for thresholding in ("value", "energy", "mean"):
        assert row[f"error_{thresholding}"] == pytest.approx(2 / 5)


def test_coco(tmp_path: Path) -> None:
    def entry(number: int, image: int, category: int, box: Box, crowd: bool = False) -> dict[str, Any]:
        x0, y0, x1, y1 = (2 * value for value in box)
        made = {"id": number, "image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        if not crowd:
            return made | {"iscrowd": 0, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        pixels = np.zeros((64, 64), dtype=np.int64)
        pixels[y0:y1, x0:x1] = 1
        flat = pixels.T.flatten()  # columns first
        changes = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
        counts = counts if flat[0] == 0 else [0, *counts]
        return made | {"iscrowd": 1, "segmentation": {"size": [64, 64], "counts": counts}}

    greys = [DARK, DARK, BRIGHT, DARK, DARK, BRIGHT, DARK + 5]
    content = {
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "width": 64, "height": 64} for number in range(1, 8)
        ],
        "categories": [{"id": 4, "name": "motorcycle"}, {"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            entry(1, 1, 17, OUTER),
            # A crowd is in the mask, and its box is no box of a cat. The crowd is far, the cat is not.
            entry(2, 2, 17, STRIP),
            entry(3, 2, 17, CORNER, crowd=True),
            entry(4, 3, 4, CORNER),
            entry(5, 3, 18, OUTER),
            # Nothing but a crowd: a trial of the pointing game, and no image of the box metrics.
            entry(6, 4, 17, OUTER, crowd=True),
            # No cat.
            entry(7, 5, 18, OUTER),
            entry(8, 6, 4, OUTER),
            entry(9, 7, 17, OUTER),
        ],
    }
    write_coco(tmp_path, content)
    for number, grey in enumerate(greys, start=1):
        paint(tmp_path / "val2017" / f"{number:012d}.jpg", grey)
    row, records = benchmarks({"kind": "coco", "options": {"path": tmp_path}})
    assert [record["object_class"] for record in records] == [
        "cat",
        "cat",
        "motorcycle",
        "cat",
        "",
        "motorcycle",
        "cat",
    ]
    # Cats: four hits. Motorcycles: 3 is missed, 6 is hit. Difficult: 3 alone.
    assert row["trials"] == 6
    assert row["pointing"] == pytest.approx((1 + 1 / 2) / 2)
    assert row["pointing_difficult"] == 0
    # Boxes: 1, 6 and 7 overlap OUTER by 1, 2 by 7/16, 3 by 0.
    assert row["images"] == 5
    assert row["max_box_acc"] == pytest.approx(3 / 5)
    assert row["max_box_acc_v2"] == pytest.approx((4 / 5 + 3 / 5 + 3 / 5) / 3)
    # Each image is judged at the alpha that is best for the other four, which is one of OUTER: 2 and 3 are wrong.
    for thresholding in ("value", "energy", "mean"):
        assert row[f"error_{thresholding}"] == pytest.approx(2 / 5)


def test_imagenet(tmp_path: Path) -> None:
    synsets = [("n02123045", "tabby, tabby cat"), ("n03785016", "moped")]
    photos: list[tuple[int, int, list[Box]]] = [
        (DARK, 1, [OUTER]),
        (DARK, 2, [CORNER, OUTER]),  # the decision is another class: the objects of the photo's class still count
        (BRIGHT, 2, [STRIP]),
        (BRIGHT, 1, [CORNER]),
        (DARK, 1, [OUTER]),
    ]
    boxes = tmp_path / "bbox"
    boxes.mkdir()
    for number, (grey, label, objects) in enumerate(photos, start=1):
        name = f"ILSVRC2012_val_{number:08d}"
        paint(tmp_path / "val" / f"{name}.JPEG", grey + number)  # equal photos with equal objects are one unit
        entries = [(synsets[label - 1][0], in_voc(box), 0) for box in objects]
        (boxes / f"{name}.xml").write_text(voc_xml(name, 64, 64, entries))
    devkit = write_devkit(tmp_path, synsets, [label for _, label, _ in photos])
    options = {"path": tmp_path / "val", "devkit": devkit, "boxes": boxes}
    row, records = benchmarks({"kind": "imagenet", "options": options})
    assert [dict(record["labels"])["class"] for record in records] == ["tabby", "moped", "moped", "tabby", "tabby"]
    # Tabbies: hit, miss, hit; mopeds: hit, hit.
    assert (row["trials"], row["images"]) == (5, 5)
    assert row["pointing"] == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(row["pointing_difficult"])
    # The best box of each photo: OUTER fits 1, 2, 5; 3 by 7/16.
    assert row["max_box_acc"] == pytest.approx(3 / 5)
    assert row["max_box_acc_v2"] == pytest.approx((4 / 5 + 3 / 5 + 3 / 5) / 3)
    for thresholding in ("value", "energy", "mean"):
        assert row[f"error_{thresholding}"] == pytest.approx(2 / 5)


def test_imagenet_s(tmp_path: Path) -> None:
    names = ["n02123045", "n03785016"]
    (tmp_path / "categories.txt").write_text("\n".join(names))
    base = tmp_path / "ImageNetS50"
    # The mask of 1 is the rim of OUTER, whose box is OUTER: the point (10, 10) is 2 pixels away, and counts as a hit.
    places = {1: (0, OUTER), 2: (1, CORNER), 3: (1, STRIP), 4: (0, OUTER), 5: (1, OUTER)}
    for number, (label, (x0, y0, x1, y1)) in places.items():
        numbers = np.zeros((64, 64), dtype=np.int64)
        numbers[2 * y0 : 2 * y1, 2 * x0 : 2 * x1] = label + 1
        if number == 1:
            numbers[18:46, 18:46] = 1000
        name = f"ILSVRC2012_val_{number:08d}"
        paint(base / "validation" / names[label] / f"{name}.JPEG", DARK + number)
        write_mask(base / "validation-segmentation" / names[label] / f"{name}.png", numbers)
    options = {"path": base, "categories": tmp_path / "categories.txt"}
    row, records = benchmarks({"kind": "imagenet-s", "options": options})
    assert sorted(record["object_class"] for record in records) == [names[0]] * 2 + [names[1]] * 3
    assert row["trials"] == 5
    # The first class: two hits; the second: 2 is missed, 3 and 5 are hit.
    assert row["pointing"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["max_box_acc"] == pytest.approx(3 / 5)
    assert row["max_box_acc_v2"] == pytest.approx((4 / 5 + 3 / 5 + 3 / 5) / 3)
    for thresholding in ("value", "energy", "mean"):
        assert row[f"error_{thresholding}"] == pytest.approx(2 / 5)
    (energy,) = (
        score["value"]
        for score in records[0]["scores"]
        if score["metric"] == "energy_over_area" and score["map"] == "gradient"
    )
    # The rim has 60 of 1024 pixels: 15 in INNER at level 2, and 45 at level 1. All levels add up to 3 + 63 x 2 + 192.
    assert energy == pytest.approx((15 * 2 + 45) / 321 / (60 / 1024), rel=1e-4)


def test_a_model_of_other_labels_is_refused_before_any_unit(tmp_path: Path, linear: Classifier) -> None:
    linear.labels = tuple(f"class {number}" for number in range(1000))
    with pytest.raises(OptionError, match=r"data 'voc' with model 'linear'.*names 'airliner', which is none of"):
        benchmarks(voc(tmp_path))


def test_metrics_of_objects_need_objects(tmp_path: Path) -> None:
    paint(tmp_path / "n02123045" / "a.JPEG", DARK)
    with pytest.raises(OptionError, match=r"data 'imagenet'.* has no boxes and no masks, which the metrics pointing"):
        benchmarks({"kind": "imagenet", "options": {"path": tmp_path}})
