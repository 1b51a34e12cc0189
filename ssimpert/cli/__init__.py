"""The command line: ``ssimpert --help``."""

from __future__ import annotations

import sys

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a failure named in one line, 2 wrong usage."""
    from ssimpert.cli.app import app

    try:
        app()
    except Exception as error:
        # Imported only now: the solvers load torch, and `--help` needs none of it.
        from solvers.errors import MethodError, ProblemError
        from ssimpert.cli.errors import UsageError
        from ssimpert.errors import InputError

        if isinstance(error, (ProblemError, MethodError, UsageError)):
            fail(str(error), WRONG_USAGE)
        if isinstance(error, (InputError, OSError)):
            fail(str(error), FAILED)
        raise


def fail(message: str, code: int) -> None:
    """One line on stderr, then exit."""
    print(f"ssimpert: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
