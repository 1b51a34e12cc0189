"""The import of foolbox, an optional dependency."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec

from ssimpert.errors import InputError

GIT_REFRESH_VARIABLE = "GIT_PYTHON_REFRESH"


def require_foolbox() -> None:
    """Import foolbox, so that a plain ``import foolbox`` succeeds from then on.

    foolbox's zoo of models imports GitPython, which fails where the program git is missing, unless it is told to be
    quiet.

    Raises:
        InputError: foolbox isn't installed, or does not load.
    """
    if find_spec("foolbox") is None:
        raise InputError("the lp baselines need foolbox; install it with pip install 'ssimpert[baselines]'")
    variable_before = os.environ.get(GIT_REFRESH_VARIABLE)
    os.environ[GIT_REFRESH_VARIABLE] = "quiet"
    try:
        import_module("foolbox")
    except ImportError as error:
        raise InputError(f"foolbox does not load: {error}") from error
    finally:
        if variable_before is None:
            del os.environ[GIT_REFRESH_VARIABLE]
        else:
            os.environ[GIT_REFRESH_VARIABLE] = variable_before
