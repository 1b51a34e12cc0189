"""Names of a classifier's classes."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from ssimpert.models.torchvision_compat import import_torchvision

IMAGENET_CLASSES = 1000


def class_labels(count: int) -> tuple[str, ...]:
    """Labels of a classifier with ``count`` classes, all different.

    With 1000 classes these are ImageNet-1k's names: WordNet's first synonym ("Egyptian cat"), followed by the
    class number where two classes share it ("crane (134)", "crane (517)"). Any other count gives "class 0",
    "class 1", ...
    """
    if count == IMAGENET_CLASSES:
        return _imagenet_labels()
    return tuple(f"class {index}" for index in range(count))


@lru_cache(maxsize=1)
def _imagenet_labels() -> tuple[str, ...]:
    import_torchvision()
    from timm.data import ImageNetInfo

    names = [text.split(",")[0].strip() for text in ImageNetInfo().label_descriptions()]
    uses = Counter(names)
    return tuple(name if uses[name] == 1 else f"{name} ({index})" for index, name in enumerate(names))
