"""Pictures into tensors, and tensors into files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from solvers.validation import as_integer, shown
from ssimpert.atomic_files import write_atomically
from ssimpert.data.decoding import decode_array, decode_picture
from ssimpert.data.resizing import resize_and_crop
from ssimpert.data.samples import is_sample, sample_array, samples
from ssimpert.device import resolve_device
from ssimpert.errors import InputError, unknown_name

SMALLEST_IMAGE_SIDE = 16
"""In pixels. A smaller image has no room for the 11x11 windows of the SSIM index, and shows nothing."""


def load_image(
    name_or_path: str | Path,
    size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """A picture as an RGB tensor (1, 3, H, W) with pixels in [0, 1].

    8-bit pictures are resized as 8-bit pixels, so every value is a multiple of 1/255. 16-bit grey is divided by 65535
    and resized in floating point. Arrays are resized in floating point too, and stay exact if their size already fits.
    A camera's EXIF rotation is applied. Grey becomes three equal channels. Alpha is dropped where the picture is
    opaque; transparent pixels are shown on white. Of an animation the first frame is read. 16-bit colour is read with 8
    bits.

    Args:
        name_or_path: a sample's name (see :func:`ssimpert.data.samples`), an image file, or a ``.npy`` float array
            (H, W), (H, W, 3), (3, H, W) or (1, 3, H, W) in [0, 1]. A file that has a sample's name is preferred to the
            sample.
        size: side of the square result in pixels, at least 16. The shorter side is resized to ``size`` (bicubic,
            antialiased), and the central square is cut out. None (default) keeps the picture as it is.
        dtype: torch.float32 (default) or another floating type.
        device: "cpu" (default), "auto", "cuda", "cuda:N" or "mps".

    Raises:
        InputError: there is no such file or sample, it is no readable picture, its pixels have no fixed range (the
            reason is given), a side has under 16 pixels, or ``size``, ``dtype`` or ``device`` is unusable.
    """
    if not isinstance(name_or_path, str | Path):
        raise InputError(f"an image must be a sample's name or a path, got {type(name_or_path).__name__}")
    if str(name_or_path).startswith(("http://", "https://")):
        raise InputError(f"{str(name_or_path)!r} is an address; download the picture and give its file")
    size = check_size(size)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype {dtype!r} is not valid; give a floating type such as torch.float32")
    target = resolve_device(device)

    pixels = _read(name_or_path)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_IMAGE_SIDE:
        raise InputError(
            f"{str(name_or_path)!r} is {width}x{height} pixels; each side must have at least {SMALLEST_IMAGE_SIDE}"
        )
    if size is not None:
        pixels = resize_and_crop(pixels, size)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).unsqueeze(0)
    tensor = tensor.to(dtype) / 255 if pixels.dtype == np.uint8 else tensor.to(dtype)
    return tensor.to(target)


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


def _read(name_or_path: str | Path) -> NDArray[np.uint8] | NDArray[np.floating]:
    path = Path(name_or_path)
    try:
        is_file, exists = path.is_file(), path.exists()
    except OSError as error:
        raise InputError(f"{str(name_or_path)!r} is no usable path ({error.strerror})") from error
    if is_file:
        return decode_array(path) if path.suffix == ".npy" else decode_picture(path)
    if isinstance(name_or_path, str) and is_sample(name_or_path):
        return sample_array(name_or_path)
    if exists:
        raise InputError(f"{str(path)!r} is a folder; give an image file or a sample's name")
    if isinstance(name_or_path, Path) or path.suffix or len(path.parts) != 1:
        raise InputError(f"{str(path)!r} does not exist; give an image file or a sample's name")
    raise unknown_name("sample or file", name_or_path, [sample.name for sample in samples()])


def check_size(size: int | None) -> int | None:
    """``size`` as an int, or ``None``; :class:`InputError` unless it is a side in pixels that a picture can have."""
    if size is None:
        return None
    side = as_integer(size)
    if side is None or side < SMALLEST_IMAGE_SIDE:
        raise InputError(
            f"size {shown(size)} is not valid; give an integer of at least {SMALLEST_IMAGE_SIDE} pixels, or None"
        )
    return side


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"can't write {str(path)!r} ({error.strerror or error}); choose a writable folder")
