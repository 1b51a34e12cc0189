"""The command line: ``ssimpert --help``.

Found here: the commands (``app``, ``listings``, ``doctor``), their options (``options``, ``option_groups``,
``numbers``, ``constraints``, ``engines``, ``region``, ``class_names``), what a command is to do (``perturb_run``,
``minimal_run``), its images, model and folders (``workspace``), what it writes and prints (``outputs``,
``comparison``, ``conformance``, ``tables``, ``terminal``, ``progress``), and with which code it ends (``exit_codes``).
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. :mod:`ssimpert.cli.exit_codes` says what its exit codes mean."""
    from ssimpert.cli.app import app
    from ssimpert.cli.exit_codes import FAILED, WRONG_USAGE
    from ssimpert.cli.terminal import survive_encodings

    survive_encodings()
    try:
        app(prog_name="ssimpert")
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
    from ssimpert.escaping import printable

    print(f"ssimpert: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)
