"""Data sets in their real layouts on the disk, with tiny pictures, written at test time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VocBox = tuple[str, tuple[int, int, int, int], int]
"""Class, (xmin, ymin, xmax, ymax) as VOC counts, difficult."""


def write_photo(path: Path, width: int, height: int, seed: int = 0) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def voc_xml(file_name: str, width: int, height: int, objects: Sequence[VocBox]) -> str:
    """An annotation as VOC's devkit has it, with a part of a body in the first object."""
    entries = []
    for name, (xmin, ymin, xmax, ymax), difficult in objects:
        box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
        entries.append(
            f"<object><name>{name}</name><pose>Left</pose><truncated>1</truncated><difficult>{difficult}</difficult>"
            f"<bndbox>{box}</bndbox>{part}</object>"
        )
    return (
        f"<annotation><folder>VOC2007</folder><filename>{file_name}</filename><source><database>The VOC2007 Database"
        f"</database></source><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{''.join(entries)}</annotation>"
    )


def write_voc(
    root: Path,
    photos: Mapping[str, tuple[int, int, Sequence[VocBox]]],
    year: int = 2007,
    split: str = "test",
) -> Path:
    """VOCdevkit below ``root``: for each photo its width, its height and its objects."""
    base = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for number, (name, (width, height, objects)) in enumerate(photos.items()):
        write_photo(base / "JPEGImages" / f"{name}.jpg", width, height, number)
        (base / "Annotations" / f"{name}.xml").write_text(voc_xml(f"{name}.jpg", width, height, objects))
    (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in photos))
    return root


def write_coco(root: Path, content: Mapping[str, Any], split: str = "val2017") -> Path:
    """The folder of a split with its photos, and ``annotations/instances_SPLIT.json``."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for number, image in enumerate(content["images"]):
        write_photo(root / split / image["file_name"], image["width"], image["height"], number)
    return root


def write_devkit(root: Path, synsets: Sequence[tuple[str, str]], labels: Sequence[int]) -> Path:
    """ILSVRC2012_devkit_t12 with ``meta.mat``: the leaves, numbered from 1, then one inner node with children."""
    from scipy.io import savemat

    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    kinds += [("children", "O"), ("wordnet_height", "O"), ("num_train_images", "O")]
    entries = np.empty((len(synsets) + 1, 1), dtype=kinds)
    for number, (synset, words) in enumerate([*synsets, ("n00001740", "entity")], start=1):
        children = [] if number <= len(synsets) else list(range(1, number))
        entries[number - 1, 0] = (number, synset, words, "a gloss", len(children), children, 0, 1300)
    devkit = root / "ILSVRC2012_devkit_t12"
    (devkit / "data").mkdir(parents=True, exist_ok=True)
    savemat(devkit / "data" / "meta.mat", {"synsets": entries})
    lines = "".join(f"{label}\n" for label in labels)
    (devkit / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    return devkit


def write_mask(path: Path, numbers: np.ndarray) -> None:
    """A mask of ImageNet-S: red is the number's remainder by 256, green its quotient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_cub(root: Path, birds: Sequence[tuple[str, str, tuple[float, float, float, float], bool]], side: int) -> Path:
    """CUB_200_2011: for each bird its class folder, its photo, its box (x, y, width, height), and whether to train."""
    base = root / "CUB_200_2011"
    classes = sorted({folder for folder, _, _, _ in birds})
    lists: dict[str, list[str]] = {name: [] for name in ("images", "image_class_labels", "bounding_boxes", "split")}
    for number, (folder, name, box, is_train) in enumerate(birds, start=1):
        write_photo(base / "images" / folder / f"{name}.jpg", side, side, number)
        lists["images"].append(f"{number} {folder}/{name}.jpg")
        lists["image_class_labels"].append(f"{number} {classes.index(folder) + 1}")
        lists["bounding_boxes"].append(f"{number} {' '.join(str(value) for value in box)}")
        lists["split"].append(f"{number} {int(is_train)}")
    lists["train_test_split"] = lists.pop("split")
    lists["classes"] = [f"{number} {name}" for number, name in enumerate(classes, start=1)]
    for name, lines in lists.items():
        (base / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return base
