"""The command line: ``ssimpert --help``."""

from __future__ import annotations

import sys

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a failure named in one line, 2 wrong usage."""
    from solvers.errors import MethodError, ProblemError
    from ssimpert.cli.app import app
    from ssimpert.errors import InputError

    try:
        app()
    except (ProblemError, MethodError) as error:
        fail(str(error), WRONG_USAGE)
    except (InputError, OSError) as error:
        fail(str(error), FAILED)


def fail(message: str, code: int) -> None:
    """One line on stderr, then exit."""
    print(f"ssimpert: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
