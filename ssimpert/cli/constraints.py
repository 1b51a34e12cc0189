"""From command-line options to a constraint set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from solvers.constraints import Constraint


class ConstraintName(StrEnum):
    """The sets that the command line knows."""

    GLOBAL_SSIM = "global-ssim"
    WINDOW_SSIM = "window-ssim"
    L2 = "l2"
    LINF = "linf"
    L1 = "l1"


# Sensible sizes for pixels in [0, 1] at 224x224, where --radius is not given.
DEFAULT_RADIUS = {ConstraintName.L2: 0.5, ConstraintName.LINF: 2 / 255, ConstraintName.L1: 50.0}
LP_ORDER = {ConstraintName.L2: 2.0, ConstraintName.LINF: math.inf, ConstraintName.L1: 1.0}


@dataclass(frozen=True)
class ConstraintOptions:
    """The options as given; see ``ssimpert perturb --help``."""

    name: ConstraintName
    distance: float
    threshold: float
    window_size: int
    stride: int
    sigma: float | None
    border: str
    luminance: str
    radius: float | None

    def build(self) -> Constraint:
        """The set.

        Raises:
            ProblemError: a value out of range; the message names it.
        """
        import solvers  # here and not above: it loads torch, and --help needs none of it

        if self.name is ConstraintName.GLOBAL_SSIM:
            return solvers.GlobalSSIM(self.distance)
        if self.name is ConstraintName.WINDOW_SSIM:
            window = solvers.Window(self.window_size, self.stride, self.border, self.sigma)  # type: ignore[arg-type]
            return solvers.WindowSSIM(self.threshold, window, luminance=parse_luminance(self.luminance))
        radius = self.radius if self.radius is not None else DEFAULT_RADIUS[self.name]
        return solvers.LpBall(LP_ORDER[self.name], radius)


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
