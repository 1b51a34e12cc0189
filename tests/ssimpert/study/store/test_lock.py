"""One runner at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ssimpert.study.store.lock import LOCK, LockedError, LockLostError, StudyLock, lock_age, read_lock


def other_host(folder: Path, age: float) -> None:
    """A lock of another host, whose last heartbeat was ``age`` seconds ago."""
    path = folder / LOCK
    path.write_text(json.dumps({"owner": "ada", "host": "elsewhere", "pid": 7, "started": "1", "token": "t"}))
    beat = time.time() - age
    os.utime(path, (beat, beat))


def test_a_second_runner_is_told_who_works(tmp_path: Path) -> None:
    with (
        StudyLock(tmp_path),
        pytest.raises(LockedError, match=f"in use by .* on {socket.gethostname()}, process {os.getpid()} "),
        StudyLock(tmp_path),
    ):
        pass
    assert read_lock(tmp_path) is None


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), StudyLock(tmp_path):
        raise RuntimeError
    with StudyLock(tmp_path):
        pass


def test_the_lock_of_a_dead_process_of_this_host_is_taken_at_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from ssimpert.study.store.lock import StudyLock\n"
        "StudyLock(Path(sys.argv[1])).__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[4])
    assert read_lock(tmp_path) is not None
    with StudyLock(tmp_path) as lock:
        lock.check()


def test_a_reused_process_number_is_not_taken_for_the_owner(tmp_path: Path) -> None:
    owner = {"owner": "ada", "host": socket.gethostname(), "pid": os.getpid(), "started": "1", "token": "t"}
    (tmp_path / LOCK).write_text(json.dumps(owner))
    with StudyLock(tmp_path) as lock:
        lock.check()


@pytest.mark.parametrize("age", [0.0, 100.0, -3600.0])  # the last: that clock is an hour ahead
def test_a_live_lock_of_another_host_is_respected(tmp_path: Path, age: float) -> None:
    other_host(tmp_path, age)
    with pytest.raises(LockedError, match="in use by ada on elsewhere, process 7"), StudyLock(tmp_path):
        pass


def test_a_lock_without_a_heartbeat_for_two_minutes_is_taken_over(tmp_path: Path) -> None:
    other_host(tmp_path, 121.0)
    with StudyLock(tmp_path) as lock:
        lock.check()


def test_a_heartbeat_from_the_future_is_watched_while_waiting(tmp_path: Path) -> None:
    other_host(tmp_path, -3600.0)
    with StudyLock(tmp_path, wait=True, stale_after=0.3, heartbeat=0.1) as lock:
        lock.check()


def test_whoever_lost_the_lock_is_told_before_writing(tmp_path: Path) -> None:
    with StudyLock(tmp_path) as lock:
        other_host(tmp_path, 0.0)
        with pytest.raises(LockLostError, match="now held by ada on elsewhere, process 7"):
            lock.check()
    assert read_lock(tmp_path) is not None  # of the other


def test_a_heartbeat_renews_the_age(tmp_path: Path) -> None:
    with StudyLock(tmp_path, heartbeat=0.02):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 5
        while (lock_age(tmp_path) or 0) > 60:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_waiting_ends_when_the_folder_is_free(tmp_path: Path) -> None:
    order = []
    with StudyLock(tmp_path):

        def second() -> None:
            with StudyLock(tmp_path, wait=True, heartbeat=0.02):
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_of_many_takers_of_a_stale_lock_one_wins(tmp_path: Path) -> None:
    other_host(tmp_path, 500.0)
    entered, refused, ready = [], [], threading.Barrier(8)

    def take() -> None:
        ready.wait()
        try:
            lock = StudyLock(tmp_path)
            lock.__enter__()
            entered.append(lock)
        except LockedError:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(entered), len(refused)) == (1, 7)
    entered[0].__exit__(None, None, None)


def test_a_lock_that_is_no_lock_counts_by_its_age(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    path.write_text("not JSON")
    with pytest.raises(LockedError, match="somebody"), StudyLock(tmp_path):
        pass
    os.utime(path, (0, 0))
    with StudyLock(tmp_path) as lock:
        lock.check()
