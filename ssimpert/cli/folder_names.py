"""A name for each photo's folder: one name, whatever the photo's file is called."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

# In bytes of UTF-8. File systems allow 255; a number may follow.
LONGEST_NAME = 200


def folder_name(image: str) -> str:
    """The stem of ``image`` as the name of a folder.

    The name is never empty, ``.`` or ``..``, and holds no separator, no control character and no byte that is not
    UTF-8. Every other stem is kept as it is, up to :data:`LONGEST_NAME` bytes.
    """
    stem = Path(image).stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    name = "".join("_" if _unusable(letter) else letter for letter in stem)
    name = name.encode()[:LONGEST_NAME].decode("utf-8", "ignore")
    return name.replace(".", "_") if not name.strip(".") and name else name or "_"


def numbered_names(image: str) -> Iterator[str]:
    """``NAME``, ``NAME-2``, ``NAME-3`` and so on, for photos of one stem."""
    name, number = folder_name(image), 1
    while True:
        yield name if number == 1 else f"{name}-{number}"
        number += 1


def comparable(name: str) -> str:
    """Equal for names that some file systems take for one: by case, or by how accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def _unusable(letter: str) -> bool:
    """Separators of any system, and characters that are not shown but change what is shown."""
    return letter in "/\\:" or unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
