"""A run that is stopped, killed, or that finds the disk full: nothing is lost, and the same command goes on."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

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


def test_a_signal_among_the_last_files_says_that_all_photos_are_complete(
    command: Command, small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, words = signal.SIGTERM, ("compare", photo(tmp_path / "photo.png"), *QUICK, "--out", tmp_path / "out")
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr("ssimpert.report.comparison_files.save_map_grid", lambda *_, **__: os.kill(os.getpid(), number))
        got, _, err = command(*words)
    assert got == 128 + number
    assert err.splitlines()[-1] == (
        f"ssimpert: stopped by SIGTERM: all photos are complete in '{tmp_path / 'out'}', but not the table and the "
        "figures of all photos; the same command makes them"
    )
    assert signal.getsignal(number) is handler
    got, _, err = command(*words)
    assert got in (0, 3)
    assert "1 of 1 photos are complete" in err
    assert (tmp_path / "out" / "maps.svg").is_file()


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that forks commands. Its own is `compare`, which imports what the others need, too."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "log", "compare", photo(folder / "first.png"), *QUICK, "--out", folder / "first")
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
        match path.suffix:
            case ".json":
                record = json.loads(content)
                assert all((path.parent / name).is_file() for name in record.get("files", []))
            case ".npy":
                assert np.load(BytesIO(content)).shape == (1, 3, 32, 32)
            case ".npz":
                with ZipFile(BytesIO(content)) as archive:
                    assert archive.testzip() is None
            case ".parquet":
                assert parquet.read_table(BytesIO(content)).num_rows > 0
            case ".csv":
                assert content.endswith(b"\n")
                assert len({line.count(b",") for line in content.splitlines()}) == 1
            case ".svg":
                ElementTree.fromstring(content)
            case _:
                with Image.open(BytesIO(content)) as picture:
                    picture.load()


def comparable_contents(folder: Path) -> dict[str, Any]:
    """All files, to the last bit; of the records all but the fields ``seconds``, which are times."""
    return {
        name: json.dumps(without_times(json.loads(content))) if name.endswith("result.json") else content
        for name, content in contents(folder).items()
    }


KINDS = ("SIGKILL", "SIGINT", "full disk")


def interrupt(process: int, kind: str, size: int) -> None:
    """Send a signal, or let no file grow beyond ``size`` bytes from now on."""
    with suppress(ProcessLookupError):
        if kind == "full disk":
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, size))
        else:
            os.kill(process, signal.Signals[kind])


def check_code(kind: str, code: int, server: Server, *codes_when_done: int) -> None:
    """The command came to its end before the interruption, or says what happened."""
    said = server.log.read_text()
    assert code in (0, *codes_when_done, {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "full disk": 1}[kind]), said
    assert "Traceback" not in said


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
        kind = KINDS[moment % 3]
        interrupt(process, kind, generator.choice((0, 500, 5000)))
        code = server.wait() if code is None else code
        check_code(kind, code, server)
        if out.exists():
            check_every_file_is_whole(out)
            unfinished += len(list(out.glob("*/result.json"))) < 12

        server.start(*words, "--out", out)
        assert server.wait() == 0, server.log.read_text()
        assert comparable_contents(out) == expected
    assert unfinished >= 3  # else the moments came too late to say anything


LAST_FILES = {
    # The words after the photos, and which files come last: those of all photos, and those of one.
    "compare": (("--csv",), ("agreement.*", "maps.png", "maps.svg")),
    "minimal": (("--rounds", "3", "--curve", "2"), ("1/*",)),
}


@pytest.mark.parametrize("name", list(LAST_FILES))
def test_a_run_that_is_killed_while_it_writes_its_last_files_ends_as_one_that_was_not(
    server: Server, tmp_path: Path, name: str
) -> None:
    photos = [photo(tmp_path / "photos" / f"{number}.png", number) for number in range(2)]
    words_after, last_files = LAST_FILES[name]
    words = (name, *photos, *QUICK, *words_after)
    server.start(*words, "--out", tmp_path / "whole")
    done = server.wait()
    assert done in (0, 3), server.log.read_text()
    expected = comparable_contents(tmp_path / "whole")

    generator, unfinished = random.Random(0), 0
    for kind in KINDS:
        out = tmp_path / kind
        shutil.copytree(tmp_path / "whole", out)
        removed = [path for pattern in last_files for path in out.glob(pattern)]
        for path in removed:
            path.unlink()
        process, code, there = server.start(*words, "--out", out), None, generator.randrange(1, len(removed))
        while code is None and sum(path.exists() for path in removed) < there:
            code = server.ended(within=0.005)
        interrupt(process, kind, generator.choice((0, 500, 5000)))
        check_code(kind, server.wait() if code is None else code, server, done)
        check_every_file_is_whole(out)
        unfinished += not all(path.exists() for path in removed)

        server.start(*words, "--out", out)
        assert server.wait() == done, server.log.read_text()
        assert comparable_contents(out) == expected
    assert unfinished  # else the moments came too late to say anything
