"""Pictures into tensors, and tensors into files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssimpert.atomic_files import write_atomically
from ssimpert.data.photos import load_photo
from ssimpert.errors import InputError


def load_image(
    name_or_path: str | Path,
    size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """A picture as an RGB tensor (1, 3, H, W) with pixels in [0, 1].

    8-bit pictures are resized as 8-bit pixels, so every value is a multiple of 1/255. 16-bit pictures, grey or colour,
    are divided by 65535 and resized in floating point. Arrays are resized in floating point, too, and stay exact if
    their size already fits. Both ways clip where bicubic interpolation overshoots, so an 8-bit and a 16-bit file of one
    photo give the same image up to rounding.

    Colours become sRGB by the file's ICC profile. A file without a profile is taken for sRGB. Printing inks (CMYK)
    without a profile are converted by the plain formula (1 - ink)(1 - black), since no profile for inks is
    shipped. Grey becomes three equal channels. Transparent pixels are shown on white. A camera's EXIF rotation is
    applied. Of an animation the first frame is read. A photo may have 89,478,485 pixels; a larger one is refused before
    it is decoded.

    :func:`ssimpert.data.load_photo` also says what was done, and where the image lies in the photo. The command line
    loads photos with the ``size`` of the model, so it always resizes them and cuts out the central square.

    Args:
        name_or_path: a sample's name (see :func:`ssimpert.data.samples`), an image file, or a ``.npy`` float array
            (H, W), (H, W, 3), (3, H, W) or (1, 3, H, W) in [0, 1]. A file that has a sample's name is preferred to the
            sample.
        size: side of the square result in pixels, at least 16. The shorter side is resized to ``size`` (bicubic,
            antialiased), and the central square is cut out. None (default) keeps the picture as it is.
            :class:`ssimpert.data.Frame` has this geometry.
        dtype: torch.float32 (default) or another floating type.
        device: "cpu" (default), "auto", "cuda", "cuda:N" or "mps".

    Raises:
        InputError: there is no such file or sample, it is no readable picture, its pixels have no fixed range (the
            reason is given), a side has under 16 pixels, the picture has too many pixels, or ``size``, ``dtype`` or
            ``device`` is unusable.
    """
    return load_photo(name_or_path, size, dtype, device).image


def save_image(tensor: Tensor, path: str | Path) -> Path:
    """Write ``tensor``, (3, H, W) or (1, 3, H, W) in [0, 1], as an 8-bit PNG, rounded to the nearest grey level.

    Rounding moves pixels by up to 1/510. Use :func:`save_array` to keep a result exactly. Missing folders are made. The
    file appears whole or not at all.

    Returns:
        ``path``.

    Raises:
        InputError: a wrong shape, NaN or pixels outside [0, 1], a name that doesn't end in .png, or a place that can't
            be written to.
    """
    if not isinstance(tensor, Tensor):
        raise InputError(f"an image to save must be a tensor (3,H,W) or (1,3,H,W), got {type(tensor).__name__}")
    if not isinstance(path, str | Path):
        raise InputError(f"an image's path must be a string or a Path, got {type(path).__name__}")
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"can't save an image as {str(path)!r}; the name must end in .png")
    if tuple(tensor.shape[:-2]) not in {(3,), (1, 3)} or tensor.numel() == 0:
        raise InputError(f"can't save a tensor of shape {tuple(tensor.shape)}; one image (3,H,W) or (1,3,H,W) is valid")
    if not tensor.is_floating_point():
        raise InputError(f"can't save pixels of dtype {tensor.dtype}; floating-point pixels in [0, 1] are valid")
    values = tensor.detach().reshape(tensor.shape[-3:]).to("cpu", torch.float64)
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= 1):
        raise InputError(f"can't save pixels from {low:.6g} to {high:.6g}; they must lie in [0, 1]")
    levels = (values * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    content = BytesIO()
    Image.fromarray(levels).save(content, format="PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def save_array(tensor: Tensor, path: str | Path) -> Path:
    """Write ``tensor`` exactly, as a ``.npy`` file. Any shape, and any type that numpy has, is possible.

    Missing folders are made. The file appears whole or not at all.

    Returns:
        ``path``.

    Raises:
        InputError: a name that doesn't end in .npy, a type that numpy lacks, or a place that can't be written to.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise InputError(f"can't save an array as {str(path)!r}; the name must end in .npy")
    try:
        values = tensor.detach().cpu().numpy()
    except TypeError as error:
        raise InputError(f"can't save a tensor of dtype {tensor.dtype}; convert it to torch.float32") from error
    content = BytesIO()
    np.save(content, values, allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"can't write {str(path)!r} ({error.strerror or error}); choose a writable folder")
