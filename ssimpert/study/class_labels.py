"""Which of a model's labels belong to each class of a data set."""

from __future__ import annotations

from ssimpert.data.datasets.item import Dataset
from ssimpert.data.datasets.label_map import label_map
from ssimpert.study.unit_objects import ClassLabels


def class_labels(dataset: Dataset, labels: tuple[str, ...]) -> ClassLabels | None:
    """The model's labels of each class of a data set; ``None`` where the data set has one class an image.

    Args:
        dataset: the data set, whose table of labels counts: the shipped one (VOC, COCO), or the user's own.
        labels: the names of the model's classes.

    Raises:
        InputError: the table can't be read, or does not fit the labels.
    """
    return None if dataset.label_table is None else label_map(dataset.label_table, labels)
