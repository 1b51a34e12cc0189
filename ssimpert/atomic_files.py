"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

# The names of temporary files. The token is random, so that no file of anybody else has such a name by chance.
_TEMPORARY_NAME = re.compile(r"\.ssimpert-[0-9a-f]{16}\.tmp")


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, in place of a file that may be there.

    The content goes to a temporary file in the same folder first. This file is flushed to the disk and then takes the
    name ``path`` in one step. A reader sees the old file or the new file, never a part, even where the process is
    killed or the disk is full. Where ``path`` is a link, the link is replaced, and the file behind the link stays as it
    is. The same holds for the other names of a file with hard links.

    Raises:
        OSError: the file can't be written. The temporary file is removed, and the old file is as it was.
    """
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    temporary = path.with_name(f".ssimpert-{secrets.token_hex(8)}.tmp")
    # O_EXCL: a file or a link of that name, whoever made it, is never opened.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def is_temporary(path: Path) -> bool:
    """Whether ``path`` has the name of a temporary file of :func:`write_atomically`."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in ``folder``. No process may be writing there.

    Raises:
        OSError: the folder can't be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_temporary(Path(entry.path)) and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                with suppress(OSError):
                    os.unlink(entry.path)
