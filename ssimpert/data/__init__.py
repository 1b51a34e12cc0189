"""Pictures: sample photos, files, masks, and composites with exact masks and boxes.

Found here: the sample photos and textures (``samples``), files into tensors and back (``images``, ``decoding``,
``resizing``), pictures as masks (``masks``), objects cut out of sample photos (``cut_outs``), and these objects pasted
on textures (``composites``).
"""

from ssimpert.data.composites import CompositeSet, Distractors, composites
from ssimpert.data.images import load_image, save_array, save_image
from ssimpert.data.masks import load_mask
from ssimpert.data.samples import Sample, sample_array, samples

__all__ = [
    "CompositeSet",
    "Distractors",
    "Sample",
    "composites",
    "load_image",
    "load_mask",
    "sample_array",
    "samples",
    "save_array",
    "save_image",
]
