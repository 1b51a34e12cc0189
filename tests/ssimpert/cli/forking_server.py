"""Runs commands in forks of a process that has everything imported: the command line without its start-up of seconds.

The process reads a line of JSON for each command: the words, and the file for what is printed. It answers with the
number of the process that runs the command, and, once that process ends, with its exit code (as
:class:`subprocess.Popen` has it: negative for a signal).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path


def serve() -> None:
    """Answer commands until the input ends."""
    import torch

    import ssimpert.metrics
    import ssimpert.models
    import ssimpert.perturbation
    from ssimpert import cli
    from tests.ssimpert.cli.small_model import small_classifier

    torch.set_num_threads(1)
    classifier = small_classifier()
    ssimpert.models.load_model = lambda *_, **__: classifier  # type: ignore[assignment]
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                _redirect(Path(request["log"]))
                sys.argv = ["ssimpert", *request["words"]]
                cli.main()
                code = 0
            except SystemExit as ending:
                code = int(ending.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _say(str(child))
        _, status = os.waitpid(child, 0)
        _say(str(os.waitstatus_to_exitcode(status)))


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    serve()
