"""What stands at a path: a file that can be read, or something else, which is named."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe (FIFO)"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a character device"),
    (stat.S_ISBLK, "is a block device"),
)


def path_fault(path: str | Path) -> str | None:
    """Why ``path`` is no file that can be opened, as the end of a sentence such as "is a folder"; None for a file.

    Links are followed. Nothing is opened, so a named pipe or a device can't block the caller.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character
        return _fault_of_error(path, error)
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "is no regular file")


def path_exists(path: str | Path) -> bool:
    """Whether anything bears the name ``path``; a link that leads nowhere counts."""
    try:
        os.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def _fault_of_error(path: str | Path, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return f"is no usable path ({error})"
    if error.errno == errno.ELOOP:
        return "is a loop of links"
    if isinstance(error, FileNotFoundError):
        is_link = os.path.islink(path)
        return f"is a link to {os.readlink(path)!r}, which does not exist" if is_link else "does not exist"
    if isinstance(error, NotADirectoryError):
        return "does not exist"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    return f"is no usable path ({error.strerror})"
