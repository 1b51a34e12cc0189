"""Runs commands in forks of a process that has everything imported: the command line without its start-up of seconds.

The process first runs the words that it was started with as a command itself, which imports what commands import. Then
it reads a line of JSON for each command: the words, and the file for what is printed. It answers with the number of the
process that runs the command, and, once that process ends, with its exit code (as :class:`subprocess.Popen` has it:
negative for a signal).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path


def serve() -> None:
    """Answer commands until the input ends."""
    import torch

    import ssimpert.models
    from ssimpert import cli
    from tests.ssimpert.cli.small_model import small_classifier

    torch.set_num_threads(1)
    classifier = small_classifier()
    ssimpert.models.load_model = lambda *_, **__: classifier  # type: ignore[assignment]
    with suppress(SystemExit), redirect_stdout(sys.stderr):
        cli.main()
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        # A pipe, since a limit on the size of files would end what is printed into a file, too.
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _run(request["words"], writing)
        os.close(writing)
        _say(str(child))
        with os.fdopen(reading, "rb") as said:
            Path(request["log"]).write_bytes(said.read())
        _, status = os.waitpid(child, 0)
        _say(str(os.waitstatus_to_exitcode(status)))


def _run(words: list[str], output: int) -> None:
    """Run a command, and end the process with its exit code; 70 for an error that the command did not catch."""
    from ssimpert import cli

    code = 70
    try:
        for number in (1, 2):
            os.dup2(output, number)
        # New streams, since the old ones remember what kind of file they were opened on.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.argv = ["ssimpert", *words]
        cli.main()
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    serve()
