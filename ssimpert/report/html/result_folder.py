"""A folder with the results of ``perturb``, ``compare`` or ``minimal``, read back (docs/output-folder.md).

A photo counts as complete if its record is there and all files that the record names are. All other photos of
``run.json`` are named with a reason; a report says so in its first line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssimpert.analysis.comparison.maps import Maps
from ssimpert.analysis.comparison.stored import load_maps
from ssimpert.errors import InputError
from ssimpert.record_files import is_filled, read_record
from ssimpert.report.drawing import Array

RUN_FILE, RESULT_FILE, MAPS_FILE, ADVERSARIAL_FILE, CURVE_FILE = (
    "run.json",
    "result.json",
    "maps.npz",
    "adversarial.npy",
    "curve.json",
)
_WRITERS = "ssimpert perturb, compare or minimal"
# What a record of a perturbed photo has for certain.
_OUTCOME = ("label_before", "label_after", "margin_before", "margin_after", "success")


@dataclass(frozen=True)
class StoredPhoto:
    """The complete result of one photo.

    Attributes:
        folder: where its files are.
        record: its ``result.json``.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """What the user called the photo."""
        return str(self.record["image"])

    @property
    def result(self) -> dict[str, Any]:
        """The numbers of the perturbation."""
        found: dict[str, Any] = self.record["result"]
        return found

    def adversarial(self) -> Array:
        """The perturbed photo, (C, H, W) float64.

        Raises:
            InputError: the file can't be read, or holds something else.
        """
        path = self.folder / ADVERSARIAL_FILE
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{str(path)!r} can't be read: {error}") from error
        if array.ndim != 4 or array.shape[0] != 1 or array.shape[1] not in (1, 3) or array.dtype.kind != "f":
            raise InputError(f"{str(path)!r} is no perturbed photo: {array.dtype} of shape {array.shape}")
        return np.asarray(array[0], dtype=np.float64)

    def maps(self) -> tuple[Array, Maps] | None:
        """The class activation map (H, W) and all other maps (1, H, W) of ``compare``; None of other commands.

        Raises:
            InputError: the file can't be read.
        """
        if MAPS_FILE not in self.record.get("files", ()):
            return None
        cam, maps = load_maps(self.folder / MAPS_FILE)
        return cam[0].double().numpy(), maps

    def curve(self) -> dict[str, Any] | None:
        """The margins at several levels, of ``minimal --curve``; None without."""
        return read_record(self.folder / CURVE_FILE) if CURVE_FILE in self.record.get("files", ()) else None


@dataclass(frozen=True)
class ResultFolder:
    """The results of one command.

    Attributes:
        path: the folder.
        run: the command, its options, the weights' hash and versions.
        photos: the complete results, in the order of ``run.json``.
        incomplete: for each other photo of the run, what is missing.
    """

    path: Path
    run: dict[str, Any]
    photos: tuple[StoredPhoto, ...]
    incomplete: tuple[str, ...]


def read_result_folder(path: Path) -> ResultFolder:
    """The results in the folder ``path``.

    Raises:
        InputError: there is no such folder, it has no results, or none of them is complete.
    """
    if not path.exists():
        raise InputError(f"there is no folder {str(path)!r}; give the folder that {_WRITERS} wrote")
    if not path.is_dir():
        raise InputError(f"{str(path)!r} is a file; give the folder that {_WRITERS} wrote")
    run = read_record(path / RUN_FILE)
    if run is None:
        return _single_photo(path)
    owners = run.get("photos")
    if not isinstance(owners, dict) or not all(isinstance(owner, dict) for owner in owners.values()):
        raise InputError(f"{str(path / RUN_FILE)!r} names no photos, so it is no record of {_WRITERS}")
    photos: list[StoredPhoto] = []
    incomplete: list[str] = []
    for label, owner in owners.items():
        found = _stored_photo(path, str(label))
        if isinstance(found, str):
            incomplete.append(f"{owner.get('image', label)}: {found}")
        else:
            photos.append(found)
    if not photos:
        reason = f" ({incomplete[0]})" if incomplete else ""
        raise InputError(
            f"no photo in {str(path)!r} is complete{reason}; run the same command again, which goes on from there"
        )
    return ResultFolder(
        path, {key: value for key, value in run.items() if key != "photos"}, tuple(photos), tuple(incomplete)
    )


def _single_photo(path: Path) -> ResultFolder:
    """A photo's own folder below ``--out``, which has no ``run.json``."""
    if not (path / RESULT_FILE).is_file():
        below = sorted(child.parent for child in path.glob(f"*/{RUN_FILE}"))
        hint = f"did you mean {str(below[0])!r}?" if below else f"give the folder that {_WRITERS} wrote"
        raise InputError(f"{str(path)!r} has no results: neither {RUN_FILE} nor {RESULT_FILE}; {hint}")
    found = _stored_photo(path, ".")
    if isinstance(found, str):
        raise InputError(f"the result in {str(path)!r} is not complete: {found}")
    return ResultFolder(path, dict(found.record.get("run") or {}), (found,), ())


def _stored_photo(path: Path, label: str) -> StoredPhoto | str:
    """A photo's result, or what is missing."""
    if label != "." and (Path(label).name != label or label == ".."):
        return f"its folder {label!r} is not within {str(path)!r}"
    folder = path / label
    if folder.is_symlink():
        return "its folder is a link, which is not followed"
    record = read_record(folder / RESULT_FILE)
    if record is None:
        return f"{RESULT_FILE} is missing or no JSON, so the photo was not finished"
    result, files = record.get("result"), record.get("files")
    if not isinstance(result, dict) or any(key not in result for key in _OUTCOME) or "image" not in record:
        return f"{RESULT_FILE} is no record of {_WRITERS}"
    if not isinstance(files, list):
        return f"{RESULT_FILE} names no files"
    missing = [str(name) for name in files if Path(str(name)).name != name or not is_filled(folder / str(name))]
    return f"{missing[0]} is missing or empty" if missing else StoredPhoto(folder, record)
