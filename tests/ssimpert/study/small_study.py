"""A small study: an untrained classifier and eight images of 32x32 pixels with objects, made in milliseconds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ssimpert.data.datasets.catalog import DATASETS
from ssimpert.data.datasets.item import Dataset, Item, ObjectAnnotation
from ssimpert.data.frame import Frame
from ssimpert.models import Classifier
from ssimpert.study import Cell, Study, cells
from ssimpert.study.evaluation import StudyEvaluator
from ssimpert.study.keys import cell_digest, unit_key
from ssimpert.study.tasks import Task
from tests.ssimpert.small_classifier import SIDE as SIDE
from tests.ssimpert.small_classifier import small_classifier as small_classifier

BALL = {"name": "ball", "constraint": "l2", "radius": 0.5, "steps": 2}
WINDOWS = {"name": "windows", "constraint": "window-ssim", "threshold": [0.9], "steps": 2}


class ToyDataset(Dataset):
    """``n`` images of noise with a bright square each; ``broken``: the index of an item that can't be read."""

    kind = "toy"

    def __init__(self, n: int = 8, broken: int = -1, salt: int = 0) -> None:
        self.n, self.broken, self.salt = n, broken, salt

    def __len__(self) -> int:
        return self.n

    def name_of(self, index: int) -> str:
        return f"toy-{index}"

    def files_of(self, index: int) -> tuple[Path, ...]:
        return ()

    def identity_of(self, index: int) -> str:
        return hashlib.sha256(f"toy {index} {self.salt}".encode()).hexdigest()

    def item(self, index: int, size: int) -> Item:
        if index == self.broken:
            raise OSError("the disk is on fire")
        image = 0.2 + 0.4 * torch.rand(3, size, size, generator=torch.Generator().manual_seed(index))
        image[:, 4:12, 4:12] += 0.3
        square = ObjectAnnotation("square", (4.0, 4.0, 12.0, 12.0))
        frame = Frame(size, size, size)
        name, columns = self.name_of(index), {"scene": "noise"}
        return Item(name, self.identity_of(index), image, frame, ("square",), (square,), columns)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """The classifier that studies load in this test, and the data set "toy" among the kinds of data."""
    classifier = small_classifier()
    monkeypatch.setattr("ssimpert.study.loaded_model.load_model", lambda *_, **__: classifier)
    monkeypatch.setitem(DATASETS, "toy", ToyDataset)
    return classifier


def small_study(**changes: Any) -> Study:
    """A study of the small classifier on toy images."""
    sections: dict[str, Any] = {
        "name": "small",
        "data": {"kind": "toy"},
        "models": {"name": "small"},
        "formulations": BALL,
        "analysis": {"controls": ["l2", "gaussian"]},
    }
    return Study(**(sections | changes))


def keys_of(evaluator: StudyEvaluator, cell: Cell, items: tuple[int, ...]) -> tuple[str, ...]:
    """The keys of the items of the study's only data set."""
    study = evaluator.study
    digest = cell_digest(study, cell, evaluator.loaded_model(cell.model).identity)
    dataset = study.data[0].open()
    return tuple(unit_key(digest, dataset.identity_of(item)) for item in items)


def task_of(evaluator: StudyEvaluator, items: tuple[int, ...], cell: int = 0) -> Task:
    """The task that computes these items of a cell."""
    return Task(cell, items, keys_of(evaluator, cells(evaluator.study)[cell], items))
