"""Pictures: sample photos, files, masks, and composites with exact masks and boxes.

Found here:

* the sample photos and textures (``samples``), and files into tensors and back (``images``);
* a photo with its geometry and what was done to it (``photos``, ``frame``, ``resizing``), and photos in bulk
  (``photo_search``);
* decoding: ``decoding`` with ``colour`` and ``deep_colour``, ``array_files``, ``pixel_limit``, ``file_kinds``;
* pictures as masks (``masks``), and the boxes and masks of objects in photos (``box_files`` with ``voc_xml`` and
  ``annotation_numbers``, ``object_masks`` with ``coco_outlines``);
* the data sets of studies, read item by item (``datasets``);
* objects cut out of sample photos (``cut_outs``), and these objects pasted on textures (``composites``).
"""

from ssimpert.data.box_files import PhotoBoxes, boxes_of_photo, load_boxes
from ssimpert.data.composites import CompositeSet, Distractors, composites
from ssimpert.data.frame import Frame, FramedBoxes
from ssimpert.data.images import load_image, save_array, save_image
from ssimpert.data.masks import load_mask
from ssimpert.data.object_masks import ObjectMasks, find_masks, mask_of_photo
from ssimpert.data.photo_search import PhotoSearch, find_photos
from ssimpert.data.photos import Photo, load_photo, photo_frame
from ssimpert.data.samples import Sample, sample_array, samples

__all__ = [
    "CompositeSet",
    "Distractors",
    "Frame",
    "FramedBoxes",
    "ObjectMasks",
    "Photo",
    "PhotoBoxes",
    "PhotoSearch",
    "Sample",
    "boxes_of_photo",
    "composites",
    "find_masks",
    "find_photos",
    "load_boxes",
    "load_image",
    "load_mask",
    "load_photo",
    "mask_of_photo",
    "photo_frame",
    "sample_array",
    "samples",
    "save_array",
    "save_image",
]
