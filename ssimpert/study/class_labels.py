"""Which of a model's labels belong to each class of a data set."""

from __future__ import annotations

from ssimpert.study.unit_objects import ClassLabels


def class_labels(kind: str, labels: tuple[str, ...]) -> ClassLabels | None:
    """The model's labels of each class of a data set; ``None`` where the data set has one class an image.

    Args:
        kind: of the data set.
        labels: the names of the model's classes.
    """
    return None
