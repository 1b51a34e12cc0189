"""A run that is stopped, killed, or that finds the disk full: nothing is lost, and the same command goes on."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssimpert.atomic_files import is_temporary
from ssimpert.cli.interruption import finishing_photos
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import Command
from tests.ssimpert.cli.test_output_folder import contents, photo, without_times


@pytest.fixture(autouse=True, scope="module")
def usual_signals() -> Iterator[None]:
    """A shell starts jobs in the background with SIGINT ignored, and the commands tried here would leave it so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


QUICK = ("--constraint", "l2", "--steps", "1", "--method", "closed_form")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_after_the_photo_in_hand(
    command: Command,
    small: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    from ssimpert.cli import perturb_photo

    original = perturb_photo.perturbed

    def signal_at_the_second(workspace: Any, perturb_run: Any, index: int, *rest: Any) -> Any:
        if index == 1:
            os.kill(os.getpid(), number)
        return original(workspace, perturb_run, index, *rest)

    words = ("perturb", "chelsea", "coffee", "rocket", *QUICK, "--out", tmp_path)
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(perturb_photo, "perturbed", signal_at_the_second)
        got, said, err = command(*words)
    assert got == code
    assert said == ""
    assert "finishing the photo in hand" in err
    assert err.splitlines()[-1] == (
        f"ssimpert: stopped by {number.name}: 2 of 3 photos are complete in '{tmp_path}'; "
        "the same command goes on from there"
    )
    assert signal.getsignal(number) is handler
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chelsea", "coffee", "run.json"]
    got, _, err = command(*words)
    assert got == 0
    assert "2 of 3 photos are complete" in err
    assert (tmp_path / "rocket" / "result.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with finishing_photos() as received:
                os.kill(os.getpid(), number)
                if received() == number:
                    os.kill(os.getpid(), number)
        os._exit(70)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -number


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with finishing_photos() as received:
            os.kill(os.getpid(), signal.SIGINT)
            assert received() is None
    finally:
        signal.signal(signal.SIGINT, before)


class Server:
    """Commands in forks of one process (:mod:`tests.ssimpert.cli.forking_server`)."""

    def __init__(self, log: Path, *first_words: str | Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ssimpert.cli.forking_server", *map(str, first_words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        assert self._answer() == "ready"

    def start(self, *words: str | Path) -> int:
        """Start a command; return the number of its process."""
        assert self.process.stdin is not None
        request = {"words": [str(word) for word in words], "log": str(self.log)}
        self.process.stdin.write(json.dumps(request) + "\n")
        return int(self._answer())

    def ended(self, within: float) -> int | None:
        """The exit code of the command, if it ends ``within`` this time in seconds; else None."""
        readable, _, _ = select.select([self.process.stdout], [], [], within)
        return int(self._answer()) if readable else None

    def wait(self) -> int:
        """The exit code of the command."""
        return int(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A process that forks commands."""
    server = Server(tmp_path / "log", "perturb", photo(tmp_path / "first.png"), *QUICK, "--out", tmp_path / "first")
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait()


def check_every_file_is_whole(folder: Path) -> None:
    """Every file that has its final name can be read to its end, and every record speaks of files that are there."""
    for path in folder.rglob("*"):
        if path.is_dir() or is_temporary(path):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            record = json.loads(content)
            assert all((path.parent / name).is_file() for name in record.get("files", []))
        elif path.suffix == ".npy":
            assert np.load(BytesIO(content)).shape == (1, 3, 32, 32)
        else:
            with Image.open(BytesIO(content)) as picture:
                picture.load()


def comparable_contents(folder: Path) -> dict[str, Any]:
    """All files, to the last bit; of the records all but the fields ``seconds``, which are times."""
    return {
        name: json.dumps(without_times(json.loads(content))) if name.endswith("result.json") else content
        for name, content in contents(folder).items()
    }


def test_a_run_that_is_killed_at_ten_random_moments_ends_as_one_that_was_not(server: Server, tmp_path: Path) -> None:
    """SIGKILL, SIGINT and a full disk in turn, each at a random moment of a run of twelve photos."""
    photos = [photo(tmp_path / "photos" / f"{number}.png", number) for number in range(12)]
    words = ("perturb", *photos, *QUICK)
    began = time.monotonic()
    server.start(*words, "--out", tmp_path / "whole")
    assert server.wait() == 0, server.log.read_text()
    seconds = time.monotonic() - began
    expected = comparable_contents(tmp_path / "whole")
    assert len(expected) == 12 * 3 + 1

    generator, unfinished = random.Random(0), 0
    for moment in range(10):
        out = tmp_path / f"out{moment}"
        process, stop_at = server.start(*words, "--out", out), time.monotonic() + generator.uniform(0.1, 1) * seconds
        code = None
        while code is None and time.monotonic() < stop_at:
            code = server.ended(within=0.03)
            if out.exists():
                check_every_file_is_whole(out)
        kind = ("SIGKILL", "SIGINT", "full disk")[moment % 3]
        with suppress(ProcessLookupError):
            if kind == "full disk":
                size = generator.choice((0, 500, 5000))
                resource.prlimit(process, resource.RLIMIT_FSIZE, (size, size))
            else:
                os.kill(process, signal.Signals[kind])
        code = server.wait() if code is None else code
        said = server.log.read_text()
        assert code in (0, {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "full disk": 1}[kind]), said
        assert "Traceback" not in said
        if out.exists():
            check_every_file_is_whole(out)
            unfinished += len(list(out.glob("*/result.json"))) < 12

        server.start(*words, "--out", out)
        assert server.wait() == 0, server.log.read_text()
        assert comparable_contents(out) == expected
    assert unfinished >= 3  # else the moments came too late to say anything
