"""Where pixels may change: the masks of ``--support``, which are checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssimpert.cli.errors import UsageError
from ssimpert.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Region:
    """Masks that have been checked.

    Attributes:
        files: a picture for each image.
        outside: False if the bright pixels may change, True if the pixels that are not bright may change.
    """

    files: tuple[Path, ...]
    outside: bool

    def mask(self, index: int, size: int) -> Tensor:
        """The mask of the image at ``index``, (1, 1, size, size) bool, True where pixels may change.

        Raises:
            InputError: no pixel may change; the message names the file.
        """
        return self._mask(self.files[index], size)[None, None]

    def _mask(self, file: Path, size: int | None) -> Tensor:
        from ssimpert.data import load_mask

        mask = load_mask(file, size) ^ self.outside
        if not bool(mask.any()):
            fault = "is bright everywhere, so that no pixel outside" if self.outside else "has no bright pixel: none"
            raise InputError(f"mask {str(file)!r} {fault} may change")
        return mask

    def check(self, images: list[str]) -> None:
        """Raise :class:`InputError` for a mask that can't be read, is empty, or does not fit its image."""
        from ssimpert.data import photo_frame
        from ssimpert.data.masks import check_proportions

        for name, file in zip(images, self.files, strict=True):
            mask = self._mask(file, None)
            try:
                frame = photo_frame(name)
            except InputError:
                continue  # a photo that can't be read is reported, and skipped, where the photos are loaded
            check_proportions(file, mask, name, frame)


def region_from_options(images: list[str], files: list[Path] | None, *, outside: bool) -> Region | None:
    """The region that ``--support`` and ``--outside`` describe for ``images``; None for all pixels.

    Raises:
        UsageError: a wrong number of masks, or ``--outside`` without ``--support``.
        InputError: a mask can't be used.
    """
    if not files:
        if outside:
            raise UsageError("--outside goes with --support MASK")
        return None
    if len(files) not in (1, len(images)):
        names = ", ".join(str(file) for file in files)
        alternative = "" if len(images) == 1 else f", or {len(images)}, one for each image"
        raise UsageError(f"--support got {len(files)} masks ({names}); give one{alternative}")
    region = Region(tuple(files) if len(files) == len(images) else tuple(files) * len(images), outside)
    region.check(images)
    return region
