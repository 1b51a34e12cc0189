"""The command line: ``ssimpert --help``.

Found here: the commands (``app``, ``command_group``, ``help_page``, ``perturb_command``, ``compare_command``,
``minimal_command``, ``report``, ``study``, ``study_commands``, ``study_outputs``, ``listings``, ``doctor``), their
options (``options``, ``option_groups``, ``numbers``, ``constraints``, ``feature_balls``, ``engines``, ``region``,
``class_names``), what a command is to do (``perturb_run``, ``perturb_photo``, ``minimal_run``), its photos, their
objects, and the model (``photos``, ``objects``, ``workspace``), the folder for the results (``output_folder``,
``folder_names``, ``run_record``), the way from photo to photo (``photo_loop``, ``interruption``, ``progress``), what it
writes and prints (``outputs``, ``json_output``, ``comparison``, ``recorded_results``, ``conformance``, ``tables``,
``localization_table``, ``terminal``), and with which code it ends (``exit_codes``).
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
        from ssimpert.cli.errors import UsageError
        from ssimpert.cli.interruption import Stopped
        from ssimpert.errors import InputError

        if isinstance(error, Stopped):
            fail(str(error), error.exit_code)
        if isinstance(error, UsageError) or _is_of_solvers(error):
            fail(str(error), WRONG_USAGE)
        if isinstance(error, (InputError, OSError)):
            fail(str(error), FAILED)
        raise


def _is_of_solvers(error: Exception) -> bool:
    """Whether the solvers refuse a problem or a method. The solvers load torch, and are not loaded to answer this."""
    if "solvers" not in sys.modules:
        return False
    from solvers.errors import MethodError, ProblemError

    return isinstance(error, (ProblemError, MethodError))


def fail(message: str, code: int) -> None:
    """Print ``message`` as one line on stderr, then exit with ``code``."""
    from ssimpert.escaping import printable

    print(f"ssimpert: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)
