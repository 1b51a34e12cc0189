"""The command line: ``ssimpert --help``.

Found here: the commands (``app``, ``listings``), their options (``options``, ``option_groups``, ``constraints``,
``engines``, ``region``), what a command is to do (``perturb_run``, ``minimal_run``), its photos and their objects
(``photos``, ``objects``), its model and folders (``workspace``), and what it writes and prints (``outputs``,
``comparison``, ``conformance``, ``tables``, ``localization_table``, ``progress``).
"""

from __future__ import annotations

import sys

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a failure that is named in one line, 2 wrong usage."""
    from ssimpert.cli.app import app

    try:
        app()
    except Exception as error:
        # Imported only now, since the solvers load torch, which `--help` does not need.
        from solvers.errors import MethodError, ProblemError
        from ssimpert.cli.errors import UsageError
        from ssimpert.errors import InputError

        if isinstance(error, (ProblemError, MethodError, UsageError)):
            fail(str(error), WRONG_USAGE)
        if isinstance(error, (InputError, OSError)):
            fail(str(error), FAILED)
        raise


def fail(message: str, code: int) -> None:
    """Print ``message`` as one line on stderr, then exit with ``code``."""
    print(f"ssimpert: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
