"""The command line: ``ssimpert --help``.

Found here: the commands (``app``, ``listings``), their options (``options``, ``option_groups``, ``constraints``,
``engines``, ``region``), what a command is to do (``perturb_run``, ``minimal_run``), its images and model
(``workspace``), the folder for the results (``output_folder``, ``folder_names``, ``run_record``), the way from photo to
photo (``photo_loop``, ``interruption``, ``progress``), and what it writes and prints (``outputs``, ``comparison``,
``recorded_results``, ``conformance``, ``tables``).
"""

from __future__ import annotations

import sys

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a failure that is named in one line, 2 wrong usage.

    A command that a signal ended has the exit code 128 plus the number of the signal: 130 for Ctrl-C, 143 for SIGTERM.
    """
    from ssimpert.cli.app import app

    try:
        app()
    except KeyboardInterrupt:  # where typer was not there yet to catch it
        fail("stopped by SIGINT before any work was done", 130)
    except Exception as error:
        # Imported only now, since the solvers load torch, which `--help` does not need.
        from solvers.errors import MethodError, ProblemError
        from ssimpert.cli.errors import UsageError
        from ssimpert.cli.interruption import Stopped
        from ssimpert.errors import InputError

        if isinstance(error, Stopped):
            fail(str(error), error.exit_code)
        if isinstance(error, (ProblemError, MethodError, UsageError)):
            fail(str(error), WRONG_USAGE)
        if isinstance(error, (InputError, OSError)):
            fail(str(error), FAILED)
        raise


def fail(message: str, code: int) -> None:
    """Print ``message`` as one line on stderr, then exit with ``code``."""
    print(f"ssimpert: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
