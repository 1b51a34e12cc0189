"""How far a study is: declared, done, failed and missing units, overall and column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssimpert.errors import InputError
from ssimpert.study.declared import DeclaredCell, read_cells
from ssimpert.study.item_index import read_item_index
from ssimpert.study.key_arrays import KeyArray, arrow_keys, is_among, key_array, key_texts, unit_keys
from ssimpert.study.store.failures import read_failures
from ssimpert.study.store.lock import LockOwner, lock_age, read_lock
from ssimpert.study.store.parts import sound_parts
from ssimpert.study.store.provenance import read_provenance
from ssimpert.study.store.results import compacted_keys
from ssimpert.study.tasks import UnitFailure


@dataclass(frozen=True)
class Counts:
    """Units by what became of them.

    Attributes:
        declared: asked for.
        done: with a record on the disk.
        failed: tried without a record.
    """

    declared: int
    done: int
    failed: int

    @property
    def missing(self) -> int:
        """Units that are neither done nor failed."""
        return self.declared - self.done - self.failed

    @property
    def is_partial(self) -> bool:
        """Whether some declared unit has no record."""
        return self.done < self.declared

    def line(self) -> str:
        """The counts in words; the first word is PARTIAL where something has no record."""
        counts = f"{self.declared} units declared, {self.done} done, {self.failed} failed, {self.missing} missing"
        return f"PARTIAL: {counts}" if self.is_partial else counts


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Attributes:
        counts: of all units.
        cells: the counts of each cell.
        reasons: how often each reason of a failure occurs.
        rate: units a second of the run that is at work, else of the last one; ``None`` where no run did any.
        holder: who holds the lock; ``None`` where nobody does.
        heartbeat: seconds since the holder's last heartbeat.
    """

    counts: Counts
    cells: tuple[tuple[DeclaredCell, Counts], ...]
    reasons: Mapping[str, int]
    rate: float | None
    holder: LockOwner | None
    heartbeat: float | None

    @property
    def seconds_left(self) -> float | None:
        """How long the missing units take at the rate of the run; ``None`` where no rate is known."""
        return self.counts.missing / self.rate if self.rate else None


def study_status(folder: Path) -> StudyStatus:
    """How far the study in ``folder`` is. No model is loaded, and a run may be at work.

    Raises:
        InputError: the folder has no study that was run.
    """
    cells, items = read_cells(folder), read_item_index(folder)
    if cells is None or items is None:
        raise InputError(f"{folder} has no study that was run; `ssimpert study run FILE --out {folder}` begins one")
    done, failures = done_keys(folder), read_failures(folder)
    counted = count_units(cells, items.identities, done, failures)
    declared_failures = [failures[key] for key in counted.failed_keys]
    reasons: dict[str, int] = {}
    for failure in declared_failures:
        reasons[failure.reason] = reasons.get(failure.reason, 0) + 1
    return StudyStatus(
        counts=counted.counts,
        cells=counted.cells,
        reasons=reasons,
        rate=_rate(folder),
        holder=read_lock(folder),
        heartbeat=lock_age(folder),
    )


@dataclass(frozen=True, eq=False)
class CountedUnits:
    """The units of a study counted.

    Attributes:
        counts: of all units.
        cells: the counts of each cell.
        failed_keys: the keys of the declared units that failed.
    """

    counts: Counts
    cells: tuple[tuple[DeclaredCell, Counts], ...]
    failed_keys: tuple[str, ...]


def count_units(
    cells: Sequence[DeclaredCell], identities: Sequence[str], done: KeyArray, failures: Mapping[str, UnitFailure]
) -> CountedUnits:
    """Count the units of ``cells`` by items.

    Args:
        cells: of the study.
        identities: of its items.
        done: the keys of the units with a record, sorted; those of other studies are not counted.
        failures: by the keys of their units. A unit that is done did not fail.
    """
    failed = np.sort(key_array(failures))
    counted, failed_keys = [], []
    for cell in cells:
        keys = unit_keys(cell.digest, identities)
        is_done = is_among(keys, done)
        is_failed = is_among(keys, failed) & ~is_done
        failed_keys += key_texts(keys[is_failed])
        counted.append((cell, Counts(len(keys), int(is_done.sum()), int(is_failed.sum()))))
    total = Counts(*(sum(getattr(counts, name) for _, counts in counted) for name in ("declared", "done", "failed")))
    return CountedUnits(total, tuple(counted), tuple(failed_keys))


def done_keys(folder: Path) -> KeyArray:
    """The keys of all units with a record, sorted."""
    keys = [part.keys for part in sound_parts(folder)]
    compacted = compacted_keys(folder)
    if compacted is not None:
        keys.append(arrow_keys(compacted))
    return np.unique(np.concatenate([key_array(()), *keys]))


def _rate(folder: Path) -> float | None:
    runs = [entry for entry in read_provenance(folder).values() if entry.get("kind") == "runner" and entry.get("units")]
    if not runs:
        return None
    last = max(runs, key=lambda entry: str(entry.get("began", "")))
    return float(last["units"]) / max(float(last["seconds"]), 1e-9)
