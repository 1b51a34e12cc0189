"""One photo's record and arrays as the report shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.report.drawing import Array
from ssimpert.report.html.photo_facts import facts_of
from ssimpert.report.html.photo_pictures import Pixels, maps_of, pictures_within
from ssimpert.report.html.photo_plots import plots_of
from ssimpert.report.html.photo_words import conditions_of, outcome
from ssimpert.report.html.pictures import Compression
from ssimpert.report.html.result_folder import StoredPhoto
from ssimpert.report.html.view import PhotoView

FindPhoto = Callable[[dict[str, Any], int], Tensor]
"""The clean photo of a record, (1, 3, S, S) in [0, 1], for the side S in pixels. Raises InputError with the reason
where the photo is gone or has changed."""


def photo_view(
    stored: StoredPhoto, anchor: str, find_photo: FindPhoto, most_bytes: int
) -> tuple[PhotoView, Compression]:
    """One photo of a report, and how far its pictures had to be compressed.

    Args:
        stored: the photo's record and files.
        anchor: the photo's name within the page.
        find_photo: finds the clean photo. Without it the report has the perturbed photo and the stored maps only.
        most_bytes: how much text the pictures may take.

    Raises:
        InputError: a file of the result can't be read.
    """
    perturbed = _rows_first(stored.adversarial())
    warnings = []
    clean: Array | None = None
    try:
        clean = _rows_first(find_photo(stored.record, perturbed.shape[0])[0].double().numpy())
        if clean.shape != perturbed.shape:
            raise InputError(f"the photo has shape {clean.shape} and the perturbed photo {perturbed.shape}")
    except InputError as error:
        clean = None
        warnings.append(f"The clean photo is not shown, nor what is made from it: {error}.")
    pixels = Pixels(clean, perturbed, maps_of(stored, clean, perturbed))
    pictures, compression = pictures_within(stored, pixels, most_bytes)
    view = PhotoView(
        anchor=anchor,
        name=stored.name,
        outcome=outcome(stored.record),
        conditions=conditions_of(stored.record),
        photo=pictures.photo,
        perturbed=pictures.perturbed,
        difference=pictures.difference,
        layers=pictures.layers,
        facts=facts_of(stored.record),
        plots=plots_of(stored),
        warnings=tuple(warnings),
    )
    return view, compression


def _rows_first(image: Array) -> Array:
    """(C, H, W) as (H, W, 3); a grey channel is repeated."""
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
