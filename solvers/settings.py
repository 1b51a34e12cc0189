"""What a caller can set for every method: tolerances, limits, and how the iteration is watched."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from solvers.errors import ProblemError
from solvers.validation import flag, real, whole


@dataclass(frozen=True)
class Progress:
    """What a callback is given at a check.

    Attributes:
        iteration: the number of iterations so far.
        time: seconds since ``solve`` was called.
        objective, bound, rel_gap: the best certified values so far, each (B,), one per image.
    """

    iteration: int
    time: float
    objective: Tensor
    bound: Tensor
    rel_gap: Tensor


@dataclass(frozen=True)
class Settings:
    """Settings shared by all methods; an unknown name is an error.

    Attributes:
        eps_abs: absolute tolerance on the certified gap, in the objective's unit, >= 0. Default 0.
        eps_rel: relative tolerance on the certified gap, >= 0; an image is OPTIMAL once
            ``gap <= eps_abs + eps_rel * max(|objective|, |bound|)``. Default 1e-3.
        max_iter: the largest number of iterations of an iterative method, >= 1; for ``cvxpy:clarabel`` and
            ``cvxpy:scs`` per image. Other CVXPY solvers run with their own settings, because the tolerances and limits
            have other names there; their answers are judged like any other. Default 2000.
        time_limit: seconds for the whole call and batch, > 0, certificates and set-up included. A method ends up to 30%
            and 0.2 s late. An image for which there is no time keeps d = 0 and the bound of no dual. ``closed_form``
            ignores the limit; it takes milliseconds at 224x224 pixels, and seconds for GlobalSSIM at 1024x1024.
            Default: none.
        check_interval: iterations between certificates, >= 1; a CVXPY method is judged after every image. Default 25.
        verbose: whether the method prints its progress. Default False.
        callback: called with :class:`Progress` at every check; if it returns True, the method stops. Exact methods
            make no checks. Default None.
        dtype: the precision of an iterative method's iterations, ``torch.float32`` or ``torch.float64``. Exact and
            CVXPY methods and all certificates use float64. Default: the problem's dtype.
        seed: for methods that draw random numbers, >= 0. Default 0.
        force: whether a CVXPY method runs on problems above the size at which it is refused. Default False.

    Raises:
        ProblemError: a value outside its range.
    """

    eps_abs: float = 0.0
    eps_rel: float = 1e-3
    max_iter: int = 2000
    time_limit: float = math.inf
    check_interval: int = 25
    verbose: bool = False
    callback: Callable[[Progress], bool | None] | None = None
    dtype: torch.dtype | None = None
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        for name in ("eps_abs", "eps_rel", "time_limit"):
            object.__setattr__(self, name, real(f"setting {name}", getattr(self, name)))
        for name in ("eps_abs", "eps_rel"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ProblemError(f"setting {name} must be 0 or more and finite, got {value!r}")
        if self.eps_abs == 0 and self.eps_rel == 0:
            raise ProblemError("settings eps_abs and eps_rel can't both be 0: no gap would ever be small enough")
        for name in ("max_iter", "check_interval"):
            object.__setattr__(self, name, whole(f"setting {name}", getattr(self, name), minimum=1))
        object.__setattr__(self, "seed", whole("setting seed", self.seed, minimum=0))
        for name in ("verbose", "force"):
            object.__setattr__(self, name, flag(f"setting {name}", getattr(self, name)))
        if not self.time_limit > 0:
            raise ProblemError(f"setting time_limit must be positive seconds, got {self.time_limit!r}")
        if self.callback is not None and not callable(self.callback):
            raise ProblemError(f"setting callback must be callable, got {self.callback!r}")
        if self.dtype not in (None, torch.float32, torch.float64):
            raise ProblemError(f"setting dtype must be torch.float32 or torch.float64, got {self.dtype}")

    @classmethod
    def of(cls, values: Settings | dict[str, Any] | None) -> Settings:
        """Settings from settings, from a dictionary of names and values, or from ``None``, which gives the defaults.

        Raises:
            ProblemError: an unknown name (near names are listed), or a value outside its range.
        """
        if isinstance(values, cls):
            return values
        if values is None:
            return cls()
        if not isinstance(values, dict):
            raise ProblemError(f"settings must be solvers.Settings or a dict, got {type(values).__name__}")
        valid_names = [entry.name for entry in fields(cls)]
        for name in values:
            if name not in valid_names:
                near = difflib.get_close_matches(str(name), valid_names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(valid_names)}"
                raise ProblemError(f"unknown setting {name!r}; {hint}")
        return cls(**values)
