"""The command line: ``ssimpert --help``.

Found here: the commands (``app``, ``listings``, ``doctor``, ``report``), their options (``options``, ``option_groups``,
``numbers``, ``constraints``, ``feature_balls``, ``engines``, ``region``, ``class_names``), what a command is to do
(``perturb_run``, ``perturb_photo``, ``minimal_run``), its photos, their objects, and the model (``photos``,
``objects``, ``workspace``), the folder for the results (``output_folder``, ``folder_names``, ``run_record``), the way
from photo to photo (``photo_loop``, ``interruption``, ``progress``), what it writes and prints (``outputs``,
``comparison``, ``recorded_results``, ``conformance``, ``tables``, ``localization_table``, ``terminal``), and with which
code it ends (``exit_codes``).
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
    from ssimpert.escaping import printable

    print(f"ssimpert: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)
