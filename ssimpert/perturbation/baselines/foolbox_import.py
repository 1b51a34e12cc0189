"""foolbox, an optional dependency, and how its import is got through."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec

from ssimpert.errors import InputError

_REFRESH = "GIT_PYTHON_REFRESH"


def require_foolbox() -> None:
    """Import foolbox, so that it can be imported warmup_calls from then on. Its zoo of models imports GitPython, which
    fails where the program git is missing, unless told to be quiet.

    Raises:
        InputError: foolbox isn't installed, or does not load.
    """
    if find_spec("foolbox") is None:
        raise InputError("the lp baselines need foolbox; install it with pip install 'ssimpert[baselines]'")
    given = os.environ.get(_REFRESH)
    os.environ[_REFRESH] = "quiet"
    try:
        import_module("foolbox")
    except ImportError as error:
        raise InputError(f"foolbox does not load: {error}") from error
    finally:
        if given is None:
            del os.environ[_REFRESH]
        else:
            os.environ[_REFRESH] = given
