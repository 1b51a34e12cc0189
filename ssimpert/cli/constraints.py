"""From command-line options to a constraint set."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from solvers.constraints import Constraint


class ConstraintName(StrEnum):
    """The sets that the command line knows."""

    GLOBAL_SSIM = "global-ssim"
    WINDOW_SSIM = "window-ssim"
    L2 = "l2"
    LINF = "linf"
    L1 = "l1"


# Which options belong to which set, and what holds where they are not given.
OPTIONS: dict[ConstraintName, dict[str, Any]] = {
    ConstraintName.GLOBAL_SSIM: {"distance": 0.005},
    ConstraintName.WINDOW_SSIM: {
        "threshold": 0.95,
        "window_size": 8,
        "stride": 8,
        "sigma": None,
        "border": "full",
        "luminance": "1e-3",
    },
    ConstraintName.L2: {"radius": 0.5},
    ConstraintName.LINF: {"radius": 2 / 255},
    ConstraintName.L1: {"radius": 50.0},
}
LP_ORDER = {ConstraintName.L2: 2.0, ConstraintName.LINF: math.inf, ConstraintName.L1: 1.0}


def build_constraint(name: ConstraintName, given: dict[str, Any]) -> Constraint:
    """The set that the options describe; ``given`` holds every option, ``None`` where it was not given.

    Raises:
        ProblemError: an option of another set, or a value out of range; the message names it.
    """
    import solvers  # here and not above: it loads torch, and --help needs none of it

    own = OPTIONS[name]
    for option, value in given.items():
        if value is not None and option not in own:
            flags = ", ".join(f"--{known.replace('_', '-')}" for known in own)
            raise solvers.ProblemError(
                f"--{option.replace('_', '-')} does not belong to {name.value}, which takes {flags}"
            )
    value = own | {option: entry for option, entry in given.items() if entry is not None}
    if name is ConstraintName.GLOBAL_SSIM:
        return solvers.GlobalSSIM(value["distance"])
    if name is ConstraintName.WINDOW_SSIM:
        window = solvers.Window(value["window_size"], value["stride"], value["border"], value["sigma"])
        return solvers.WindowSSIM(value["threshold"], window, luminance=parse_luminance(value["luminance"]))
    return solvers.LpBall(LP_ORDER[name], value["radius"])


def parse_luminance(text: str) -> float | Literal["split", "preserve"]:
    """``split``, ``preserve`` or a number."""
    if text == "split":
        return "split"
    if text == "preserve":
        return "preserve"
    from solvers.errors import ProblemError

    try:
        return float(text)
    except ValueError:
        raise ProblemError(f"--luminance must be a number, 'split' or 'preserve', got {text!r}") from None
