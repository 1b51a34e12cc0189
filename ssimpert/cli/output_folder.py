"""The folder ``--out``: which files there are whose, which results are complete, and that nothing leaves the folder.

``run.json`` says which command, options, weights and versions made the results, and which folder belongs to which
photo. The file is written before any result, so that every result that is found later has an owner.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssimpert.atomic_files import remove_temporary_files
from ssimpert.cli.errors import UsageError
from ssimpert.cli.folder_names import comparable, numbered_names
from ssimpert.cli.run_record import differences
from ssimpert.errors import InputError
from ssimpert.record_files import is_filled, read_record

RUN_FILE, RESULT_FILE = "run.json", "result.json"
# The names of the files of one photo, and of the files of all photos.
PHOTO_FILES = (
    "adversarial.png",
    "adversarial.npy",
    "figure.png",
    "figure.svg",
    "maps.npz",
    "curve.json",
    "curve.png",
    "curve.svg",
    RESULT_FILE,
)
RUN_FILES = (
    "agreement.parquet",
    "agreement.csv",
    "maps.png",
    "maps.svg",
    "insertion_deletion.png",
    "insertion_deletion.svg",
    RUN_FILE,
)
# The folder of a single photo is --out itself.
ITSELF = "."
# The folders that this process has locked, by device and number: open until the process ends.
_LOCKED: dict[tuple[int, int], int] = {}


@dataclass(frozen=True)
class Photo:
    """A photo by its name and its content.

    Attributes:
        name: what the user called the photo.
        sha256: the hash of the photo's content.
        mask_sha256: the hash of the content of its mask; None where every pixel may change.
        objects_sha256: the hash of its objects, their boxes and masks; None without objects.
    """

    name: str
    sha256: str
    mask_sha256: str | None = None
    objects_sha256: str | None = None

    def record(self) -> dict[str, Any]:
        """What results say of the photo."""
        return {
            "sha256": self.sha256,
            "mask_sha256": self.mask_sha256,
            "objects_sha256": self.objects_sha256,
        }


class OutputFolder:
    """The folder ``--out`` of one command.

    Attributes:
        path: the folder, which exists and can be written to.
        run: what is recorded of the run; see :func:`ssimpert.cli.run_record.run_record`.
        redo: whether results that are there are made again, and other results are replaced.
        folders: a folder for each photo, once :meth:`claim` has been called.
    """

    def __init__(self, path: Path, run: dict[str, Any], *, redo: bool = False) -> None:
        """Make the folder and lock it.

        Args:
            path: the folder.
            run: what is recorded of the run, as far as it is known before the model is loaded.
            redo: whether to make results again that are there.

        Raises:
            InputError: files can't be written there, or another process writes there.
            UsageError: the results there have other options; the message has the differences.
        """
        self.path, self.run, self.redo = path, run, redo
        self.folders: list[Path] = []
        make_folder(path)
        lock(path)
        self._recorded = self._read_run()
        self.check_run()

    def check_run(self) -> None:
        """Refuse a run whose results can't stand beside the results that are there.

        Raises:
            UsageError: the results have other options, weights or versions; the message has the differences.
        """
        if self._recorded is not None and self._has_results(self._recorded) and not self.redo:
            self._check_same(self._recorded, self.path)

    def claim(self, photos: Sequence[Photo], inputs: Iterable[Path], *, in_folder_itself: bool) -> list[Path]:
        """Give each photo a folder: ``--out`` itself for a single photo, else a folder that is named after the photo.

        A photo that was there before keeps its folder. The folders are entered into ``run.json``.

        Args:
            photos: the photos of this run.
            inputs: files that must not be overwritten.
            in_folder_itself: whether there is a single photo whose files go into ``--out`` itself.

        Raises:
            InputError: a file would leave the folder through a link, replace a file of somebody else, or replace an
                input.
        """
        owners: dict[str, dict[str, Any]] = dict((self._recorded or {}).get("photos", {}))
        labels: list[str] = []
        for photo in photos:
            label = ITSELF if in_folder_itself else self._free_label(photo, owners, labels)
            self._check_owner(photo, label, owners.get(label))
            labels.append(label)
        folders = [self.path / label for label in labels]
        self._check_links(folders)
        self._check_strangers([folder for label, folder in zip(labels, folders, strict=True) if label not in owners])
        self._check_inputs(folders, inputs)
        for label, photo in zip(labels, photos, strict=True):
            owners[label] = {"image": photo.name, **photo.record()}
        from ssimpert.cli.outputs import write_json

        write_json({**self.run, "photos": owners}, self.path / RUN_FILE)
        for folder in (self.path, *folders):
            if folder.is_dir():
                remove_temporary_files(folder)
        self.folders = folders
        return folders

    def complete_record(self, index: int, photo: Photo) -> dict[str, Any] | None:
        """The record of the photo at ``index``, if nothing is missing: options, content and all files; else None.

        Raises:
            UsageError: there is a record, but of other options; the message has the differences.
        """
        folder = self.folders[index]
        record = read_record(folder / RESULT_FILE)
        if record is None or self.redo:
            return None
        self._check_same(record.get("run", {}), folder)
        before = record.get("photo", {})
        if {key: before.get(key) for key in photo.record()} != photo.record():
            raise UsageError(
                f"{photo.name!r} or its mask or its objects have changed since the result in {str(folder)!r} was made; "
                "give another --out, or --force to replace the result"
            )
        files = record.get("files")
        is_complete = isinstance(files, list) and all(is_filled(folder / str(name)) for name in files)
        return record if is_complete else None

    def _read_run(self) -> dict[str, Any] | None:
        record = read_record(self.path / RUN_FILE)
        return record if record is not None and "command" in record and "photos" in record else None

    def _has_results(self, recorded: dict[str, Any]) -> bool:
        """Whether a photo was finished. A run without any result has nothing that other options would spoil."""
        return any((self.path / label / RESULT_FILE).exists() for label in recorded["photos"])

    def _check_same(self, recorded: dict[str, Any], folder: Path) -> None:
        found = differences(recorded, self.run)
        if found:
            raise UsageError(
                f"{str(folder)!r} has results of another run ({'; '.join(found)}); give another folder by --out, or "
                "--force to replace the results"
            )

    def _free_label(self, photo: Photo, owners: dict[str, dict[str, Any]], used_labels: list[str]) -> str:
        """The first name of a folder that is the photo's own already, or nobody's."""
        used = {comparable(label) for label in used_labels}
        taken = {comparable(label): owner for label, owner in owners.items()}
        reserved = {comparable(name) for name in (*RUN_FILES, *PHOTO_FILES)}
        for label in numbered_names(photo.name):
            owner = taken.get(comparable(label))
            is_own = owner is None or photo.sha256 == owner["sha256"] or photo.name == owner["image"]
            if comparable(label) not in used | reserved and is_own:
                return label
        raise AssertionError("numbers don't end")

    def _check_owner(self, photo: Photo, label: str, owner: dict[str, Any] | None) -> None:
        if owner is None or self.redo or owner["sha256"] == photo.sha256:
            return
        was = "that photo as it was before" if owner["image"] == photo.name else repr(owner["image"])
        raise UsageError(
            f"can't write the result of {photo.name!r}: {str(self.path / label)!r} has the result of {was}; give "
            "another --out, or --force to replace the result"
        )

    def _check_links(self, folders: list[Path]) -> None:
        """Whatever is in ``--out`` must be there, and not elsewhere by way of a link."""
        for path in (*(folder for folder in folders if folder != self.path), *self._files(folders)):
            if path.is_symlink():
                raise InputError(f"{str(path)!r} is a link; results are not written through links. Remove the link")
        for folder in folders:
            if os.path.lexists(folder) and not folder.is_dir():
                raise InputError(f"can't write to folder {str(folder)!r}: a file has this name")

    def _check_strangers(self, new_folders: list[Path]) -> None:
        """Files that are in folders without an owner, under the names of results, are not ours to replace."""
        paths = [folder / name for folder in new_folders for name in PHOTO_FILES]
        if self._recorded is None:
            paths += [self.path / name for name in RUN_FILES]
        strangers = [path for path in paths if path.exists()]
        if strangers and not self.redo:
            raise InputError(
                f"{str(strangers[0])!r} exists, and no {RUN_FILE} says that this command made it; give another --out, "
                "or --force to replace such files"
            )

    def _check_inputs(self, folders: list[Path], inputs: Iterable[Path]) -> None:
        identities = {(found.st_dev, found.st_ino): path for path in inputs if (found := _status(path)) is not None}
        for path in self._files(folders):
            found = _status(path)
            if found is not None and (found.st_dev, found.st_ino) in identities:
                name = str(identities[found.st_dev, found.st_ino])
                raise InputError(f"the result {str(path)!r} would overwrite the input {name!r}; give another --out")

    def _files(self, folders: list[Path]) -> Iterator[Path]:
        yield from (self.path / name for name in RUN_FILES)
        yield from (folder / name for folder in folders for name in PHOTO_FILES)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and check that files can be written there, before any work starts.

    Raises:
        InputError: files can't be written there.
    """
    for part in (folder, *folder.parents):
        if part.is_symlink() and not part.exists():
            raise InputError(
                f"can't write to folder {str(folder)!r}: {str(part)!r} is a link to {os.readlink(part)!r}, which does "
                "not exist"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The file has no name, or a random one that nobody else has, and is gone afterwards.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        raise InputError(f"can't write to folder {str(folder)!r}: {error.strerror or error}") from error


def lock(folder: Path) -> None:
    """Keep other processes from writing into ``folder`` until this process ends, where the file system can.

    The lock is the folder's own; no file is made for it. It ends with the process, however the process ends.

    Raises:
        InputError: another process has the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY)
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) in _LOCKED:
        os.close(descriptor)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(f"another command is writing to {str(folder)!r}; wait for it, or give another --out") from None
    except OSError:
        pass  # some network file systems have no locks
    _LOCKED[status.st_dev, status.st_ino] = descriptor


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
