"""Data sets as studies read them: item by item, each with its identity, its annotation and its frame.

Found here:

* an item, its objects, and what every data set can do (``item``); the kinds by name, and their options (``catalog``);
* photos with annotations, the same for every reader (``photo_dataset``), and files that a set needs (``layout``);
* one reader a file: ``samples``, ``composites``, ``folder``, ``csv_list``, ``imagenet``, ``imagenet_s``, ``voc``,
  ``coco``, ``cub``;
* which of a model's labels belong to each class (``label_map``, with a CSV file for VOC and for COCO).
"""

from ssimpert.data.datasets.catalog import OptionDescription, dataset_options, open_dataset
from ssimpert.data.datasets.item import Dataset, Item, ObjectAnnotation
from ssimpert.data.datasets.label_map import LabelMap, label_map

__all__ = [
    "Dataset",
    "Item",
    "LabelMap",
    "ObjectAnnotation",
    "OptionDescription",
    "dataset_options",
    "label_map",
    "open_dataset",
]
