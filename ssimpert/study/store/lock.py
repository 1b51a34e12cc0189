"""One runner at a time: a lock that names its owner, with a heartbeat."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssimpert.errors import InputError

LOCK = "lock"
STALE_AFTER = 120.0
"""Seconds without a heartbeat after which a lock is taken over."""

HEARTBEAT = 10.0


class LockedError(InputError):
    """Another runner works on the folder. The message names the owner, the host, the process and the last heartbeat."""


class LockLostError(InputError):
    """Somebody else took the lock over, so nothing more may be written."""


@dataclass(frozen=True)
class LockOwner:
    """Who holds a lock.

    Attributes:
        owner: the user's name.
        host: of the process.
        pid: of the process.
        started: when the system started this process, as the system counts; empty where it can't be known.
        token: random, of this lock alone.
    """

    owner: str
    host: str
    pid: int
    started: str
    token: str


class StudyLock:
    """The right to write in a study's folder, as a context manager.

    A lock of a process that has died on this host is taken over at once, and the lock of another host once its
    heartbeat is older than ``stale_after`` seconds. Ages are told by the clock of the file system, which all hosts
    share.
    """

    def __init__(
        self, folder: Path, *, wait: bool = False, stale_after: float = STALE_AFTER, heartbeat: float = HEARTBEAT
    ) -> None:
        """A lock that is not yet held.

        Args:
            folder: of the study; must exist.
            wait: wait until the folder is free, instead of leaving with :class:`LockedError`.
            stale_after: seconds without a heartbeat after which a lock is taken over.
            heartbeat: seconds between two heartbeats.
        """
        self.owner = LockOwner(_user(), socket.gethostname(), os.getpid(), _start_of(os.getpid()), secrets.token_hex(8))
        self._folder, self._path = folder, folder / LOCK
        self._wait, self._stale_after, self._heartbeat = wait, stale_after, heartbeat
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StudyLock:
        self._acquire()
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, name="heartbeat of the study's lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with _guard(self._folder), suppress(FileNotFoundError):
            if read_lock(self._folder) == self.owner:
                self._path.unlink()

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises:
            LockLostError: somebody else took it over.
        """
        holder = read_lock(self._folder)
        if holder != self.owner:
            by = "nobody" if holder is None else f"{holder.owner} on {holder.host}, process {holder.pid}"
            raise LockLostError(
                f"the lock of {self._folder} is now held by {by}; what is on the disk stays, nothing more is written"
            )

    def _acquire(self) -> None:
        seen: tuple[LockOwner | None, float] | None = None  # the last heartbeat, and when this process saw it first
        while True:
            with _guard(self._folder):
                holder = read_lock(self._folder)
                beat = _modified(self._path)
                if holder is None or self._is_stale(holder):
                    _write(self._path, self.owner)
                    return
            # A heartbeat from the future, by a clock that jumped, is told by watching it.
            if seen is None or seen[0] != holder or seen[1] != beat:
                seen, watched_since = (holder, beat), time.monotonic()
            elif time.monotonic() - watched_since > self._stale_after:
                with _guard(self._folder):
                    if read_lock(self._folder) == holder and _modified(self._path) == beat:
                        _write(self._path, self.owner)
                        return
            if not self._wait:
                raise LockedError(
                    f"{self._folder} is in use by {holder.owner} on {holder.host}, process {holder.pid} "
                    f"(last heartbeat {_age(self._folder):.0f} s ago); wait for it, or run with --wait"
                )
            time.sleep(min(1.0, self._heartbeat))

    def _is_stale(self, holder: LockOwner) -> bool:
        if holder.host == self.owner.host and holder.started:
            return _start_of(holder.pid) != holder.started
        return _age(self._folder) > self._stale_after

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat):
            with suppress(OSError):
                if read_lock(self._folder) == self.owner:
                    os.utime(self._path)


def read_lock(folder: Path) -> LockOwner | None:
    """Who holds the lock of a folder; ``None`` where nobody does."""
    try:
        content: dict[str, Any] = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return LockOwner(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        # Locks appear whole. Whatever this file is, its age alone decides.
        return LockOwner("somebody", "an unknown host", 0, "", "")


def lock_age(folder: Path) -> float | None:
    """Seconds since the last heartbeat of a folder's lock, by the clock of the file system; ``None`` without a lock."""
    return None if not (folder / LOCK).exists() else _age(folder)


def _age(folder: Path) -> float:
    probe = folder / f".ssimpert-{secrets.token_hex(8)}.tmp"
    try:
        probe.touch()
        now = probe.stat().st_mtime
    except OSError:
        now = time.time()
    finally:
        with suppress(OSError):
            probe.unlink()
    return now - _modified(folder / LOCK)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return -float("inf")


def _write(path: Path, owner: LockOwner) -> None:
    from ssimpert.atomic_files import write_atomically

    write_atomically(path, json.dumps(vars(owner)).encode())


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Within this context no other process looks at the lock in order to take it."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    descriptor = os.open(folder / f".{LOCK}-guard", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def _start_of(pid: int) -> str:
    """When the system started a process, in clock ticks since its boot; empty where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
