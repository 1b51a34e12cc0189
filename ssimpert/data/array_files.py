"""``.npy`` files into pixel arrays: which are read, which are refused, and why."""

from __future__ import annotations

import io
import math
import tokenize
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssimpert.data.pixel_limit import check_pixel_count
from ssimpert.errors import InputError

_LARGEST_HEADER = 65536
"""In bytes."""

_HEADER_ERRORS = (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError)
_LAYOUTS = "(H,W), (H,W,3), (3,H,W), (1,3,H,W)"


def array_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the picture in the ``.npy`` file ``path``, from its header.

    Raises:
        InputError: as :func:`decode_array`, for what the header shows.
    """
    shape, dtype, available = _header(path)
    if dtype.hasobject:
        raise _unreadable(path, ValueError("it holds Python objects"))
    if not np.issubdtype(dtype, np.floating):
        raise InputError(f"{str(path)!r} holds {dtype} values; floating-point pixels in [0, 1] are valid")
    height, width = _height_and_width(path, shape)
    check_pixel_count(path, width, height)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > available:
        raise InputError(
            f"{str(path)!r} is truncated or damaged (its header claims {claimed} bytes of pixels, the file holds "
            f"{available})"
        )
    return width, height


def decode_array(path: Path) -> NDArray[np.floating]:
    """The float array in the ``.npy`` file ``path`` as (H, W, 3), from any layout that ``load_image`` takes.

    The header is checked before memory is reserved for the pixels.

    Raises:
        InputError: the file holds no such array, or fewer pixels than its header claims, or too many pixels; or the
            array has values that are NaN or outside [0, 1].
    """
    array_size(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    if array.ndim == 4:
        array = array[0].transpose(1, 2, 0)
    elif array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    elif array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"{str(path)!r} holds values from {array.min():.6g} to {array.max():.6g}; [0, 1] is valid")
    # torch has no long doubles and no foreign byte order.
    native = np.dtype(f"f{min(array.dtype.itemsize, 8)}")
    pixels: NDArray[np.floating] = array.astype(native, copy=False)
    return pixels


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """The shape and the type that the file's header claims, and the number of bytes that follow the header."""
    try:
        with path.open("rb") as file:
            # The header says how long it is, up to 4 GB; that of an array of floats is short.
            beginning = io.BytesIO(file.read(_LARGEST_HEADER))
        version = np.lib.format.read_magic(beginning)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(beginning)
        return shape, dtype, path.stat().st_size - beginning.tell()
    except PermissionError as error:
        raise InputError(f"{str(path)!r} may not be read (permission denied)") from error
    # The header is a literal of Python; a hostile one makes its parser raise all of these.
    except (*_HEADER_ERRORS, tokenize.TokenError) as error:
        raise _unreadable(path, error) from error


def _height_and_width(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) == 4 and shape[:2] == (1, 3):
        return shape[2], shape[3]
    if len(shape) == 3 and shape[2] == 3:
        return shape[0], shape[1]
    if len(shape) == 3 and shape[0] == 3:
        return shape[1], shape[2]
    if len(shape) == 2:
        return shape[0], shape[1]
    raise InputError(f"{str(path)!r} has shape {shape}; valid: {_LAYOUTS}")


def _unreadable(path: Path, error: BaseException) -> InputError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(f"{str(path)!r} is not a readable .npy array ({reason})")
